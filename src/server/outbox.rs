//! Replies that wait for the log: none leaves before what it tells is written, or stable.

use crate::engine::solo::Marks;
use crate::protocol::Outcome;
use crate::server::meter::Asked;
use crate::types::{Attempt, LogIndex, RequestNumber, SessionId};
use std::collections::BTreeMap;

/// A reply without what is only known when it leaves: address, stamp, lease.
#[derive(Clone, Debug)]
pub struct Draft {
    pub session: SessionId,
    pub number: RequestNumber,
    pub attempt: Attempt,
    pub is_consumed: bool,
    pub outcome: Outcome<'static>,
    /// The request at hand, if this is its answer.
    pub asked: Option<Asked>,
}

/// Drafts by the entry that they wait for. A session is told one thing at a time, so a newer
/// draft for the same entry and session takes the place of the older.
#[derive(Debug, Default)]
pub struct Outbox {
    written: BTreeMap<(LogIndex, SessionId), Draft>,
    published: BTreeMap<(LogIndex, SessionId), Draft>,
}

impl Outbox {
    /// Keeps a draft until entry `index` is written, or with `needs_stable` published.
    pub fn push(&mut self, index: LogIndex, needs_stable: bool, draft: Draft) {
        let queue = if needs_stable { &mut self.published } else { &mut self.written };
        queue.insert((index, draft.session), draft);
    }

    /// Whether a reply waits for the log to be stable.
    pub fn wants_stable(&self) -> bool {
        !self.published.is_empty()
    }

    /// How many drafts wait.
    pub fn len(&self) -> usize {
        self.written.len() + self.published.len()
    }

    /// The next draft that need not wait any longer.
    pub fn pop(&mut self, marks: Marks) -> Option<Draft> {
        let is_early = crate::mutant::is("ack_before_files");
        let done = if is_early { marks.stable } else { marks.published };
        let is_ahead = crate::mutant::is("outbox_off_by_one");
        let written = if is_ahead { marks.written.next() } else { marks.written };
        pop_through(&mut self.written, written).or_else(|| pop_through(&mut self.published, done))
    }
}

fn pop_through(
    queue: &mut BTreeMap<(LogIndex, SessionId), Draft>,
    mark: LogIndex,
) -> Option<Draft> {
    let first = queue.first_entry()?;
    (first.key().0 <= mark).then(|| first.remove())
}
