//! What an operator is shown: how the server is, who holds and who waits, what has happened.
//!
//! An answer to [`Op::Inspect`](super::Op::Inspect) is one page: a document of this module in
//! postcard's bytes (<https://postcard.jamesmunns.com/wire-format>), at most
//! [`READ_MAX`](crate::limits::READ_MAX) of them, with whole records only. A layout never changes
//! once it is released; another one gets a number of its own in [`What`].

use crate::protocol::ClientInfo;
use crate::types::{FencingToken, Millis, SessionId, Ticket};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::SocketAddrV4;

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// A [`ServerStatus`]; one page.
    Status = 1,
    /// A [`LockPage`]: waiters from a ticket on, and on the page from ticket 0 the holder.
    Lock = 2,
    /// A [`HistoryPage`]: records from a number on.
    History = 3,
    /// The manifest of a backup (docs/DISK.md), made for the session that asks: its bytes from an offset
    /// on.
    Backup = 4,
}

impl What {
    /// The document with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        let all = [What::Status, What::Lock, What::History, What::Backup];
        all.into_iter().find(|what| *what as u8 == code)
    }
}

/// How the server is. Counts are since its start unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    pub version: String,
    /// How often a server has started on this data directory.
    pub epoch: u64,
    /// The server's clock, in milliseconds since the Unix epoch.
    pub now_ms: Millis,
    pub uptime_ms: Millis,
    pub data_dir: String,
    /// `--durability sync`.
    pub is_synced: bool,
    pub lease_ms: u64,
    pub session_ttl_ms: u64,
    pub section_limit: u64,
    pub files: u32,
    /// Bytes in all data files together.
    pub published_bytes: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
    /// Bytes free on the disk when it was last looked at; `u64::MAX` when that is not known.
    pub room_bytes: u64,
    /// Indices of the log: the newest entry, and up to where it is written and published.
    pub log_last: u64,
    pub log_written: u64,
    pub log_published: u64,
    pub sessions: u64,
    pub waiters: u64,
    /// The holder's token; 0 while the lock is free.
    pub token: FencingToken,
    pub staged_bytes: u64,
    pub counters: Counters,
    /// How often each [`RecordKind`] has been recorded in the life of the data directory.
    pub recorded: [u64; RecordKind::ALL.len()],
    /// Records that are kept.
    pub records: u64,
}

/// What was counted since the start of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Well-formed requests.
    pub requests: u64,
    /// Of them, those that were answered with what they had been answered with before.
    pub repeats: u64,
    /// Of them, late duplicates that were dropped.
    pub ignored: u64,
    /// Of them, those that were refused at once.
    pub refused: u64,
    /// Datagrams that were no message.
    pub malformed: u64,
}

/// A cluster as one of its servers sees it; the answer to
/// [`Op::Cluster`](super::Op::Cluster).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// What tells the cluster from others.
    pub cluster: u64,
    /// The server that answers.
    pub server: u64,
    pub term: u64,
    /// The leader as far as the server knows; 0: none.
    pub leader: u64,
    /// Entries of the cluster's log that are committed as far as the server knows, and that it
    /// has applied.
    pub committed: u64,
    pub applied: u64,
    /// The highest number that a server has ever had.
    pub newest: u64,
    /// Servers that ask to be let in, as the leader hears them.
    pub waiting: Vec<u64>,
    pub members: Vec<MemberView>,
}

/// One server of a cluster as another one, or itself, sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    pub server: u64,
    /// Where the others reach it.
    pub addr: String,
    /// Where clients reach it; none when that is not known.
    pub clients: Option<SocketAddrV4>,
    /// It counts for a quorum; otherwise it is still learning.
    pub votes: bool,
    /// Entries that it has on stable storage, as the leader knows; none when a follower answers.
    pub log: Option<u64>,
    /// How long ago it was heard; none when not since that server began to listen.
    pub heard_ms_ago: Option<u64>,
}

/// Who holds the lock and who waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockPage {
    /// The server's clock, in milliseconds since the Unix epoch.
    pub now_ms: Millis,
    /// All who wait, on this page or not.
    pub waiting: u64,
    pub holder: Option<HolderView>,
    pub waiters: Vec<WaiterView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    pub session: SessionId,
    pub client_id: u32,
    pub client: ClientInfo,
    pub token: FencingToken,
    /// When it was granted, in milliseconds since the Unix epoch.
    pub since_ms: Millis,
    /// What is left of the lease; with nobody waiting the lock stays held beyond it.
    pub lease_left_ms: u64,
    /// It was told that its turn has come and has not been heard since.
    pub is_called: bool,
    pub staged_bytes: u64,
    /// How long ago it was heard; none when it has not been since the server started.
    pub heard_ms_ago: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterView {
    pub ticket: Ticket,
    pub session: SessionId,
    pub client_id: u32,
    pub client: ClientInfo,
    /// Since when it has waited, in milliseconds since the Unix epoch.
    pub since_ms: Millis,
    /// As in [`HolderView`].
    pub heard_ms_ago: Option<u64>,
}

/// A part of what has happened to the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The oldest record that is kept, and the newest there is; 0 before the first.
    pub oldest: u64,
    pub newest: u64,
    /// The hash of the record before the first of this page.
    pub anchor: Hash,
    pub records: Vec<Record>,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            number: 7,
            at_ms: Millis(1_700_000_000_000),
            kind: RecordKind::Revoked,
            token: FencingToken(1 << 40),
            session: SessionId(9),
            client: ClientInfo { host: "h".into(), user: "u".into(), program: "p".into(), pid: 1 },
            bytes: 12,
            revocation: Some(Revocation {
                session: SessionId(10),
                client: ClientInfo::default(),
                reason: "stuck".into(),
            }),
            hash: Hash::default(),
        }
    }

    #[test]
    fn every_field_enters_the_hash() {
        let changes: [fn(&mut Record); 12] = [
            |r| r.number += 1,
            |r| r.at_ms.0 += 1,
            |r| r.kind = RecordKind::Expired,
            |r| r.token.0 += 1,
            |r| r.session.0 += 1,
            |r| r.bytes += 1,
            |r| r.client.pid += 1,
            |r| (r.client.host, r.client.user) = ("hu".into(), String::new()),
            |r| r.revocation = None,
            |r| r.revocation.as_mut().unwrap().session.0 += 1,
            |r| r.revocation.as_mut().unwrap().client.program.push('x'),
            |r| r.revocation.as_mut().unwrap().reason.clear(),
        ];
        let previous = Hash([3; 32]);
        let hash = record().chained(previous);
        assert_ne!(hash, record().chained(Hash::default()));
        for (case, change) in changes.iter().enumerate() {
            let mut changed = record();
            change(&mut changed);
            assert_ne!(changed.chained(previous), hash, "case {case}");
        }
    }

    #[test]
    fn the_hash_of_a_record_is_what_the_documents_say() {
        // Computed with Python's hashlib from the table in docs/HISTORY.md.
        let hash = record().chained(Hash([3; 32]));
        assert_eq!(hash.to_string(), GOLDEN);
        assert_eq!(Hash::from_hex(GOLDEN), Some(hash));
        assert_eq!(Hash::from_hex(&GOLDEN[1..]), None);
        assert_eq!(Hash::from_hex(&GOLDEN.replace('9', "g")), None);
    }

    fn bytes(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn pages_have_these_bytes() {
        let page = HistoryPage {
            oldest: 1,
            newest: 300,
            anchor: Hash([5; 32]),
            records: vec![Record { hash: Hash([6; 32]), ..record() }],
        };
        let golden = bytes(&[
            &[1, 0xAC, 0x02],
            &[5; 32],
            // One record: number, time, kind, token, session.
            &[1, 7, 0x80, 0xD0, 0x95, 0xFF, 0xBC, 0x31, 7, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 9],
            b"\x01h\x01u\x01p\x01",
            // Bytes, then who revoked and why.
            &[12, 1, 10, 0, 0, 0, 0],
            b"\x05stuck",
            &[6; 32],
        ]);
        assert_eq!(postcard::to_stdvec(&page).unwrap(), golden);
        assert_eq!(postcard::from_bytes::<HistoryPage>(&golden).unwrap(), page);
        let client = record().client;
        let page = LockPage {
            now_ms: Millis(1),
            waiting: 2,
            holder: Some(HolderView {
                session: SessionId(3),
                client_id: 4,
                client: client.clone(),
                token: FencingToken(5),
                since_ms: Millis(6),
                lease_left_ms: 7,
                is_called: true,
                staged_bytes: 8,
                heard_ms_ago: None,
            }),
            waiters: vec![WaiterView {
                ticket: Ticket(9),
                session: SessionId(10),
                client_id: 11,
                client,
                since_ms: Millis(12),
                heard_ms_ago: Some(13),
            }],
        };
        let golden = bytes(&[
            &[1, 2, 1, 3, 4],
            b"\x01h\x01u\x01p\x01",
            &[5, 6, 7, 1, 8, 0, 1, 9, 10, 11],
            b"\x01h\x01u\x01p\x01",
            &[12, 1, 13],
        ]);
        assert_eq!(postcard::to_stdvec(&page).unwrap(), golden);
        assert_eq!(postcard::from_bytes::<LockPage>(&golden).unwrap(), page);
        let status = ServerStatus { version: "v".into(), sessions: 300, ..Default::default() };
        // From the epoch to the log's indices, sessions, from the waiters to the records.
        let golden = bytes(&[b"\x01v", &[0; 15], &[0xAC, 0x02], &[0; 18]]);
        assert_eq!(postcard::to_stdvec(&status).unwrap(), golden);
    }

    proptest::proptest! {
        #[test]
        fn what_is_no_page_is_refused_without_harm(bytes: Vec<u8>) {
            let _ = postcard::from_bytes::<ServerStatus>(&bytes);
            let _ = postcard::from_bytes::<LockPage>(&bytes);
            let _ = postcard::from_bytes::<HistoryPage>(&bytes);
        }
    }

    #[test]
    fn kinds_stand_at_their_numbers() {
        for (number, kind) in RecordKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        for what in [What::Status, What::Lock, What::History, What::Backup] {
            assert_eq!(What::from_code(what as u8), Some(what));
        }
        assert_eq!(What::from_code(0), None);
    }

    const GOLDEN: &str = "43010e849d28565e6fa704aed660555ed10efd80f87c3139e78e458321451d6a";
}
