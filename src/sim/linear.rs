//! Linearizability of the lock and of each file, from what clients asked and were told alone: the
//! search of Wing and Gong as Lowe extended it, by the crate `todc-utils`. Neither it nor the
//! specifications here know anything of the server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// One call that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub client: usize,
    pub invoked: u64,
    pub completed: u64,
    pub what: What,
}

/// What it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The lock was granted under this token, ...
    Acquire(u64),
    /// ... served for an append, ...
    Append(u64),
    /// ... and was given back.
    Release(u64),
    /// A section was put behind so many bytes of the file, and so many are there now.
    Publish { before: u64, after: u64 },
    /// The file had this length.
    Read(u64),
    /// Nobody's doing: everything so far has led to this state.
    Carry(u64, bool),
}

/// A specification whose state, once nothing is under way, does not depend on the order.
trait Object: Specification<Operation = What> {
    /// What leads to this state from any other.
    fn carry(state: &Self::State) -> What;
    /// The state with this operation besides.
    fn after(state: Self::State, what: What) -> Self::State;
}

/// The lock: nobody's, or held under a token. It may be taken from a holder at any time, as its
/// lease ends, but never comes back to one: tokens rise, here by one from grant to grant.
struct Lock;

/// A file: its length.
struct File;

impl Specification for Lock {
    /// The newest token, and whether it was given back.
    type State = (u64, bool);
    type Operation = What;

    fn init() -> (u64, bool) {
        (0, true)
    }

    fn apply(what: &What, &(newest, is_free): &(u64, bool)) -> (bool, (u64, bool)) {
        match *what {
            // A holder that acquires again is told its token.
            What::Acquire(token) if token == newest && !is_free => (true, (newest, false)),
            What::Acquire(token) => (token == newest + 1, (token, false)),
            What::Append(token) => (token == newest && !is_free, (newest, is_free)),
            What::Release(token) => (token == newest && !is_free, (newest, true)),
            What::Carry(token, is_free) => (true, (token, is_free)),
            What::Publish { .. } | What::Read(_) => (false, (newest, is_free)),
        }
    }
}

impl Object for Lock {
    fn carry(&(newest, is_free): &(u64, bool)) -> What {
        What::Carry(newest, is_free)
    }

    fn after((newest, is_free): (u64, bool), what: What) -> (u64, bool) {
        match what {
            What::Acquire(token) if token > newest => (token, false),
            What::Release(token) if token >= newest => (token, true),
            _ => (newest, is_free),
        }
    }
}

impl Specification for File {
    type State = u64;
    type Operation = What;

    fn init() -> u64 {
        0
    }

    fn apply(what: &What, &length: &u64) -> (bool, u64) {
        match *what {
            What::Publish { before, after } => (before == length, after),
            What::Read(found) => (found == length, length),
            What::Carry(length, _) => (true, length),
            _ => (false, length),
        }
    }
}

impl Object for File {
    fn carry(length: &u64) -> What {
        What::Carry(*length, false)
    }

    fn after(length: u64, what: What) -> u64 {
        if let What::Publish { after, .. } = what { length.max(after) } else { length }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { client, invoked, completed, what } = self;
        write!(f, "{what:?} by {client}, {invoked} to {completed} us")
    }
}

/// Checks the history of the lock.
pub fn check_lock(operations: &[Operation]) -> Result<(), String> {
    let granted = operations.iter().filter_map(|operation| match operation.what {
        What::Acquire(token) => Some(token),
        _ => None,
    });
    // Some tokens nobody was told of; of the others, each comes after the one below it.
    let tokens: BTreeSet<u64> = granted.collect();
    let ranks: BTreeMap<u64, u64> = tokens.into_iter().zip(1..).collect();
    let rank = |token| ranks.get(&token).copied().unwrap_or(u64::MAX);
    let ranked = operations.iter().map(|operation| {
        let what = match operation.what {
            What::Acquire(token) => What::Acquire(rank(token)),
            What::Append(token) => What::Append(rank(token)),
            What::Release(token) => What::Release(rank(token)),
            other => other,
        };
        Operation { what, ..*operation }
    });
    check::<Lock>(&ranked.collect::<Vec<_>>()).map_err(|why| format!("{why}; ranks are {ranks:?}"))
}

/// Checks the history of a file.
pub fn check_file(operations: &[Operation]) -> Result<(), String> {
    check::<File>(operations)
}

/// Checks a history piece by piece: where nothing is under way, everything before comes first, and
/// the object is in the one state that `S` says. Of a piece that is not linearizable, the shortest
/// beginning that is not tells what is wrong.
fn check<S: Object>(operations: &[Operation]) -> Result<(), String> {
    let mut by_begin: Vec<_> = operations.to_vec();
    by_begin.sort_by_key(|operation| operation.invoked);
    let mut state = S::init();
    let mut from = 0;
    let mut busy_until = 0;
    for at in 0..by_begin.len() {
        if by_begin[at].invoked > busy_until && at > from {
            state = check_piece::<S>(state, &by_begin[from..at])?;
            from = at;
        }
        busy_until = busy_until.max(by_begin[at].completed);
    }
    check_piece::<S>(state, &by_begin[from..]).map(|_| ())
}

/// Checks what began in this state; returns the one that it leads to.
fn check_piece<S: Object>(state: S::State, operations: &[Operation]) -> Result<S::State, String> {
    if !is_linearizable::<S>(S::carry(&state), operations) {
        let mut by_end: Vec<_> = operations.to_vec();
        by_end.sort_by_key(|operation| operation.completed);
        let is_early = |last: &&Operation| {
            let begun = operations.iter().filter(|operation| operation.invoked <= last.completed);
            is_linearizable::<S>(S::carry(&state), &begun.copied().collect::<Vec<_>>())
        };
        let last = by_end.iter().find(|last| !is_early(last));
        let last = last.map(ToString::to_string).unwrap_or_default();
        return Err(format!("not linearizable: {last}"));
    }
    Ok(operations.iter().fold(state, |state, operation| S::after(state, operation.what)))
}

fn is_linearizable<S: Object>(before: What, operations: &[Operation]) -> bool {
    let mut actions = Vec::with_capacity(2 * operations.len() + 2);
    for (id, operation) in operations.iter().enumerate() {
        // What ends and begins at the same time went on side by side.
        actions.push((operation.invoked, 0, id, Action::Call(operation.what)));
        actions.push((operation.completed, 1, id, Action::Response(operation.what)));
    }
    actions.sort_by_key(|(at, kind, id, _)| (*at, *kind, *id));
    let first = [Action::Call(before), Action::Response(before)];
    let first = first.into_iter().map(|action| (operations.len(), action));
    let rest = actions.into_iter().map(|(_, _, id, action)| (id, action));
    let actions = first.chain(rest).collect();
    WGLChecker::<S>::is_linearizable(History::from_actions(actions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(invoked: u64, completed: u64, what: What) -> Operation {
        Operation { client: 0, invoked, completed, what }
    }

    #[test]
    fn what_overlaps_may_come_in_any_order() {
        let publish = What::Publish { before: 0, after: 5 };
        let history = [
            operation(0, 10, publish),
            operation(5, 15, What::Read(0)),
            operation(9, 20, What::Read(5)),
        ];
        assert_eq!(check_file(&history), Ok(()));
    }

    #[test]
    fn what_ended_before_is_seen() {
        let publish = operation(0, 10, What::Publish { before: 0, after: 5 });
        assert!(check_file(&[publish, operation(11, 15, What::Read(0))]).is_err());
        assert!(check_file(&[publish, operation(11, 15, What::Read(5))]).is_ok());
    }

    #[test]
    fn lock_serves_its_newest_holder_only() {
        let acquire = |at, token| operation(at, at + 1, What::Acquire(token));
        let append = |at, token| operation(at, at + 1, What::Append(token));
        let release = |at, token| operation(at, at + 1, What::Release(token));
        let good = [acquire(0, 1), append(2, 1), acquire(4, 3), append(6, 3), release(8, 3)];
        assert_eq!(check_lock(&good), Ok(()));
        let late = [acquire(0, 1), acquire(4, 3), append(6, 1)];
        assert!(check_lock(&late).unwrap_err().contains("Append(1) by"));
        assert!(check_lock(&[acquire(0, 3), acquire(4, 1)]).is_err());
        assert!(check_lock(&[acquire(0, 3), release(2, 3), append(4, 3)]).is_err());
    }
}
