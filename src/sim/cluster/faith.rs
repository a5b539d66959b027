//! The judge over votes: no member that hears a leader helps to elect another, which is what a leader
//! counts on that takes itself for the only one. It sees what a member takes in and sends, and knows
//! nothing of how it decides.

use super::Verdict;
use crate::engine::cluster::node::Tuning;
use crate::types::Millis;
use raft::eraftpb::{Message, MessageType};
use std::collections::BTreeMap;

/// What one process has heard.
#[derive(Default)]
pub struct Faith {
    /// Until when it hears a leader.
    until: Millis,
    /// Who has asked for its vote, in which term: whether it was free to give it.
    asked: BTreeMap<(u64, u64), bool>,
}

impl Faith {
    /// The member, which is in this term, takes a message in.
    pub fn hear(&mut self, message: &Message, term: u64, now: Millis) {
        let tuning = Tuning::default();
        match message.get_msg_type() {
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
                if message.term >= term =>
            {
                self.until = Millis(now.0 + tuning.tick_ms * tuning.election_ticks as u64);
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
