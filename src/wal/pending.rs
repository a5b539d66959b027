//! Entries encoded in memory that the writer has not seen yet. No input or output, and no
//! allocation once the buffers have grown: the server fills it inside its critical section.

use super::record;
use crate::types::LogIndex;

/// Entries on their way to the writer.
#[derive(Debug, Default)]
pub struct Pending {
    bytes: Vec<u8>,
    first: LogIndex,
    last: LogIndex,
}

/// Entries taken out of [`Pending`], to be written together.
#[derive(Debug)]
pub struct Batch {
    /// Index of the first entry.
    pub first: LogIndex,
    /// Index of the last entry.
    pub last: LogIndex,
    pub(super) bytes: Vec<u8>,
}

impl Pending {
    /// Nothing pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the entry that `encode` appends to the buffer. An entry has between one byte and
    /// [`crate::limits::ENTRY_MAX`], and the index after the one pushed before it.
    pub fn push(&mut self, index: LogIndex, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.is_empty() {
            self.first = index;
        } else {
            assert!(index == self.last.next(), "entry {index} pushed after {}", self.last);
        }
        let start = self.bytes.len();
        record::begin(&mut self.bytes);
        encode(&mut self.bytes);
        record::finish(&mut self.bytes, start, index);
        self.last = index;
    }

    /// Whether nothing was pushed since the last [`Pending::take`].
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that the entries will take in the log.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes everything out; `spare` is the buffer for what is pushed from now on, best one from
    /// [`Batch::into_buffer`].
    pub fn take(&mut self, mut spare: Vec<u8>) -> Batch {
        spare.clear();
        let bytes = std::mem::replace(&mut self.bytes, spare);
        Batch { first: self.first, last: self.last, bytes }
    }
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that the entries take in the log.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The entries' payloads by index.
    pub fn entries(&self) -> impl Iterator<Item = (LogIndex, &[u8])> {
        let (mut rest, mut index) = (self.bytes.as_slice(), self.first);
        std::iter::from_fn(move || {
            let (record, behind) = rest.split_at_checked(record::extent(rest))?;
            let entry = (index, &record[record::HEADER_LEN..]);
            (rest, index) = (behind, index.next());
            Some(entry)
        })
    }

    /// Gives the buffer back, for the next [`Pending::take`].
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_round() {
        let mut pending = Pending::new();
        assert!(pending.is_empty());
        pending.push(LogIndex(3), |buf| buf.extend_from_slice(b"three"));
        pending.push(LogIndex(4), |buf| buf.extend_from_slice(b"four"));
        assert_eq!(pending.len_bytes(), 2 * record::HEADER_LEN + 9);
        let batch = pending.take(Vec::new());
        assert_eq!((batch.first, batch.last, batch.len_bytes()), (LogIndex(3), LogIndex(4), 57));
        assert!(pending.is_empty());
        let entries: Vec<_> = batch.entries().collect();
        assert_eq!(entries, [(LogIndex(3), &b"three"[..]), (LogIndex(4), b"four")]);

        let spare = batch.into_buffer();
        let place = spare.as_ptr();
        pending.push(LogIndex(5), |buf| buf.push(5));
        pending.take(spare);
        pending.push(LogIndex(6), |buf| buf.push(6));
        assert_eq!(pending.take(Vec::new()).bytes.as_ptr(), place);
    }

    #[test]
    #[should_panic(expected = "entry 6 pushed after 4")]
    fn a_gap_is_a_defect() {
        let mut pending = Pending::new();
        pending.push(LogIndex(4), |buf| buf.push(1));
        pending.push(LogIndex(6), |buf| buf.push(1));
    }

    #[test]
    #[should_panic(expected = "an entry of 0 bytes")]
    fn an_empty_entry_is_a_defect() {
        Pending::new().push(LogIndex(1), |_| {});
    }
}
