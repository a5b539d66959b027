//! What a member says: where it stands, and what is to be done.

use crate::engine::cluster::members::Members;
use crate::types::Millis;
use raft::eraftpb::Message;

/// Where this member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub term: u64,
    /// The leader as far as is known, 0 if none is.
    pub leader: u64,
    /// This member leads.
    pub is_leading: bool,
}

/// Something committed, to be applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    pub term: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A command's bytes.
    Command(Vec<u8>),
    /// A leader's first entry of its term.
    Start,
    /// Who belongs to the cluster from here on.
    Members(Members),
}

/// What there is to do.
#[derive(Debug, Default)]
pub struct Output {
    pub messages: Vec<Message>,
    pub committed: Vec<Committed>,
    /// This member is the only leader until then: a quorum has said so.
    pub trusted_until: Option<Millis>,
    /// This member does not belong to the cluster any more: it is to end.
    pub is_removed: bool,
}
