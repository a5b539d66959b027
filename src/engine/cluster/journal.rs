//! The journal of a member: the write-ahead log's entries carry what the consensus library wants
//! kept, in the order in which it wanted it. A record holds the term, the vote and what is known
//! to be committed, and entries; entries take the place of what was at their indexes and after
//! them, so a conflicting end of the log is cut by the same record that replaces it.
//!
//! A checkpoint holds the state at one applied entry, and is filed under the place in the journal
//! behind which everything newer begins.

use super::checkpoint::Head;
use super::codec::{self, Input, Malformed};
use super::log::Log;
use crate::mutant;
use crate::types::LogIndex;
use crate::wal::Pending;
use raft::eraftpb::{Entry, HardState};

/// Records are closed at this size, in bytes.
const RECORD_MAX: usize = 256 << 10;

/// Puts what is to be kept behind the journal; returns the place of each entry, in order. There is
/// at least one record.
pub fn push(
    pending: &mut Pending,
    last: &mut LogIndex,
    hard: &HardState,
    entries: &[Entry],
) -> Vec<LogIndex> {
    let mut places = Vec::with_capacity(entries.len());
    let mut rest = entries;
    loop {
        let mut size = 0;
        let fits = |entry: &&Entry| {
            size += codec::entry_len(entry);
            size <= RECORD_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (record, following) = rest.split_at(count);
        *last = last.next();
        pending.push(*last, |out| encode(hard, record, out));
        places.resize(places.len() + count, *last);
        rest = following;
        if rest.is_empty() {
            return places;
        }
    }
}

fn encode(hard: &HardState, entries: &[Entry], out: &mut Vec<u8>) {
    for number in [hard.term, hard.vote, hard.commit] {
        codec::put_u64(out, number);
    }
    codec::put_entries(out, entries);
}

fn decode(payload: &[u8]) -> Result<(HardState, Vec<Entry>), Malformed> {
    let mut input = Input(payload);
    let mut hard = HardState::default();
    (hard.term, hard.vote, hard.commit) = (input.u64()?, input.u64()?, input.u64()?);
    let entries = input.entries()?;
    input.end()?;
    Ok((hard, entries))
}

/// Reads the journal back behind a checkpoint.
pub struct Replay {
    log: Log,
    hard: HardState,
    applied: u64,
}

impl Replay {
    pub fn new(checkpoint: &Head) -> Self {
        let mut hard = HardState::default();
        (hard.term, hard.vote, hard.commit) = checkpoint.hard;
        Replay {
            log: Log::new(checkpoint.log_from, checkpoint.members.clone()),
            hard,
            applied: checkpoint.index,
        }
    }

    /// Takes in the record at `place`.
    pub fn record(&mut self, place: LogIndex, payload: &[u8]) -> Result<(), String> {
        let (hard, entries) = decode(payload).map_err(|error| error.to_string())?;
        merge(&mut self.hard, &hard);
        for entry in entries {
            let is_there = entry.index <= self.log.last() && mutant::is("conflict_kept");
            if entry.index <= self.log.before().0 || is_there {
                continue;
            }
            let (index, last) = (entry.index, self.log.last());
            if !self.log.append(entry, place) {
                return Err(format!("entry {index} of the cluster's log follows {last}"));
            }
        }
        Ok(())
    }

    /// The log as it was kept, with the term and vote.
    pub fn finish(mut self) -> Result<Log, String> {
        if self.log.last() < self.applied {
            return Err(format!("entry {} of the cluster's log is not there", self.applied));
        }
        // What is applied is committed, and no more can be than there is.
        self.hard.commit = self.hard.commit.clamp(self.applied, self.log.last());
        // A checkpoint taken over from another member may be of a newer term than any vote.
        self.hard.term = self.hard.term.max(self.log.before().1);
        self.log.set_hard(self.hard);
        Ok(self.log)
    }
}

/// Keeps what is newer. Within a term a vote is given once and never taken back.
fn merge(into: &mut HardState, newer: &HardState) {
    if newer.term > into.term {
        (into.term, into.vote) = (newer.term, newer.vote);
    } else if newer.term == into.term && newer.vote != 0 {
        into.vote = newer.vote;
    }
    into.commit = into.commit.max(newer.commit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::Storage;

    fn entry(index: u64, term: u64, size: usize) -> Entry {
        let mut entry = Entry::default();
        (entry.index, entry.term, entry.data) = (index, term, vec![7; size].into());
        entry
    }

    fn hard(term: u64, vote: u64, commit: u64) -> HardState {
        let mut hard = HardState::default();
        (hard.term, hard.vote, hard.commit) = (term, vote, commit);
        hard
    }

    /// What a journal of these records reads back as.
    fn replay(records: &[(HardState, Vec<Entry>)], from: &Head) -> Result<Log, String> {
        let mut replay = Replay::new(from);
        for (at, (hard, entries)) in records.iter().enumerate() {
            let mut payload = Vec::new();
            encode(hard, entries, &mut payload);
            replay.record(LogIndex(at as u64 + 1), &payload)?;
        }
        replay.finish()
    }

    #[test]
    fn newer_entries_take_the_place_of_a_conflicting_end() {
        let records = [
            (hard(1, 1, 0), vec![entry(1, 1, 3), entry(2, 1, 3), entry(3, 1, 3)]),
            (hard(2, 0, 1), vec![entry(2, 2, 3)]),
        ];
        let log = replay(&records, &Head::default()).unwrap();
        assert_eq!((log.last(), log.term_of(2), log.term_of(3)), (2, Some(2), None));
        assert_eq!(log.place_after(0), Some(LogIndex(1)));
        assert_eq!(log.place_after(1), Some(LogIndex(2)));
        assert_eq!(log.place_after(2), None);
        assert_eq!(log.initial_state().unwrap().hard_state, hard(2, 0, 1));
    }

    #[test]
    fn what_a_checkpoint_covers_is_passed_over_and_counts_as_committed() {
        let hard_then = (3, 2, 2);
        let checkpoint =
            Head { index: 2, term: 1, log_from: (1, 1), hard: hard_then, ..Head::default() };
        let records = [(hard(1, 1, 0), vec![entry(1, 1, 3), entry(2, 1, 3), entry(3, 1, 3)])];
        let log = replay(&records, &checkpoint).unwrap();
        assert_eq!((log.before(), log.last()), ((1, 1), 3));
        assert!(replay(&[], &checkpoint).is_err(), "an applied entry is missing");
        assert_eq!(log.initial_state().unwrap().hard_state, hard(3, 2, 2));
    }

    #[test]
    fn a_gap_is_told() {
        let records = [(hard(1, 1, 0), vec![entry(2, 1, 3)])];
        assert!(replay(&records, &Head::default()).unwrap_err().contains("follows 0"));
    }

    #[test]
    fn much_is_spread_over_records_that_fit() {
        let entries: Vec<_> = (1..=5).map(|index| entry(index, 1, RECORD_MAX / 2)).collect();
        let (mut pending, mut last) = (Pending::new(), LogIndex(4));
        let places = push(&mut pending, &mut last, &hard(1, 1, 0), &entries);
        assert_eq!(places, (5..=9).map(LogIndex).collect::<Vec<_>>());
        assert_eq!(last, LogIndex(9));
        let none = push(&mut pending, &mut last, &hard(2, 1, 0), &[]);
        assert_eq!((none.len(), last), (0, LogIndex(10)));
    }

    #[test]
    fn a_record_has_these_bytes() {
        let mut payload = Vec::new();
        encode(&hard(3, 2, 1), &[entry(4, 3, 1)], &mut payload);
        let golden = [
            3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // state
            1, 0, 0, 0, // entries
            0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, // type, term, index
            1, 0, 0, 0, 7, 0, 0, 0, 0, // command, context
        ];
        assert_eq!(payload, golden);
    }
}
