//! The lock: who holds it, who waits, and what the holder has staged.

use super::bytes::Whole;
use crate::mutant;
use crate::types::{Attempt, FencingToken, FileId, Millis, SessionId, Ticket};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// With up to this many waiters ahead, or behind, the position is counted; between them it is an upper
/// bound that still counts those who have left, so that asking costs the same however long the queue is.
const EXACT_POSITIONS: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub holder: Option<Holder>,
    queue: BTreeMap<Ticket, Waiter>,
    next_ticket: Ticket,
}

/// The session that holds the lock, and its section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub session: SessionId,
    pub token: FencingToken,
    /// When it was granted, in milliseconds since the Unix epoch.
    pub since_ms: Millis,
    /// The longest lease that its client may have been told of since it was granted.
    pub lease_ms: u64,
    pub section: Section,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    pub session: SessionId,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: Millis,
}

/// What a holder has staged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// The whole appends by file, each file's in order: between files the order cannot be seen.
    parts: BTreeMap<FileId, Whole>,
    open: Option<OpenAppend>,
    bytes: u64,
}

/// Bytes for one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub file: FileId,
    #[serde(with = "super::bytes")]
    pub data: Vec<u8>,
}

/// A large append of which pieces are still missing; not part of the section yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenAppend {
    attempt: Attempt,
    total: u32,
    part: Part,
}

/// One piece of an append.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub attempt: Attempt,
    pub file: FileId,
    pub total: u32,
    pub offset: u32,
    pub data: &'a [u8],
}

impl Lock {
    /// Puts a session at the end of the queue.
    pub fn enqueue(&mut self, session: SessionId, now_ms: Millis) -> Ticket {
        let is_short = mutant::is("ticket_by_length");
        let ticket = if is_short { Ticket(self.queue.len() as u64) } else { self.next_ticket };
        self.next_ticket = Ticket(ticket.0 + 1);
        let since_ms = match &self.holder {
            Some(holder) if mutant::is("waits_since_grant") => holder.since_ms,
            _ => now_ms,
        };
        self.queue.insert(ticket, Waiter { session, since_ms });
        ticket
    }

    /// For planted bugs: forgets what a checkpoint must not forget.
    #[cfg(feature = "mutants")]
    pub fn spoil(&mut self) {
        if mutant::is("checkpoint_forgets_staged")
            && let Some(holder) = &mut self.holder
        {
            holder.section = Section::default();
        }
        if mutant::is("checkpoint_forgets_tickets") {
            self.next_ticket = Ticket::default();
        }
    }

    /// Takes a session out of the queue, wherever it stands.
    pub fn leave(&mut self, ticket: Ticket) {
        self.queue.remove(&ticket);
    }

    /// Takes the first session out of the queue.
    pub fn pop(&mut self) -> Option<SessionId> {
        if mutant::is("last_come_first_served") {
            return self.queue.pop_last().map(|(_, waiter)| waiter.session);
        }
        self.queue.pop_first().map(|(_, waiter)| waiter.session)
    }

    /// Those who wait, first come first.
    pub fn waiters(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.queue.values().map(|waiter| waiter.session)
    }

    /// The places in the queue from this ticket on.
    pub fn queue_from(&self, ticket: Ticket) -> impl Iterator<Item = (Ticket, Waiter)> + '_ {
        self.queue.range(ticket..).map(|(ticket, waiter)| (*ticket, *waiter))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub fn is_waited_for(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Place in the queue, from 1; counted from the end that is near.
    pub fn position(&self, ticket: Ticket) -> u32 {
        let mut ahead = self.queue.range(..ticket);
        let mut behind = self.queue.range(ticket..);
        let near = (0..=EXACT_POSITIONS).find_map(|steps| match (ahead.next(), behind.next()) {
            (None, _) => Some(steps + usize::from(!mutant::is("position_off_by_one"))),
            (_, None) => Some(self.queue.len() + 1 - steps),
            _ => None,
        });
        let position = near.map_or_else(|| self.position_at_most(ticket), |near| near as u64);
        u32::try_from(position).unwrap_or(u32::MAX)
    }

    fn position_at_most(&self, ticket: Ticket) -> u64 {
        let first = self.queue.first_key_value().map_or(ticket, |(first, _)| *first);
        (ticket.0 - first.0 + 1).min(self.queue.len() as u64)
    }

    /// The holder, if it is this session under this token.
    pub fn held_by(&mut self, session: SessionId, token: FencingToken) -> Option<&mut Holder> {
        self.holder.as_mut().filter(|holder| {
            let is_token = holder.token == token || mutant::is("token_not_checked");
            holder.session == session && is_token
        })
    }
}

impl Section {
    /// Bytes staged, those of an unfinished append included.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.open.as_ref().map_or(0, |open| open.part.data.len() as u64)
    }

    /// Bytes of the appends that are whole.
    pub fn whole_bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether this piece begins an append or continues the one that is open.
    pub fn accepts(&self, piece: &Piece<'_>) -> bool {
        piece.offset == 0
            || self.open.as_ref().is_some_and(|open| {
                open.attempt == piece.attempt
                    && open.total == piece.total
                    && open.part.file == piece.file
                    && open.part.data.len() == piece.offset as usize
            })
    }

    /// Bytes that the section will have when the piece's append is whole.
    pub fn bytes_with(&self, piece: &Piece<'_>) -> u64 {
        let before = if mutant::is("limit_per_append") { 0 } else { self.bytes };
        before + u64::from(piece.total)
    }

    /// Adds an accepted piece. With its last piece an append joins the section; the beginning of
    /// another one before that drops it.
    pub fn stage(&mut self, piece: &Piece<'_>) {
        if piece.offset == 0 {
            self.open = self.open.take().filter(|_| mutant::is("half_append_continued"));
            if piece.data.len() == piece.total as usize {
                self.join(piece.file, piece.data.into());
                return;
            }
        }
        let open = self.open.get_or_insert_with(|| OpenAppend {
            attempt: piece.attempt,
            total: piece.total,
            part: Part {
                file: piece.file,
                data: Vec::with_capacity(RESERVED_MAX.min(piece.total as usize)),
            },
        });
        open.part.data.extend_from_slice(piece.data);
        if open.part.data.len() == open.total as usize
            && let Some(open) = self.open.take()
        {
            self.join(open.part.file, open.part.data.into());
        }
    }

    /// The whole appends, one part a file.
    pub fn into_parts(self) -> Vec<Part> {
        let half = self.open.filter(|_| mutant::is("half_an_append_published"));
        let whole = self.parts.into_iter().map(|(file, Whole(data))| Part { file, data });
        whole.chain(half.map(|open| open.part)).collect()
    }

    fn join(&mut self, file: FileId, data: Cow<'_, [u8]>) {
        if data.is_empty() {
            return;
        }
        self.bytes += data.len() as u64;
        match self.parts.entry(file) {
            Entry::Vacant(part) => _ = part.insert(Whole(data.into_owned())),
            Entry::Occupied(part) if mutant::is("section_reversed") => {
                part.into_mut().0.splice(..0, data.iter().copied());
            }
            Entry::Occupied(part) => part.into_mut().0.extend_from_slice(&data),
        }
    }
}

/// Room made at once for an append in pieces: what its first piece announces may never come.
const RESERVED_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_near_either_end_is_exact_and_one_between_is_never_told_too_small() {
        let mut lock = Lock::default();
        let mut tickets: Vec<_> =
            (0..400).map(|id| lock.enqueue(SessionId(id), Millis(0))).collect();
        let last = tickets.len() as u32;
        assert_eq!(lock.position(tickets[200]), 201);
        for gone in [350, 340, 200, 60, 3] {
            lock.leave(tickets.remove(gone));
        }
        let told: Vec<_> = tickets.iter().map(|ticket| lock.position(*ticket)).collect();
        for (position, told) in (1..).zip(&told) {
            let is_near = position <= 65 || position + 63 >= last - 5;
            assert!(*told == position || (!is_near && *told > position), "{position}: {told}");
        }
        assert_eq!(told[199], 203, "three before it have left, which is not counted");
    }
}
