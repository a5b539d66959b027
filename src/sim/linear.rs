//! Linearizability of the lock and of each file, from what clients asked and were told alone.
//!
//! In general that is a search over all orders of what went on side by side. Here answers carry
//! their place in the order: a grant its token, a read the length of the file, a section the place
//! where it stands in the file. So one order is left, and the question is only whether it agrees
//! with the time: what ended before something else began must not stand behind it.

use std::fmt;

/// One call that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub client: usize,
    pub what: &'static str,
    pub invoked: u64,
    pub completed: u64,
    /// It saw the object at this place of its history, ...
    pub from: u64,
    /// ... and left it at this one.
    pub to: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { client, what, invoked, completed, from, to } = self;
        write!(f, "{what} by {client} ({invoked} to {completed} us, places {from} to {to})")
    }
}

/// Checks the history of one object.
pub fn check(operations: &[Operation]) -> Result<(), String> {
    let mut by_begin: Vec<_> = operations.iter().collect();
    by_begin.sort_by_key(|operation| operation.invoked);
    let mut by_end = by_begin.clone();
    by_end.sort_by_key(|operation| operation.completed);
    let mut ended = by_end.into_iter().peekable();
    let mut furthest: Option<&Operation> = None;
    for later in by_begin {
        while let Some(earlier) = ended.next_if(|earlier| earlier.completed < later.invoked) {
            if furthest.is_none_or(|furthest| earlier.to > furthest.to) {
                furthest = Some(earlier);
            }
        }
        if let Some(earlier) = furthest.filter(|earlier| earlier.to > later.from) {
            return Err(format!("not linearizable: {later} began after {earlier} had ended"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(invoked: u64, completed: u64, from: u64, to: u64) -> Operation {
        Operation { client: 0, what: "test", invoked, completed, from, to }
    }

    #[test]
    fn what_overlaps_may_come_in_any_order() {
        let history = [operation(0, 10, 0, 5), operation(5, 15, 0, 0), operation(9, 20, 5, 5)];
        assert_eq!(check(&history), Ok(()));
    }

    #[test]
    fn what_ended_before_is_seen() {
        assert!(check(&[operation(0, 10, 0, 5), operation(11, 15, 0, 0)]).is_err());
        assert!(check(&[operation(11, 15, 4, 4), operation(0, 10, 5, 5)]).is_err());
    }
}
