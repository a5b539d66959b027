//! Changes of who belongs to the cluster, in an encoding of our own: beside the library's in the
//! same entry, whose decoder must not see bytes that came over the network.

use super::codec::{self, Input};
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

/// The most changes made together.
const CHANGES_MAX: usize = 16;

/// The bytes of a change.
pub fn encode_change(change: &ConfChangeV2) -> Vec<u8> {
    let mut out = Vec::new();
    for single in &change.changes {
        out.push(match single.get_change_type() {
            ConfChangeType::AddNode => 0,
            ConfChangeType::RemoveNode => 1,
            ConfChangeType::AddLearnerNode => 2,
        });
        codec::put_u64(&mut out, single.node_id);
    }
    out
}

/// Reads a change; no bytes at all are the end of a joint one.
pub fn decode_change(bytes: &[u8]) -> Option<ConfChangeV2> {
    let mut change = ConfChangeV2::default();
    let mut input = Input(bytes);
    while !input.0.is_empty() {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(match input.u8().ok()? {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::RemoveNode,
            2 => ConfChangeType::AddLearnerNode,
            _ => return None,
        });
        single.node_id = input.u64().ok()?;
        if single.node_id == 0 || change.changes.len() == CHANGES_MAX {
            return None;
        }
        change.changes.push(single);
    }
    Some(change)
}

/// A change of one member.
pub fn single(kind: ConfChangeType, id: u64) -> ConfChangeV2 {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = id;
    let mut change = ConfChangeV2::default();
    change.changes.push(single);
    change
}
