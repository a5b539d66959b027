//! The judge over promises: what a member has told others it still knows after any crash. It sees what
//! leaves a member and what a start finds, and knows nothing of how the one becomes the other.

use super::Verdict;
use raft::eraftpb::{HardState, Message, MessageType};
use std::collections::BTreeMap;

/// What a server has promised in all its lives.
#[derive(Default)]
pub struct Promises {
    /// The newest term that a message of its spoke of.
    term: u64,
    /// To whom it has given its vote, by term.
    votes: BTreeMap<u64, u64>,
}

impl Promises {
    /// The member sends this.
    pub fn send(&mut self, message: &Message) -> Verdict {
        let Message { from, to, term, .. } = *message;
        let vote = match message.get_msg_type() {
            // Who only asks whether it would get a vote promises nothing, nor does who answers.
            MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => {
                return Ok(());
            }
            MessageType::MsgRequestVote => from,
            MessageType::MsgRequestVoteResponse if !message.reject => to,
            _ => 0,
        };
        if term < self.term {
            return Err(format!("{from} speaks of term {term}, and was in {} before", self.term));
        }
        self.term = term;
        if vote == 0 {
            return Ok(());
        }
        match *self.votes.entry(term).or_insert(vote) {
            given if given == vote => Ok(()),
            given => Err(format!("{from} votes for {vote} and for {given} in term {term}")),
        }
    }

    /// The member starts and finds this.
    pub fn check(&self, found: &HardState) -> Verdict {
        let given = self.votes.get(&found.term).copied();
        if found.term < self.term || given.is_some_and(|given| given != found.vote) {
            let HardState { term, vote, .. } = found;
            return Err(format!(
                "started with the vote {vote} in term {term}, was in {} and had given {given:?}",
                self.term
            ));
        }
        Ok(())
    }
}
