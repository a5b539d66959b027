//! What has happened to the lock: the newest records, each chained to the one
//! before by a hash. Part of the state like everything else here, so that it survives restarts
//! and is the same on every server.
//!
//! A record names sessions; how each of them described itself is kept once, for as long as a
//! record names it.

use crate::limits::HISTORY_LIMIT_DEFAULT;
use crate::mutant;
use crate::protocol::ClientInfo;
use crate::protocol::inspect::{Hash, Link, Record, RecordKind, Revocation, digest};
use crate::types::{FencingToken, Millis, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Records that are kept at most.
    limit: u32,
    /// Records that are not kept any more, ...
    dropped: u64,
    /// ... and the hash of the newest of them.
    anchor: Hash,
    entries: VecDeque<Entry>,
    clients: BTreeMap<SessionId, Described>,
    counts: [u64; RecordKind::ALL.len()],
}

/// What is to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct Happening<'a> {
    pub at_ms: Millis,
    pub kind: RecordKind,
    pub token: FencingToken,
    pub session: SessionId,
    pub client: &'a ClientInfo,
    pub bytes: u64,
    /// By whom and why.
    pub revocation: Option<(SessionId, &'a ClientInfo, &'a str)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    at_ms: Millis,
    kind: RecordKind,
    token: FencingToken,
    session: SessionId,
    bytes: u64,
    /// By whom and why; rare, and so out of the way.
    revocation: Option<Box<(SessionId, String)>>,
    hash: Hash,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Described {
    client: ClientInfo,
    digest: Hash,
    /// Records that name the session.
    uses: u64,
}

impl Default for History {
    fn default() -> Self {
        History {
            limit: HISTORY_LIMIT_DEFAULT,
            dropped: 0,
            anchor: Hash::default(),
            entries: VecDeque::new(),
            clients: BTreeMap::new(),
            counts: Default::default(),
        }
    }
}

impl History {
    /// Keeps so many records from now on.
    pub fn keep(&mut self, limit: u32) {
        self.limit = limit;
        self.drop_surplus();
    }

    /// The most records that are kept.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Adds a record, and forgets the oldest when there are too many.
    pub fn record(&mut self, happening: &Happening<'_>) {
        let client = self.describe(happening.session, happening.client);
        let by = happening
            .revocation
            .map(|(session, client, reason)| (session, self.describe(session, client), reason));
        let link = Link {
            number: self.newest() + 1,
            at_ms: happening.at_ms,
            kind: happening.kind,
            token: happening.token,
            session: happening.session,
            bytes: happening.bytes,
            client,
            revocation: by,
        };
        let is_loose = mutant::is("history_unchained");
        let hash = link.hash(if is_loose { self.anchor } else { self.head() });
        self.counts[happening.kind as usize] += 1;
        self.entries.push_back(Entry {
            at_ms: happening.at_ms,
            kind: happening.kind,
            token: happening.token,
            session: happening.session,
            bytes: happening.bytes,
            revocation: by.map(|(session, _, reason)| Box::new((session, reason.to_owned()))),
            hash,
        });
        self.drop_surplus();
    }

    /// Number of the oldest record that is kept; 0 when there is none.
    pub fn oldest(&self) -> u64 {
        if self.entries.is_empty() { 0 } else { self.dropped + 1 }
    }

    /// Number of the newest record; 0 when there is none.
    pub fn newest(&self) -> u64 {
        self.dropped + self.entries.len() as u64
    }

    /// Hash of the newest record; zeros before the first.
    pub fn head(&self) -> Hash {
        self.entries.back().map_or(self.anchor, |entry| entry.hash)
    }

    /// Records that are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sessions of which a description is kept.
    pub fn described(&self) -> usize {
        self.clients.len()
    }

    /// How often each kind has been recorded, by its number.
    pub fn counts(&self) -> &[u64; RecordKind::ALL.len()] {
        &self.counts
    }

    /// The records from this number on, or from the oldest that is kept, and the hash of the
    /// record before the first of them.
    pub fn from(&self, number: u64) -> (Hash, impl Iterator<Item = Record> + '_) {
        let at = number.saturating_sub(self.dropped + 1).min(self.entries.len() as u64) as usize;
        let anchor = match at.checked_sub(1) {
            Some(before) => self.entries[before].hash,
            None => self.anchor,
        };
        (anchor, (at..self.entries.len()).map(|at| self.at(at)))
    }

    fn at(&self, at: usize) -> Record {
        let entry = &self.entries[at];
        let client = |session| {
            let described = self.clients.get(&session);
            described.map(|described| described.client.clone()).unwrap_or_default()
        };
        Record {
            number: self.dropped + 1 + at as u64,
            at_ms: entry.at_ms,
            kind: entry.kind,
            token: entry.token,
            session: entry.session,
            client: client(entry.session),
            bytes: entry.bytes,
            revocation: entry.revocation.as_deref().map(|(session, reason)| Revocation {
                session: *session,
                client: client(*session),
                reason: reason.clone(),
            }),
            hash: entry.hash,
        }
    }

    /// Keeps the description for one record more; returns its digest.
    fn describe(&mut self, session: SessionId, client: &ClientInfo) -> Hash {
        let described = self.clients.entry(session).or_insert_with(|| Described {
            client: client.clone(),
            digest: digest(client),
            uses: 0,
        });
        described.uses += 1;
        described.digest
    }

    fn drop_surplus(&mut self) {
        while self.entries.len() > self.limit as usize
            && !mutant::is("history_unbounded")
            && let Some(entry) = self.entries.pop_front()
        {
            self.dropped += 1;
            self.anchor = entry.hash;
            self.let_go(entry.session);
            if let Some(revocation) = entry.revocation {
                self.let_go(revocation.0);
            }
        }
    }

    fn let_go(&mut self, session: SessionId) {
        if let Some(described) = self.clients.get_mut(&session) {
            described.uses -= 1;
            if described.uses == 0 && !mutant::is("description_kept") {
                self.clients.remove(&session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(history: &mut History, session: u64) {
        let client = |session| ClientInfo { pid: session as u32, ..ClientInfo::default() };
        history.record(&Happening {
            at_ms: Millis(session),
            kind: RecordKind::Granted,
            token: FencingToken(session),
            session: SessionId(session),
            client: &client(session),
            bytes: 0,
            revocation: Some((SessionId(session + 1), &client(session + 1), "why")),
        });
    }

    #[test]
    fn only_the_newest_are_kept_and_their_chain_holds() {
        let mut history = History::default();
        assert_eq!((history.oldest(), history.newest(), history.head()), (0, 0, Hash::default()));
        history.keep(100);
        (1..=105).for_each(|session| record(&mut history, session));
        assert_eq!((history.oldest(), history.newest(), history.len()), (6, 105, 100));
        // A lower limit holds at once, a higher one from then on.
        history.keep(10);
        assert_eq!((history.oldest(), history.len(), history.limit()), (96, 10, 10));
        history.keep(12);
        (106..=108).for_each(|session| record(&mut history, session));
        assert_eq!((history.oldest(), history.newest()), (97, 108));
        // One description a session, those of dropped records gone.
        assert_eq!(history.clients.len(), 13);
        let (mut previous, records) = history.from(0);
        for (number, record) in (97..).zip(records) {
            assert_eq!((record.number, record.client.pid), (number, number as u32));
            assert_eq!(record.hash, record.chained(previous));
            previous = record.hash;
        }
        assert_eq!(previous, history.head());
        assert_eq!(history.counts()[RecordKind::Granted as usize], 108);
    }

    #[test]
    fn reading_begins_at_a_number_after_the_hash_before_it() {
        let mut history = History::default();
        (1..=4).for_each(|session| record(&mut history, session));
        for (number, first) in [(0, Some(1)), (1, Some(1)), (3, Some(3)), (4, Some(4)), (5, None)] {
            let (anchor, mut records) = history.from(number);
            let record = records.next();
            assert_eq!(record.as_ref().map(|record| record.number), first);
            match record {
                Some(record) => assert_eq!(record.chained(anchor), record.hash),
                None => assert_eq!(anchor, history.head()),
            }
        }
    }
}
