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

#[derive(Debug)]
pub struct Leading {
    term: u64,
    /// What counts as the last entry before the first of this term.
    base: LogIndex,
    last: LogIndex,
    marks: Marks,
    proposals: Vec<Vec<u8>>,
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

    /// Whether somebody has to be called to take the proposals.
    pub fn poll_call(&mut self) -> bool {
        let calls = !self.proposals.is_empty() && !self.is_called && !self.has_failed;
        self.is_called |= calls;
        calls
    }

    /// What was proposed since the last time.
    pub fn take_proposals(&mut self) -> Vec<Vec<u8>> {
        self.is_called = false;
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
