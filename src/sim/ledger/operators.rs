//! What operators were told: who holds the lock, what has happened to it, that it was taken away.

use super::{Ledger, Verdict};
use crate::machine::History;
use crate::protocol::inspect::{Hash, HistoryPage, RecordKind};
use std::collections::{BTreeMap, BTreeSet};

/// Who takes it so that the lock is held by somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// The server; of a cluster, what is committed.
    All,
    /// A server that leads, in its memory: it may be ahead of what is committed, and tells so.
    Leader(usize),
}

#[derive(Debug, Default)]
pub(super) struct Operators {
    /// From when on the lock was held under which token, in whose view; 0 is none.
    holders: BTreeMap<View, Vec<(u64, u64)>>,
    /// Tokens that somebody has wanted to revoke, ...
    revoking: BTreeSet<u64>,
    /// ... and those of which it was told that it had.
    revoked: BTreeSet<u64>,
    /// Records that somebody was shown.
    records: BTreeMap<u64, Hash>,
    /// The newest record that anybody was told of, and when: those who ask later are told as much.
    newest: Vec<(u64, u64)>,
}

impl Operators {
    pub fn has_revoked(&self, token: u64) -> bool {
        self.revoked.contains(&token)
    }

    /// A power loss has left the history's records up to this one.
    pub fn take_back(&mut self, newest: u64, now: u64) {
        self.revoked.clear();
        self.records.split_off(&(newest + 1));
        let told = self.newest.last().map_or(0, |(_, told)| *told);
        self.newest = vec![(now, told.min(newest))];
    }
}

impl Ledger {
    /// From now on the lock is held under this token.
    pub fn note_holder(&mut self, view: View, token: u64, now: u64) {
        self.operators.holders.entry(view).or_default().push((now, token));
    }

    /// Whether the lock was held under this token at some time since then, in anybody's view.
    pub fn was_holder(&self, token: u64, since: u64) -> bool {
        self.was_so(since, |held| held == token)
    }

    /// Whether anybody held the lock at some time since then, in anybody's view.
    pub fn was_held(&self, since: u64) -> bool {
        self.was_so(since, |held| held > 0)
    }

    fn was_so(&self, since: u64, is_so: impl Fn(u64) -> bool) -> bool {
        self.operators.holders.values().any(|holders| {
            let is_later = |at: usize| holders.get(at).is_none_or(|(until, _)| *until >= since);
            let mut late = (0..holders.len()).rev().take_while(|at| is_later(at + 1));
            late.any(|at| is_so(holders[at].1))
        })
    }

    /// Whether the lock has been held under this token all the time since then.
    pub fn is_holder_since(&self, token: u64, since: u64) -> bool {
        let last = self.operators.holders.get(&View::All).and_then(|holders| holders.last());
        last.is_some_and(|&(from, held)| held == token && from < since)
    }

    /// The newest record that anybody was told of.
    pub fn newest_record(&self) -> u64 {
        self.operators.newest.last().map_or(0, |(_, newest)| *newest)
    }

    /// Somebody is about to take the lock away from the holder of this token.
    pub fn revoking(&mut self, token: u64) {
        self.operators.revoking.insert(token);
    }

    /// Whether an operator may have taken the lock away from the holder of this token.
    pub fn may_be_revoked(&self, token: u64) -> bool {
        self.operators.revoking.contains(&token)
    }

    /// Somebody was told that it has taken the lock away from the holder of this token.
    pub fn revoked(&mut self, token: u64) -> Verdict {
        if self.losses.has_token(token) {
            return Ok(());
        }
        self.operators.revoked.insert(token);
        let section = self.sections.get(&token);
        if section.is_some_and(|section| section.appends.iter().any(|one| one.is_published)) {
            return Err(format!("{token} was revoked, but has published"));
        }
        Ok(())
    }

    /// A page of the history is shown: its chain holds, nothing is missing, and what was shown
    /// before is still so.
    pub fn has_seen_history(
        &mut self,
        from: u64,
        page: &HistoryPage,
        invoked: u64,
        now: u64,
    ) -> Verdict {
        if self.losses.has_answer(invoked) {
            return Ok(());
        }
        let known = self.operators.newest.iter().rev().find(|(at, _)| *at < invoked);
        if known.is_some_and(|(_, newest)| *newest > page.newest) {
            return Err(format!("the history ends at {}, and went further", page.newest));
        }
        let (mut previous, mut number) = (page.anchor, from.max(page.oldest));
        for record in &page.records {
            if record.number != number || record.hash != record.chained(previous) {
                return Err(format!("the page's chain breaks at record {number}"));
            }
            (previous, number) = (record.hash, number + 1);
            if *self.operators.records.entry(record.number).or_insert(record.hash) != record.hash {
                return Err(format!("record {} is another than was shown", record.number));
            }
        }
        if page.records.is_empty() && number <= page.newest {
            return Err(format!("record {number} is not shown, and there is one"));
        }
        let newest = self.newest_record().max(page.newest);
        self.operators.newest.push((now, newest));
        Ok(())
    }

    /// In the end the history has all that was shown, and every revocation.
    pub fn check_history(&self, history: &History) -> Verdict {
        let mut revoked = BTreeSet::new();
        for record in history.from(0).1 {
            let shown = self.operators.records.get(&record.number);
            if shown.is_some_and(|hash| *hash != record.hash) {
                return Err(format!("record {} is another than was shown", record.number));
            }
            if record.kind == RecordKind::Revoked {
                revoked.insert(record.token.0);
            }
        }
        if history.newest() < self.newest_record() {
            return Err(format!("the history ends at {}", history.newest()));
        }
        match self.operators.revoked.difference(&revoked).next() {
            Some(token) if history.oldest() <= 1 => {
                Err(format!("the history does not know that {token} was revoked"))
            }
            _ => Ok(()),
        }
    }
}
