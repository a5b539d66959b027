//! The numbers of the system, each a type of its own so that none is taken for another.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A client's registration. Given by the server, never 0, never given twice: the boot epoch
    /// stands in its high bits ([`crate::limits::EPOCH_SHIFT`]).
    SessionId, u64
}

number! {
    /// Position of a state-changing request in its session, from 1 without gaps.
    RequestNumber, u64
}

number! {
    /// One call of a client, whether it changes state or not; rises within a session, so that
    /// an answer to an earlier call is never taken for the answer to this one.
    Attempt, u32
}

number! {
    /// What a client writes into each transmission and gets back with the answer: its own clock
    /// in microseconds. Round trips and leases are measured from it.
    Stamp, u64
}

number! {
    /// A place in a lock's first-come-first-served queue.
    Ticket, u64
}

number! {
    /// Rises with every grant of the lock, across crashes, power loss and failover. 0: none.
    FencingToken, u64
}

number! {
    /// Position of an entry in the write-ahead log, from 1 without gaps. 0: before the first.
    LogIndex, u64
}

number! {
    /// Which lock. Only lock 0, which protects all files, exists so far.
    LockId, u32
}

number! {
    /// Which data file: `FileId(7)` is `file_7`.
    FileId, u32
}

number! {
    /// A point in time or a duration, in milliseconds; which clock is said where it is used.
    Millis, u64
}

impl LogIndex {
    /// The index after this one.
    pub fn next(self) -> Self {
        LogIndex(self.0 + 1)
    }
}

impl RequestNumber {
    /// The number after this one.
    pub fn next(self) -> Self {
        RequestNumber(self.0 + 1)
    }
}

impl Attempt {
    /// Whether this call was made before the other. Attempts come round after 2^32 calls, so the
    /// nearer way counts (RFC 1982).
    pub fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
}

impl FileId {
    /// The name of the data file on the wire and in the data directory.
    pub fn name(self) -> String {
        format!("file_{}", self.0)
    }

    /// The file of that name among the first `files`; the spelling must be canonical (`file_07`
    /// is no name).
    pub fn from_name(name: &[u8], files: u32) -> Option<Self> {
        let digits = name.strip_prefix(b"file_")?;
        let canonical = !digits.is_empty()
            && digits.len() <= 10
            && digits.iter().all(u8::is_ascii_digit)
            && (digits[0] != b'0' || digits.len() == 1);
        if !canonical {
            return None;
        }
        let number = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
        (number < u64::from(files)).then_some(FileId(number as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_round() {
        assert!(Attempt(1).is_before(Attempt(2)));
        assert!(Attempt(u32::MAX).is_before(Attempt(3)));
        assert!(!Attempt(3).is_before(Attempt(u32::MAX)));
        assert!(!Attempt(7).is_before(Attempt(7)));
    }

    #[test]
    fn only_canonical_names_below_the_count_are_files() {
        assert_eq!(FileId::from_name(b"file_0", 100), Some(FileId(0)));
        assert_eq!(FileId::from_name(b"file_99", 100), Some(FileId(99)));
        for name in [
            "file_100",
            "file_",
            "file_07",
            "file_-1",
            "file_1x",
            "File_1",
            "",
            "../etc/passwd",
            "file_1/",
            "file_99999999999999999999",
            "file_4294967296",
        ] {
            assert_eq!(FileId::from_name(name.as_bytes(), 100), None, "{name}");
        }
    }
}
