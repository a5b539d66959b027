//! The judge over votes: no member that hears a leader helps to elect another, which is what a leader
//! counts on that takes itself for the only one, also when the member has been started again since. It
//! sees what a member takes in and sends, and knows nothing of how it decides.

use super::Verdict;
use crate::engine::cluster::node::Tuning;
use raft::eraftpb::{Message, MessageType};
use std::collections::BTreeMap;

/// What one member has heard.
#[derive(Default)]
pub struct Faith {
    /// Until when it hears a leader, in the world's time.
    until: u64,
    /// Who has asked for its vote, in which term: whether it was free to give it.
    asked: BTreeMap<(u64, u64), bool>,
}

impl Faith {
    /// The member, which is in this term and whose clock may be so fast, takes a message in.
    pub fn hear(&mut self, message: &Message, term: u64, now: u64, drift_ppm: u64) {
        let tuning = Tuning::default();
        match message.get_msg_type() {
            // One that tells of a state is answered when that was fetched, long after: no leader
            // counts on it.
            MessageType::MsgAppend | MessageType::MsgHeartbeat if message.term >= term => {
                let ms = tuning.tick_ms * tuning.election_ticks as u64 - ROUNDED_MS;
                self.until = now + ms * 1_000_000_000 / (1_000_000 + drift_ppm);
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                // A leader that hands over does not count on it any more.
                let is_free = now >= self.until || !message.context.is_empty();
                *self.asked.entry((message.from, message.term)).or_default() |= is_free;
            }
            _ => {}
        }
    }

    /// The member sends this.
    pub fn send(&self, message: &Message) -> Verdict {
        let is_vote = matches!(
            message.get_msg_type(),
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse
        );
        if is_vote && !message.reject && self.asked.get(&(message.to, message.term)) == Some(&false)
        {
            let Message { from, to, term, .. } = message;
            return Err(format!("{from} hears a leader, and votes for {to} in term {term}"));
        }
        Ok(())
    }
}

/// By so much its clock may err, which counts in milliseconds.
const ROUNDED_MS: u64 = 2;
