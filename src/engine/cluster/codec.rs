//! The bytes of what members say to each other, and of entries in the journal: fixed fields in
//! little-endian order, then lengths and bytes. Bounds are checked here; whether a message makes
//! sense is for [`super::node`] to say. The library's own encoding is not used: its decoder must
//! never see bytes from the network.

use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("shorter or longer than its fields say")]
    Length,
    #[error("a field is out of range")]
    Field,
}

/// The kinds of message that members exchange; their place is their number on the wire.
pub(super) const KINDS: [MessageType; 9] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
];
/// The number behind the last of them.
const PRE_VOTE_RESPONSE: u8 = KINDS.len() as u8;

/// The most members of each sort that a configuration may name.
const MEMBERS_MAX: usize = 64;

/// Whether members send messages of this kind to each other.
pub fn is_for_peers(kind: MessageType) -> bool {
    KINDS.contains(&kind) || kind == MessageType::MsgRequestPreVoteResponse
}

/// Appends the bytes of a message.
pub fn encode_message(message: &Message, out: &mut Vec<u8>) {
    let kind = KINDS.iter().position(|kind| *kind == message.get_msg_type());
    out.push(kind.map_or(PRE_VOTE_RESPONSE, |kind| kind as u8));
    out.push(u8::from(message.reject));
    for number in [
        message.to,
        message.from,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.request_snapshot,
        message.reject_hint,
        message.priority as u64,
    ] {
        put_u64(out, number);
    }
    put_bytes(out, &message.context);
    put_entries(out, &message.entries);
    let snapshot = message.snapshot.as_ref().filter(|snapshot| !snapshot.is_empty());
    out.push(u8::from(snapshot.is_some()));
    if let Some(snapshot) = snapshot {
        let metadata = snapshot.get_metadata();
        put_u64(out, metadata.index);
        put_u64(out, metadata.term);
        put_conf(out, metadata.get_conf_state());
        put_bytes(out, &snapshot.data);
    }
}

/// Reads a message; it must take up all of `bytes`.
pub fn decode_message(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut input = Input(bytes);
    let mut message = Message::default();
    let kind = match input.u8()? {
        PRE_VOTE_RESPONSE => MessageType::MsgRequestPreVoteResponse,
        kind => *KINDS.get(usize::from(kind)).ok_or(Malformed::Field)?,
    };
    message.set_msg_type(kind);
    message.reject = input.bool()?;
    message.to = input.u64()?;
    message.from = input.u64()?;
    message.term = input.u64()?;
    message.log_term = input.u64()?;
    message.index = input.u64()?;
    message.commit = input.u64()?;
    message.commit_term = input.u64()?;
    message.request_snapshot = input.u64()?;
    message.reject_hint = input.u64()?;
    message.priority = input.u64()? as i64;
    message.context = input.bytes()?.to_vec().into();
    message.entries = input.entries()?.into();
    if input.bool()? {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = input.u64()?;
        metadata.term = input.u64()?;
        metadata.set_conf_state(input.conf()?);
        snapshot.data = input.bytes()?.to_vec().into();
        if snapshot.is_empty() {
            return Err(Malformed::Field);
        }
        message.set_snapshot(snapshot);
    }
    input.end().map(|()| message)
}

/// Appends a row of entries, whose indexes follow each other.
pub fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    put_u32(out, entries.len());
    for entry in entries {
        out.push(entry.get_entry_type() as u8);
        put_u64(out, entry.term);
        put_u64(out, entry.index);
        put_bytes(out, &entry.data);
        put_bytes(out, &entry.context);
    }
}

/// Bytes that an entry takes.
pub fn entry_len(entry: &Entry) -> usize {
    1 + 8 + 8 + 4 + entry.data.len() + 4 + entry.context.len()
}

/// Appends a configuration.
pub fn put_conf(out: &mut Vec<u8>, conf: &ConfState) {
    for ids in [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next] {
        put_u32(out, ids.len());
        ids.iter().for_each(|id| put_u64(out, *id));
    }
    out.push(u8::from(conf.auto_leave));
}

pub fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    // Counts and lengths of what is in memory, all far below 4 Gi.
    out.extend_from_slice(&(number as u32).to_le_bytes());
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// What is left to read.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Field),
        }
    }

    pub fn u32(&mut self) -> Result<usize, Malformed> {
        let bytes = self.take(4)?.first_chunk().ok_or(Malformed::Length)?;
        Ok(u32::from_le_bytes(*bytes) as usize)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.first_chunk().ok_or(Malformed::Length)?;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.take(len)
    }

    /// A row of entries: indexes that follow each other, terms that do not fall.
    pub fn entries(&mut self) -> Result<Vec<Entry>, Malformed> {
        let count = self.u32()?;
        // Nothing is reserved for entries that the bytes cannot hold.
        let mut entries: Vec<Entry> =
            Vec::with_capacity(count.min(self.0.len() / entry_len(&Entry::default())));
        for _ in 0..count {
            let mut entry = Entry::default();
            entry.set_entry_type(match self.u8()? {
                0 => EntryType::EntryNormal,
                1 => EntryType::EntryConfChange,
                2 => EntryType::EntryConfChangeV2,
                _ => return Err(Malformed::Field),
            });
            entry.term = self.u64()?;
            entry.index = self.u64()?;
            entry.data = self.bytes()?.to_vec().into();
            entry.context = self.bytes()?.to_vec().into();
            let fits = match entries.last() {
                Some(last) => {
                    last.index.checked_add(1) == Some(entry.index) && last.term <= entry.term
                }
                None => entry.index > 0 && entry.term > 0,
            };
            if !fits {
                return Err(Malformed::Field);
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    pub fn conf(&mut self) -> Result<ConfState, Malformed> {
        let mut conf = ConfState::default();
        let lists = [
            &mut conf.voters,
            &mut conf.learners,
            &mut conf.voters_outgoing,
            &mut conf.learners_next,
        ];
        for list in lists {
            let count = self.u32()?;
            if count > MEMBERS_MAX {
                return Err(Malformed::Field);
            }
            for _ in 0..count {
                list.push(self.u64()?);
            }
        }
        conf.auto_leave = self.bool()?;
        Ok(conf)
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Message {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.from, message.to, message.term) = (1, 2, 3);
        (message.index, message.log_term, message.commit) = (4, 5, 6);
        message.context = b"ctx".to_vec().into();
        let entry = |index, data: &[u8]| {
            let mut entry = Entry::default();
            (entry.term, entry.index, entry.data) = (3, index, data.to_vec().into());
            entry
        };
        message.entries = vec![entry(5, b"five"), entry(6, b"")].into();
        message
    }

    #[test]
    fn a_message_comes_back_and_no_cut_or_longer_one_does() {
        let mut with_snapshot = example();
        with_snapshot.set_msg_type(MessageType::MsgSnapshot);
        let snapshot = with_snapshot.mut_snapshot();
        snapshot.data = b"manifest".to_vec().into();
        (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = (9, 2);
        snapshot.mut_metadata().mut_conf_state().voters = vec![1, 2, 3];
        for message in [example(), with_snapshot] {
            let mut bytes = Vec::new();
            encode_message(&message, &mut bytes);
            assert_eq!(decode_message(&bytes), Ok(message));
            for len in 0..bytes.len() {
                assert!(decode_message(&bytes[..len]).is_err(), "cut to {len}");
            }
            bytes.push(0);
            assert_eq!(decode_message(&bytes), Err(Malformed::Length));
        }
    }

    #[test]
    fn a_message_has_these_bytes() {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgHeartbeatResponse);
        (message.to, message.from, message.term, message.reject) = (2, 1, 7, true);
        message.context = b"x".to_vec().into();
        let mut bytes = Vec::new();
        encode_message(&message, &mut bytes);
        let mut golden = vec![6, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
        golden.resize(2 + 10 * 8, 0);
        golden.extend_from_slice(&[1, 0, 0, 0, b'x', 0, 0, 0, 0, 0]);
        assert_eq!(bytes, golden);
    }

    #[test]
    fn entries_out_of_order_are_no_message() {
        let mut message = example();
        message.entries[1].index = 7;
        let mut bytes = Vec::new();
        encode_message(&message, &mut bytes);
        assert_eq!(decode_message(&bytes), Err(Malformed::Field));
        bytes[0] = 200;
        assert_eq!(decode_message(&bytes), Err(Malformed::Field));
    }
}
