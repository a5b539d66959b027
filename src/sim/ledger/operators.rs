//! What operators were told: who holds the lock, what has happened to it, that it was taken away.

use super::{Append, Ledger, Told, Verdict};
use crate::machine::{History, Machine};
use crate::protocol::inspect::{Hash, HistoryPage, LockPage, Record, RecordKind, ServerStatus};
use crate::types::{Millis, Ticket};
use std::collections::{BTreeMap, BTreeSet};

/// Who takes it so that the lock is held by somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// The server; of a cluster, what is committed.
    All,
    /// A server that leads, in its memory: it may be ahead of what is committed, and tells so.
    Leader(usize),
}

/// What there is to be seen of the lock at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Under which it is held; 0: nobody holds it.
    pub token: u64,
    pub sessions: u64,
    pub waiters: u64,
    pub staged: u64,
    pub tickets: Vec<u64>,
}

impl Sight {
    pub fn of(machine: &Machine) -> Sight {
        let lock = machine.lock();
        Sight {
            token: lock.holder.as_ref().map_or(0, |holder| holder.token.0),
            sessions: machine.session_count() as u64,
            waiters: lock.waiting() as u64,
            staged: machine.staged_bytes(),
            tickets: lock.queue_from(Ticket(0)).map(|(ticket, _)| ticket.0).collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Operators {
    /// From when on what was to be seen, in whose view.
    sights: BTreeMap<View, Vec<(u64, Sight)>>,
    /// Tokens of which it was told that nobody holds them.
    denied: BTreeSet<u64>,
    /// Since when a holder was shown to hold the lock.
    since: BTreeMap<u64, Millis>,
    /// Who was shown to wait with which ticket, and since when.
    waiting: BTreeMap<u64, (u64, u32, Millis)>,
    /// When that was lost.
    forgotten_at: u64,
    /// The oldest record that there is.
    oldest: u64,
    /// Tokens that clients have wanted to revoke, ...
    revoking: BTreeMap<u64, Vec<usize>>,
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
        self.denied.clear();
        self.since.clear();
        self.oldest = 0;
        self.records.split_off(&(newest + 1));
        let told = self.newest.last().map_or(0, |(_, told)| *told);
        self.newest = vec![(now, told.min(newest))];
    }
}

impl Ledger {
    /// From now on this is to be seen.
    pub fn note(&mut self, view: View, sight: Sight, now: u64) -> Verdict {
        if sight == Sight::default() && view != View::All {
            self.forget_waiting(now);
        }
        let (token, sights) = (sight.token, self.operators.sights.entry(view).or_default());
        if sights.last().is_none_or(|(_, last)| *last != sight) {
            sights.push((now, sight));
        }
        if view == View::All && token > 0 && self.operators.denied.contains(&token) {
            return Err(format!("an operator was told that nobody holds {token}, but it is held"));
        }
        Ok(())
    }

    /// What was shown from a memory that is lost may come again as something else.
    pub fn forget_waiting(&mut self, now: u64) {
        self.operators.waiting.clear();
        self.operators.forgotten_at = now;
    }

    /// The history keeps its records from this one on.
    pub fn note_history(&mut self, history: &History) {
        self.operators.oldest = self.operators.oldest.max(history.oldest());
    }

    /// Whether the lock was held under this token at some time since then, in anybody's view.
    pub fn was_holder(&self, token: u64, since: u64) -> bool {
        self.was_so(since, |sight| sight.token == token)
    }

    /// Whether anybody held the lock at some time since then, in anybody's view.
    pub fn was_held(&self, since: u64) -> bool {
        self.was_so(since, |sight| sight.token > 0)
    }

    fn was_so(&self, since: u64, is_so: impl Fn(&Sight) -> bool) -> bool {
        self.operators.sights.values().any(|sights| {
            let is_later = |at: usize| sights.get(at).is_none_or(|(until, _)| *until >= since);
            let mut late = (0..sights.len()).rev().take_while(|at| is_later(at + 1));
            late.any(|at| is_so(&sights[at].1))
        })
    }

    /// Whether the lock has been held under this token all the time since then.
    pub fn is_holder_since(&self, token: u64, since: u64) -> bool {
        let Some(sights) = self.operators.sights.get(&View::All) else { return false };
        let is_its = |(_, sight): &&(u64, Sight)| sight.token == token;
        sights.iter().rev().take_while(is_its).any(|(from, _)| *from < since)
    }

    /// An operator is shown who holds the lock and who waits for it.
    /// The page begins with ticket `from`, and with the holder where that is 0.
    pub fn has_seen_lock(
        &mut self,
        from: u64,
        page: &LockPage,
        next: u64,
        invoked: u64,
    ) -> Verdict {
        let token = page.holder.as_ref().map_or(0, |holder| holder.token.0);
        let staged = page.holder.as_ref().map_or(0, |holder| holder.staged_bytes);
        let is_shown = |tickets: &[u64]| {
            let mut late = tickets.iter().filter(|ticket| **ticket >= from);
            page.waiters.iter().all(|waiter| late.next() == Some(&waiter.ticket.0))
                && late.next().copied().unwrap_or(0) == next
        };
        let is_it = |sight: &Sight| {
            let is_held = (sight.token, sight.staged) == (token, staged);
            (is_held || from > 0) && sight.waiters == page.waiting && is_shown(&sight.tickets)
        };
        if !self.was_so(invoked, is_it) {
            return Err(format!("from {from} shown {page:?}, then {next}"));
        }
        let is_kept = invoked > self.operators.forgotten_at;
        for waiter in page.waiters.iter().filter(|_| is_kept) {
            let shown = (waiter.session.0, waiter.client.pid, waiter.since_ms);
            let known = *self.operators.waiting.entry(waiter.ticket.0).or_insert(shown);
            if known != shown {
                return Err(format!("{waiter:?} was {known:?}"));
            }
        }
        if let Some(holder) = &page.holder {
            let since = *self.operators.since.entry(token).or_insert(holder.since_ms);
            let client = self.client_of(token).map_or(holder.client.pid, |id| id as u32);
            if since != holder.since_ms || client != holder.client.pid {
                return Err(format!("{token} was client {client}'s since {since}, now {holder:?}"));
            }
        }
        Ok(())
    }

    /// An operator is told how the server is.
    pub fn has_seen_status(&self, status: &ServerStatus, invoked: u64) -> Verdict {
        let told = (status.token.0, status.sessions, status.waiters, status.staged_bytes);
        let is_it =
            |sight: &Sight| (sight.token, sight.sessions, sight.waiters, sight.staged) == told;
        let ServerStatus { log_published, log_written, log_last, .. } = *status;
        let is_sound = log_published <= log_written
            && log_written <= log_last
            && status.files as usize <= self.files.len()
            && status.recorded.iter().sum::<u64>() >= status.records;
        match is_sound && self.was_so(invoked, is_it) {
            true => Ok(()),
            false => Err(format!("told {status:?}")),
        }
    }

    /// Somebody was told that nobody holds the lock under this token: it stays so.
    pub fn denied(&mut self, token: u64, invoked: u64) -> Verdict {
        if self.is_holder_since(token, invoked) {
            return Err(format!("told that nobody holds {token}"));
        }
        self.operators.denied.insert(token);
        Ok(())
    }

    /// The newest record that anybody was told of.
    pub fn newest_record(&self) -> u64 {
        self.operators.newest.last().map_or(0, |(_, newest)| *newest)
    }

    /// A client is about to take the lock away from the holder of this token.
    pub fn revoking(&mut self, client: usize, token: u64) {
        self.operators.revoking.entry(token).or_default().push(client);
    }

    /// It was told that this was not done.
    pub fn not_revoked(&mut self, client: usize, token: u64) {
        let clients = self.operators.revoking.entry(token).or_default();
        if let Some(at) = clients.iter().rposition(|one| *one == client) {
            clients.remove(at);
        }
    }

    /// Whether an operator may have taken the lock away from the holder of this token.
    pub fn may_be_revoked(&self, token: u64) -> bool {
        self.operators.revoking.contains_key(&token)
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
        next: u64,
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
        let goes_on = page.records.last().map_or(page.newest, |record| record.number) + 1;
        if next != goes_on || page.oldest > self.operators.oldest {
            return Err(format!("the history goes on at {next}, and begins at {}", page.oldest));
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
            let token = record.token.0;
            match record.kind {
                RecordKind::Revoked => {
                    revoked.insert(token);
                    self.check_revoker(&record)?;
                }
                RecordKind::Granted => {
                    let since = self.operators.since.get(&token);
                    if since.is_some_and(|since| *since != record.at_ms) {
                        return Err(format!("{token} is granted at another time than was shown"));
                    }
                }
                _ => {}
            }
            self.check_bytes(&record)?;
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

    /// It was one of the clients that wanted it and were not told that it was not done.
    fn check_revoker(&self, record: &Record) -> Verdict {
        let by = record.revocation.as_ref().map(|one| (one.client.pid as usize, &*one.reason));
        let clients = self.operators.revoking.get(&record.token.0);
        match by {
            Some((client, "stuck")) if clients.is_some_and(|all| all.contains(&client)) => Ok(()),
            _ => Err(format!("{clients:?} have revoked, recorded is {record:?}")),
        }
    }

    /// A section was given up with as much in it as its client had appended.
    fn check_bytes(&self, record: &Record) -> Verdict {
        let Some(section) = self.sections.get(&record.token.0) else { return Ok(()) };
        let is_end = match record.kind {
            RecordKind::Expired | RecordKind::Aborted | RecordKind::Revoked => true,
            RecordKind::Evicted | RecordKind::Skipped | RecordKind::Cancelled => record.token.0 > 0,
            RecordKind::Started | RecordKind::Granted | RecordKind::Released => false,
        };
        let sum = |is_meant: fn(&&Append) -> bool| -> u64 {
            section.appends.iter().filter(is_meant).map(|append| append.len as u64).sum()
        };
        let least = if self.losses.has_been() { 0 } else { sum(|one| one.told == Told::Done) };
        let most = sum(|_| true);
        if is_end && !(least..=most).contains(&record.bytes) {
            return Err(format!("record {record:?}: between {least} and {most} were appended"));
        }
        Ok(())
    }
}
