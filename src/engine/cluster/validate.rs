//! What the consensus library must not be given. It ends the process on input that no correct
//! member sends, so everything of that sort is turned away before.

use super::checkpoint::Head;
use super::codec;
use super::log::Log;
use raft::eraftpb::{Message, MessageType};
use raft::{RawNode, StateRole};

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("not a message for this member")]
    Address,
    #[error("a kind of message that members do not send")]
    Kind,
    #[error("its entries do not follow each other, or are of a newer term than it is")]
    Entries,
    #[error(
        "it contradicts what is known here: this member or the other has lost what it had \
         acknowledged (is a disk an older copy?), or they are not of the same cluster. A server that \
         has lost something must not stay: add one with a new number and remove it"
    )]
    Contradiction,
    #[error("the state that it brings cannot be read, or is not the one that it says")]
    State,
    #[error("it says something about entries or terms that there cannot be")]
    Beyond,
    #[error("{0}")]
    Library(String),
}

/// Checks a message against what this member knows.
pub fn validate(node: &RawNode<Log>, message: &Message) -> Result<(), Rejected> {
    let raft = &node.raft;
    if message.to != raft.id || message.from == raft.id || message.from == 0 || message.term == 0 {
        return Err(Rejected::Address);
    }
    if message.term > NUMBER_MAX {
        return Err(Rejected::Beyond);
    }
    let kind = message.get_msg_type();
    if !codec::is_for_peers(kind) {
        return Err(Rejected::Kind);
    }
    let last = raft.raft_log.last_index();
    match kind {
        MessageType::MsgAppend => {
            let mut before = (message.index, message.log_term);
            // The library takes an entry that there is not for one of term 0.
            if (before.0 == 0) != (before.1 == 0) || before.1 > message.term {
                return Err(Rejected::Entries);
            }
            for entry in &message.entries {
                let follows =
                    before.0.checked_add(1) == Some(entry.index) && entry.term >= before.1;
                if !follows || entry.term > message.term {
                    return Err(Rejected::Entries);
                }
                before = (entry.index, entry.term);
            }
        }
        // A leader never tells a member that it has committed more than the member has said it has.
        MessageType::MsgHeartbeat if message.commit > last && message.term >= raft.term => {
            return Err(Rejected::Contradiction);
        }
        MessageType::MsgAppendResponse
            if raft.state == StateRole::Leader
                && message.term == raft.term
                && !message.reject
                && message.index > last =>
        {
            return Err(Rejected::Beyond);
        }
        // It asks for votes when all that it has is stable.
        MessageType::MsgRequestVoteResponse
            if raft.state == StateRole::Candidate && raft.raft_log.persisted < last =>
        {
            return Err(Rejected::Beyond);
        }
        MessageType::MsgSnapshot => {
            let metadata = message.get_snapshot().get_metadata();
            let is_member = metadata.get_conf_state().voters.contains(&raft.id)
                || metadata.get_conf_state().learners.contains(&raft.id);
            let is_right = (1..=NUMBER_MAX).contains(&metadata.index)
                && (1..=message.term).contains(&metadata.term);
            if !is_right || !is_member {
                return Err(Rejected::Entries);
            }
            let is_same = |head: Head| {
                (head.index, head.term) == (metadata.index, metadata.term)
                    && head.members.is_as(metadata.get_conf_state())
            };
            if !Head::read(&message.get_snapshot().data).is_ok_and(is_same) {
                return Err(Rejected::State);
            }
        }
        _ => {}
    }
    // What no request of this member names is between the requester and itself.
    if message.request_snapshot != 0 {
        return Err(Rejected::Kind);
    }
    Ok(())
}

/// No cluster gets to a term or an entry of this number.
const NUMBER_MAX: u64 = 1 << 62;
