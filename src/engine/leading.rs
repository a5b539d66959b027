//! The leader of a cluster: a command has its place in the log as soon as it is proposed, since
//! the leader alone appends, and what it caused is told when a quorum has it.
//!
//! The same bookkeeping as [`super::solo`], without a disk of its own: what is proposed is handed
//! to whoever drives the member ([`super::cluster::node`]), and progress comes back. Entries are
//! counted from the start of this term; the cluster's log may have others in between.

use super::solo::{Marks, encode};
use crate::machine::Command;
use crate::mutant;
use crate::types::{LogIndex, Millis};

/// How long a command waits for another that somebody waits for.
const PATIENCE_MS: u64 = 5;

#[derive(Debug)]
pub struct Leading {
    term: u64,
    /// What counts as the last entry before the first of this term.
    base: LogIndex,
    last: LogIndex,
    marks: Marks,
    proposals: Vec<Vec<u8>>,
    /// The proposals are to be taken from then on; 0: somebody waits for them.
    due: Millis,
    /// Whoever takes the proposals has been called.
    is_called: bool,
    /// Until then no other member leads.
    trusted_until: Millis,
    has_failed: bool,
}

impl Leading {
    /// Leads in `term` from a state of which all is committed.
    pub fn new(term: u64, base: LogIndex, trusted_until: Millis) -> Self {
        let marks = Marks { written: base, stable: base, published: base };
        Leading {
            term,
            base,
            last: base,
            marks,
            proposals: Vec::new(),
            due: Millis(u64::MAX),
            is_called: false,
            trusted_until,
            has_failed: false,
        }
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    pub fn marks(&self) -> Marks {
        self.marks
    }

    pub fn last(&self) -> LogIndex {
        self.last
    }

    pub fn fail(&mut self) {
        self.has_failed = true;
    }

    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether this is the only leader now.
    pub fn is_trusted(&self, now: Millis) -> bool {
        now < self.trusted_until || mutant::is("serves_untrusted")
    }

    pub fn handle_trusted(&mut self, until: Millis) {
        self.trusted_until = self.trusted_until.max(until);
    }

    /// Gives the command its place.
    pub fn propose(&mut self, command: &Command) -> LogIndex {
        self.last = self.last.next();
        let mut bytes = Vec::with_capacity(128);
        encode(command, &mut bytes);
        self.proposals.push(bytes);
        if mutant::is("ack_before_quorum") {
            self.marks = Marks { written: self.last, stable: self.last, published: self.last };
        }
        self.last
    }

    /// Says whether somebody waits for the last proposal. One that nobody waits for goes with the next
    /// that somebody does, or after a while: its sync would only be in the way of theirs.
    pub fn hurry(&mut self, now: Millis, is_waited_for: bool) {
        let due = if is_waited_for { Millis(0) } else { Millis(now.0 + PATIENCE_MS) };
        self.due = self.due.min(due);
    }

    /// Whether somebody has to be called to take the proposals.
    pub fn poll_call(&mut self) -> bool {
        let calls = self.due == Millis(0) && !self.is_called && !self.has_failed;
        self.is_called |= calls;
        calls
    }

    /// What was proposed since the last time, if it is due.
    pub fn take_proposals(&mut self, now: Millis) -> Vec<Vec<u8>> {
        if now < self.due {
            return Vec::new();
        }
        (self.is_called, self.due) = (false, Millis(u64::MAX));
        std::mem::take(&mut self.proposals)
    }

    /// A quorum has this many commands of this term.
    pub fn handle_committed(&mut self, count: u64) {
        let through = LogIndex(self.base.0 + count);
        assert!(through <= self.last, "{through} committed of {}", self.last);
        self.marks.written = self.marks.written.max(through);
        self.marks.stable = self.marks.written;
    }

    /// For a planted bug: takes everything for committed.
    #[cfg(feature = "mutants")]
    pub fn handle_all(&mut self) {
        self.handle_published(self.last.0 - self.base.0);
    }

    /// This many of them are applied, and what they publish is in this member's data files.
    pub fn handle_published(&mut self, count: u64) {
        self.handle_committed(count);
        self.marks.published = self.marks.published.max(LogIndex(self.base.0 + count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Change;

    fn propose(leading: &mut Leading, now: u64, is_waited_for: bool) {
        let change = Change::Boot { epoch: 1, files: 1, records: 100, lease_ms: 1_000 };
        leading.propose(&Command { now_ms: Millis(0), skip: Vec::new(), change });
        leading.hurry(Millis(now), is_waited_for);
    }

    #[test]
    fn what_nobody_waits_for_goes_with_the_next_that_somebody_does_or_after_a_while() {
        let mut leading = Leading::new(1, LogIndex(0), Millis(0));
        propose(&mut leading, 100, false);
        assert!(!leading.poll_call());
        assert_eq!(leading.take_proposals(Millis(100)).len(), 0);
        propose(&mut leading, 101, true);
        assert!(leading.poll_call());
        assert_eq!(leading.take_proposals(Millis(101)).len(), 2);
        propose(&mut leading, 102, false);
        propose(&mut leading, 103, false);
        assert_eq!(leading.take_proposals(Millis(101 + PATIENCE_MS)).len(), 0);
        assert_eq!(leading.take_proposals(Millis(102 + PATIENCE_MS)).len(), 2);
        assert!(!leading.poll_call());
    }
}
