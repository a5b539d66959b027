//! What happens to the lock, one record each, chained by hashes (docs/HISTORY.md).

use crate::protocol::ClientInfo;
use crate::types::{FencingToken, Millis, SessionId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// One thing that happened to the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// From 1 without gaps.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch by the server's clock.
    pub at_ms: Millis,
    pub kind: RecordKind,
    /// Under which token; 0 where there is none.
    pub token: FencingToken,
    /// Whom it happened to; 0 in [`RecordKind::Started`].
    pub session: SessionId,
    pub client: ClientInfo,
    /// Bytes published by a release, discarded by anything else.
    pub bytes: u64,
    pub revocation: Option<Revocation>,
    /// Over the hash of the record before and everything above ([`Record::chained`]).
    pub hash: Hash,
}

impl Record {
    /// The hash that this record has if it follows the one with hash `previous`.
    pub fn chained(&self, previous: Hash) -> Hash {
        let revocation = self.revocation.as_ref();
        let link = Link {
            number: self.number,
            at_ms: self.at_ms,
            kind: self.kind,
            token: self.token,
            session: self.session,
            bytes: self.bytes,
            client: digest(&self.client),
            revocation: revocation.map(|by| (by.session, digest(&by.client), by.reason.as_str())),
        };
        link.hash(previous)
    }
}

/// By whom and why the lock was taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub session: SessionId,
    pub client: ClientInfo,
    pub reason: String,
}

/// What happened. The numbers are part of the hash: never reused, never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum RecordKind {
    /// The server started.
    Started = 0,
    /// The lock was given.
    Granted = 1,
    /// Given back, by release or close, and the section published.
    Released = 2,
    /// Given back and the section discarded.
    Aborted = 3,
    /// Given back by a client that had not seen the grant: it had stopped waiting.
    Cancelled = 4,
    /// Taken by time.
    Expired = 5,
    /// A waiter was silent when its turn came: with a token after it had been called, without
    /// one when it was known to be silent before.
    Skipped = 6,
    /// Taken by an operator.
    Revoked = 7,
    /// The session of the holder, or of a waiter, could not go on and was ended.
    Evicted = 8,
}

impl RecordKind {
    /// Every kind, by number.
    pub const ALL: [RecordKind; 9] = [
        RecordKind::Started,
        RecordKind::Granted,
        RecordKind::Released,
        RecordKind::Aborted,
        RecordKind::Cancelled,
        RecordKind::Expired,
        RecordKind::Skipped,
        RecordKind::Revoked,
        RecordKind::Evicted,
    ];

    /// The word for it in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            RecordKind::Started => "started",
            RecordKind::Granted => "granted",
            RecordKind::Released => "released",
            RecordKind::Aborted => "aborted",
            RecordKind::Cancelled => "cancelled",
            RecordKind::Expired => "expired",
            RecordKind::Skipped => "skipped",
            RecordKind::Revoked => "revoked",
            RecordKind::Evicted => "evicted",
        }
    }
}

/// A SHA-256 (FIPS 180-4). The crate `sha2` is the reference in Rust, and uses the processor's
/// instructions for it where there are any: two records of a section cost well below a
/// microsecond.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash that 64 hexadecimal digits name.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() == 64)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (pair[0] * 16 + pair[1]) as u8;
        }
        Some(Hash(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The part of a record that differs from one to the next; the descriptions of clients enter the
/// hash by their own digests, so that the server hashes each of them once.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    pub number: u64,
    pub at_ms: Millis,
    pub kind: RecordKind,
    pub token: FencingToken,
    pub session: SessionId,
    pub bytes: u64,
    pub client: Hash,
    /// Who revoked, the digest of its description, and why.
    pub revocation: Option<(SessionId, Hash, &'a str)>,
}

impl Link<'_> {
    /// The hash of the record that follows the one with hash `previous`.
    pub fn hash(&self, previous: Hash) -> Hash {
        let numbers =
            [self.number, self.at_ms.0, self.kind as u64, self.token.0, self.session.0, self.bytes];
        // Back to back first: to hash them one by one takes longer.
        let mut bytes = [0; 112];
        bytes[..32].copy_from_slice(&previous.0);
        for (place, number) in bytes[32..80].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[80..].copy_from_slice(&self.client.0);
        let mut sha = Sha256::new();
        sha.update(bytes);
        if let Some((by, client, reason)) = &self.revocation {
            sha.update(by.0.to_le_bytes());
            sha.update(client.0);
            sha.update(reason.as_bytes());
        }
        Hash(sha.finalize().into())
    }
}

/// The digest of a client's description.
pub fn digest(client: &ClientInfo) -> Hash {
    let mut sha = Sha256::new();
    for text in [&client.host, &client.user, &client.program] {
        sha.update((text.len() as u64).to_le_bytes());
        sha.update(text.as_bytes());
    }
    sha.update(client.pid.to_le_bytes());
    Hash(sha.finalize().into())
}
