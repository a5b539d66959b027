//! What goes into the journal, and what waits until it is stable there.

use super::{Node, Output};
use crate::engine::cluster::journal;
use crate::mutant;
use crate::types::LogIndex;
use crate::wal::Batch;
use raft::eraftpb::{Entry, HardState, Message};

/// Messages that wait for the journal.
#[derive(Debug)]
pub(super) struct Unsaved {
    pub(super) number: u64,
    /// What of the journal must be stable; none if nothing of it.
    pub(super) place: Option<LogIndex>,
    pub(super) messages: Vec<Message>,
}

impl Node {
    /// Puts these behind what the journal has, and into the log.
    pub(super) fn keep(&mut self, hard: &HardState, entries: Vec<Entry>) {
        let places = journal::push(&mut self.pending, &mut self.journal, hard, &entries);
        let log = self.raw.mut_store();
        for (entry, place) in entries.into_iter().zip(places) {
            assert!(log.append(entry, place), "the library appends behind what there is");
        }
    }

    /// The next entries for the journal, if none are under way.
    pub fn poll_save(&mut self) -> Option<Batch> {
        if self.is_saving || self.pending.is_empty() {
            return None;
        }
        self.is_saving = true;
        Some(self.pending.take(std::mem::take(&mut self.spare)))
    }

    /// Entries for the journal are on stable storage.
    pub fn handle_saved(&mut self, batch: Batch, out: &mut Output) {
        self.is_saving = false;
        self.saved = if mutant::is("saved_ahead") { self.journal } else { batch.last };
        self.spare = batch.into_buffer();
        self.release(out);
        self.poll(out);
    }

    /// Lets go of the messages whose promises are kept.
    pub(super) fn release(&mut self, out: &mut Output) {
        let mut through = None;
        while let Some(first) = self.unsaved.front()
            && (first.place.is_none_or(|place| place <= self.saved)
                || mutant::is("promise_unsaved"))
        {
            through = Some(first.number);
            if let Some(unsaved) = self.unsaved.pop_front() {
                out.messages.extend(unsaved.messages);
            }
        }
        if let Some(number) = through {
            self.raw.on_persist_ready(number);
            self.handle_applied(0);
        }
    }

    /// How far the journal is stable.
    pub fn saved(&self) -> LogIndex {
        self.saved
    }
}
