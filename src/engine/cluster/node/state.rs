//! The state in place of the entries before it: a checkpoint of its own that a member keeps and
//! offers, and one of another member that it takes over.

use super::Node;
use crate::engine::cluster::checkpoint::Head;
use crate::engine::cluster::validate::validate;
use crate::mutant;
use crate::types::LogIndex;
use raft::eraftpb::{Entry, Message, Snapshot};
use raft::{ProgressState, SnapshotStatus};
use std::collections::VecDeque;

impl Node {
    /// There is a durable checkpoint, for members that lack entries which are gone.
    pub fn offer(&mut self, head: &Head) {
        let Ok(data) = head.encode() else { return };
        let mut snapshot = Snapshot { data: data.into(), ..Snapshot::default() };
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (head.index, head.term);
        metadata.set_conf_state(head.members.to_conf());
        self.raw.mut_store().set_snapshot(snapshot);
    }

    /// Has snapshots sent again to members that have not taken theirs: it may have been lost.
    pub(super) fn offer_again(&mut self) {
        let is_waiting = |(id, progress): (&u64, &raft::Progress)| match progress.state
            == ProgressState::Snapshot
        {
            true => Some(*id),
            false => None,
        };
        let waiting: Vec<u64> = self.raw.raft.prs().iter().filter_map(is_waiting).collect();
        for id in waiting {
            self.raw.report_snapshot(id, SnapshotStatus::Failure);
        }
    }

    /// Whether this member needs the state that this message tells of. It is to be fetched and made
    /// durable, data files and all, before the message is given to [`Node::handle_message`].
    pub fn needs_state(&self, message: &Message) -> bool {
        let Some(snapshot) = message.snapshot.as_ref() else { return false };
        let (raft, metadata) = (&self.raw.raft, snapshot.get_metadata());
        validate(&self.raw, message).is_ok()
            && message.term >= raft.term
            && metadata.index > raft.raft_log.committed
            // Else it has the entry, and only does not know that it is committed: the library finds
            // that.
            && self.log().term_of(metadata.index) != Some(metadata.term)
    }

    /// Completes a checkpoint, of what has been applied here or of a state that is taken over; where
    /// it belongs in the journal, of which nothing before that place is counted on any more. Some
    /// entries before the state stay, for members that lag.
    pub fn place_checkpoint(&mut self, head: &mut Head) -> LogIndex {
        let (log, hard) = (self.raw.store(), self.raw.raft.hard_state());
        let (index, term) = (head.index, head.term);
        let vote = if mutant::is("checkpoint_forgets_vote") { 0 } else { hard.vote };
        head.hard = (hard.term, vote, hard.commit.max(index));
        head.log_from = (index, term);
        let place = if log.term_of(index) == Some(term) {
            // The log may have got there beside a state that was taken over, and not be stable yet:
            // then it begins behind the state, which does not need it.
            let is_saved = log.place_after(index - 1).is_none_or(|place| place <= self.saved);
            let tail = if is_saved { self.tuning.tail_bytes } else { 0 };
            let from = log.tail_from(index, tail, self.given_up);
            head.log_from = (from, log.term_of(from).unwrap_or_default());
            let place = log.place_after(from).map_or(self.journal, |place| LogIndex(place.0 - 1));
            place.min(self.saved)
        } else {
            // Behind all that was put there so far: none of it counts any more.
            self.journal
        };
        self.given_up = self.given_up.max(place);
        if mutant::is("journal_cut_early") { self.saved } else { place }
    }

    /// This checkpoint is durable: the entries that it covers, which are not needed here any more.
    pub fn compact(&mut self, head: &Head) -> VecDeque<Entry> {
        // The library goes on from what it takes for applied, which may wait for the journal yet.
        let applied = self.raw.raft.raft_log.applied;
        self.raw.mut_store().compact(head.log_from.0.min(applied))
    }

    /// A state was taken over, and the journal does not say so yet. Until then the library looks for
    /// the entries before it when it is to stand for election.
    pub(super) fn is_settling(&self) -> bool {
        self.log().before().0 > self.raw.raft.raft_log.applied && !mutant::is("elects_unsettled")
    }
}
