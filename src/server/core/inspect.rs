//! What the core tells an operator: pages of [`crate::protocol::inspect`]. A page costs what it
//! shows, however many wait or however much has happened.
//!
//! What the server knows now is told at once, also while the disk is slow or full. The history is
//! told only as far as it is stable: what an operator has seen of it no crash takes back.

use super::{Action, Core, Now, direct};
use crate::limits::READ_MAX;
use crate::mutant;
use crate::protocol::inspect::{HistoryPage, HolderView, LockPage, ServerStatus, WaiterView, What};
use crate::protocol::{Outcome, Reply, Request};
use crate::server::meter::Meter;
use crate::types::{LogIndex, Millis, SessionId, Ticket};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The answer to an `Inspect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// To be completed with what is known outside of the core, then encoded.
    Status(Box<ServerStatus>),
    /// The document's bytes, and from where the next page goes on.
    Whole { next: u64, bytes: Vec<u8> },
    /// Bytes of the manifest that is made for the session, outside of the core.
    Backup { from: u64 },
}

/// Pages of history that wait until they are stable: one a session at most.
#[derive(Debug, Default)]
pub(super) struct Held {
    pages: BTreeMap<SessionId, (LogIndex, SocketAddr, Reply<'static>, Page)>,
}

impl Core {
    /// Answers a request to look at something.
    pub(super) fn inspect(
        &mut self,
        to: SocketAddr,
        request: &Request<'_>,
        what: What,
        from: u64,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let reply = direct(request, Outcome::Data { length: 0, data: &[] });
        match what {
            What::Status => {
                let page = Page::Status(Box::new(self.status(now)));
                actions.push(Action::Inspect { to, reply, page });
            }
            What::Lock => {
                let page = self.lock_page(from, now);
                actions.push(Action::Inspect { to, reply, page });
            }
            What::Backup => {
                actions.push(Action::Inspect { to, reply, page: Page::Backup { from } });
            }
            What::History => {
                let is_early = mutant::is("history_told_early");
                let index = if is_early { LogIndex(0) } else { self.engine.last() };
                self.held.hold(index, to, reply, self.history_page(from));
            }
        }
    }

    /// Sends the held pages that are stable by now.
    pub(super) fn flush_held(&mut self, actions: &mut Vec<Action>) {
        let published = self.engine.marks().published;
        if self.held.is_empty() {
            return;
        }
        self.held.pages.retain(|_, (index, to, reply, page)| {
            let is_kept = *index > published;
            if !is_kept {
                actions.push(Action::Inspect { to: *to, reply: reply.clone(), page: page.clone() });
            }
            is_kept
        });
    }

    /// How the server is, as far as the core knows.
    pub fn status(&self, now: Now) -> ServerStatus {
        let (lock, history) = (self.machine.lock(), self.machine.history());
        ServerStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            epoch: self.machine.epoch(),
            now_ms: now.unix,
            uptime_ms: now.steady,
            is_synced: self.settings.syncs,
            lease_ms: self.watch.lease(),
            session_ttl_ms: self.settings.session_ttl_ms,
            section_limit: self.settings.section_limit,
            files: self.machine.files(),
            room_bytes: self.room,
            log_last: self.engine.last().0,
            log_written: self.engine.marks().written.0,
            log_published: self.engine.marks().published.0,
            sessions: self.machine.session_count() as u64,
            waiters: lock.waiting() as u64 + u64::from(mutant::is("status_counts_holder")),
            token: lock.holder.as_ref().map(|holder| holder.token).unwrap_or_default(),
            staged_bytes: self.machine.staged_bytes(),
            counters: self.counters,
            recorded: *history.counts(),
            records: history.len() as u64,
            ..ServerStatus::default()
        }
    }

    /// What is measured.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    fn lock_page(&self, from: u64, now: Now) -> Page {
        let (page, next) = self.lock_view(from, now, READ_MAX);
        whole(next, &page)
    }

    /// The queue from this ticket on, as much as fits into so many bytes, and the ticket to go on
    /// with, 0 at the end; from the beginning also the holder.
    pub fn lock_view(&self, from: u64, now: Now, room: usize) -> (LockPage, u64) {
        let lock = self.machine.lock();
        let mut page = LockPage {
            now_ms: now.unix,
            waiting: lock.waiting() as u64,
            holder: if from == 0 { self.holder_view(now.steady) } else { None },
            waiters: Vec::new(),
        };
        let mut room = room.saturating_sub(length(&page) + COUNT_GROWTH);
        let mut next = 0;
        for (ticket, waiter) in lock.queue_from(Ticket(from)) {
            let Some(session) = self.machine.session(waiter.session) else { continue };
            let view = WaiterView {
                ticket,
                session: waiter.session,
                client_id: session.client_id,
                client: session.client.clone(),
                since_ms: waiter.since_ms,
                heard_ms_ago: self.watch.heard_ms_ago(waiter.session, now.steady),
            };
            if !fits(&view, &mut room) {
                next = ticket.0 + u64::from(mutant::is("queue_page_skips"));
                break;
            }
            page.waiters.push(view);
            if mutant::is("waiters_backwards") {
                page.waiters.reverse();
            }
        }
        (page, next)
    }

    fn holder_view(&self, now: Millis) -> Option<HolderView> {
        let holder = self.machine.lock().holder.as_ref()?;
        let session = self.machine.session(holder.session)?;
        let (lease_left_ms, is_called) = self.watch.hold_left(now);
        Some(HolderView {
            session: holder.session,
            client_id: session.client_id,
            client: session.client.clone(),
            token: holder.token,
            since_ms: if mutant::is("held_since_now") {
                self.machine.now_ms()
            } else {
                holder.since_ms
            },
            lease_left_ms,
            is_called,
            staged_bytes: holder.section.bytes(),
            heard_ms_ago: self.watch.heard_ms_ago(holder.session, now),
        })
    }

    fn history_page(&self, from: u64) -> Page {
        let (page, next) = self.history_view(from, READ_MAX);
        whole(next, &page)
    }

    /// The records from this number on, as many as fit into so many bytes, and the number to go
    /// on with. Not before the newest entry is stable may any of it be told.
    pub fn history_view(&self, from: u64, room: usize) -> (HistoryPage, u64) {
        let history = self.machine.history();
        let (anchor, records) = history.from(from);
        let mut page = HistoryPage {
            oldest: history.oldest(),
            newest: history.newest(),
            anchor,
            records: Vec::new(),
        };
        let mut room = room.saturating_sub(length(&page) + COUNT_GROWTH);
        page.records.extend(records.take_while(|record| fits(record, &mut room)));
        // Where nothing is left, the next page begins with what is recorded next.
        let skipped = 1 + u64::from(mutant::is("history_page_skips"));
        let next = page.records.last().map_or(page.newest, |record| record.number) + skipped;
        (page, next)
    }
}

impl Held {
    /// Keeps a page until entry `index` is published. A repetition of the same request gets the
    /// page that is held already: a newer one would have to wait longer.
    fn hold(&mut self, index: LogIndex, to: SocketAddr, reply: Reply<'static>, page: Page) {
        match self.pages.get_mut(&reply.session) {
            Some((_, addr, held, _)) if held.attempt == reply.attempt => {
                *addr = to;
                held.stamp = reply.stamp;
            }
            _ => {
                self.pages.insert(reply.session, (index, to, reply, page));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.pages.remove(&session);
    }
}

/// A page with its length; the longest holds one record of the longest texts.
fn whole(next: u64, page: &impl Serialize) -> Page {
    Page::Whole { next, bytes: encode(page) }
}

/// The bytes of a document.
pub fn encode(document: &impl Serialize) -> Vec<u8> {
    // Fails only for types whose length is not known before; no document has one.
    let bytes = postcard::to_stdvec(document).expect("a document can always be encoded");
    assert!(bytes.len() <= READ_MAX, "a page holds whole records that fit");
    bytes
}

fn length(document: &impl Serialize) -> usize {
    postcard::experimental::serialized_size(document).unwrap_or(READ_MAX)
}

fn fits(record: &impl Serialize, room: &mut usize) -> bool {
    match room.checked_sub(length(record)) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}

/// What the length of a list grows by beyond the one byte it has while it is empty.
const COUNT_GROWTH: usize = 2;
