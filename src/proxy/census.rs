//! Who sent which message for the how-manieth time: what makes "client 2's first append" of a
//! script one particular datagram.

use super::message::{Direction, Kind, Message};
use crate::types::{Attempt, RequestNumber, SessionId};
use std::collections::BTreeMap;
use std::fmt;

/// A relay's name for one client address.
pub type Peer = u64;

/// A datagram that came by, and its place among those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The client's place in the order of appearance, from 1.
    pub client: u32,
    pub direction: Direction,
    pub kind: Kind,
    /// The how-manieth message of its kind from or to this client, from 1; a repetition of the
    /// same message has the same number.
    pub nth: u32,
    /// The how-manieth transmission of this message, from 1.
    pub copy: u32,
    /// Of a reply: what it answers.
    pub answers: Option<Answered>,
}

/// The request that a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub kind: Kind,
    /// As in the [`Sighting`] of the request.
    pub nth: u32,
    /// The how-manieth reply to that request, from 1.
    pub copy: u32,
}

/// All that has been seen, as far as counting needs it.
#[derive(Debug, Default)]
pub struct Census {
    clients: Vec<Client>,
    latest: BTreeMap<Peer, u32>,
    inits: BTreeMap<(Peer, u64), u32>,
    sessions: BTreeMap<SessionId, u32>,
}

/// Which message: repetitions agree in all of these.
type Identity = (RequestNumber, Attempt, Kind);

#[derive(Debug, Default)]
struct Client {
    totals: BTreeMap<Kind, u32>,
    /// Place and transmissions of each message, the newest [`REMEMBERED`] of them.
    seen: BTreeMap<Identity, (u32, u32)>,
    /// What each request asked for, by number and attempt, with the replies it got.
    asked: BTreeMap<(RequestNumber, Attempt), Answered>,
}

impl Census {
    /// Counts one datagram from or to a client address.
    pub fn see(&mut self, peer: Peer, message: &Message) -> Sighting {
        let number = self.client(peer, message);
        let client = &mut self.clients[number as usize - 1];
        let (nth, copy) = client.count(message);
        let answers = match message.direction {
            Direction::Request => {
                let fresh = Answered { kind: message.kind, nth, copy: 0 };
                client.asked.entry((message.number, message.attempt)).or_insert(fresh);
                trim(&mut client.asked);
                None
            }
            Direction::Reply => client.answer(message),
        };
        Sighting {
            client: number,
            direction: message.direction,
            kind: message.kind,
            nth,
            copy,
            answers,
        }
    }

    /// Forgets a client address; its sessions keep their numbers should they come back.
    pub fn forget(&mut self, peer: Peer) {
        self.latest.remove(&peer);
        self.inits.retain(|(of, _), _| *of != peer);
    }

    /// The client's number: by its session where that is known, else by its address. A new
    /// `Init` from an address is a new client, as for the server.
    fn client(&mut self, peer: Peer, message: &Message) -> u32 {
        let known = match message.nonce {
            Some(nonce) => self.inits.get(&(peer, nonce)).copied(),
            None if message.session.0 != 0 => self.sessions.get(&message.session).copied(),
            None => None,
        };
        let by_address = || self.latest.get(&peer).copied().filter(|_| message.nonce.is_none());
        let number = known.or_else(by_address).unwrap_or_else(|| {
            self.clients.push(Client::default());
            self.clients.len() as u32
        });
        if let Some(nonce) = message.nonce {
            self.inits.insert((peer, nonce), number);
        }
        if known.is_none() {
            self.latest.insert(peer, number);
        }
        if message.session.0 != 0 {
            self.sessions.entry(message.session).or_insert(number);
        }
        number
    }
}

impl Client {
    fn count(&mut self, message: &Message) -> (u32, u32) {
        let total = self.totals.entry(message.kind).or_default();
        // What is no message of the protocol cannot be told to be a repetition.
        let is_new = message.kind == Kind::Other
            || !self.seen.contains_key(&(message.number, message.attempt, message.kind));
        *total += u32::from(is_new);
        let place = *total;
        let (nth, copy) = self
            .seen
            .entry((message.number, message.attempt, message.kind))
            .and_modify(|seen| *seen = if is_new { (place, 1) } else { (seen.0, seen.1 + 1) })
            .or_insert((place, 1));
        let counted = (*nth, *copy);
        trim(&mut self.seen);
        counted
    }

    fn answer(&mut self, reply: &Message) -> Option<Answered> {
        let asked = self.asked.get_mut(&(reply.number, reply.attempt))?;
        asked.copy += 1;
        Some(*asked)
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sighting { client, direction, kind, nth, copy, .. } = self;
        write!(f, "{direction} {kind} of {client} nth {nth} copy {copy}")?;
        match self.answers {
            Some(Answered { kind, nth, copy }) => {
                write!(f, " (reply to {kind} of {client} nth {nth} copy {copy})")
            }
            None => Ok(()),
        }
    }
}

/// Request numbers rise, so the first entries are the oldest.
fn trim<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    if map.len() > REMEMBERED {
        map.pop_first();
    }
}

/// Messages of a client of which repetitions are recognised.
const REMEMBERED: usize = 512;
