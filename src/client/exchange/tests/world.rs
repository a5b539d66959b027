//! Clients, a model server and a network that loses, doubles, delays and reorders, in virtual
//! time from a seed.

use super::journal::Journal;
use crate::client::call::{Answer, Call, Patience};
use crate::client::error::Error;
use crate::client::exchange::{Config, Exchange, State};
use crate::client::model::Model;
use crate::protocol::ClientInfo;
use crate::types::SessionId;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

pub(super) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 10_000);
pub(super) const TIMEOUT_US: u64 = 3_000_000;
/// The server looks at its deadlines this often.
const TICK_US: u64 = 10_000;

pub(super) fn config(seed: u64) -> Config {
    Config {
        servers: vec![SERVER],
        timeout_us: TIMEOUT_US,
        client: ClientInfo::default(),
        nonce: seed,
        seed,
    }
}

/// Sebastiano Vigna's SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) loss_percent: u64,
    pub(super) dup_percent: u64,
    pub(super) delay_us: u64,
    /// Now and then nothing gets through for longer than a call waits.
    pub(super) has_blackouts: bool,
    /// Now and then the server forgets a session.
    pub(super) forgets: bool,
}

impl Faults {
    /// Without blackouts everything is answered in the end, and nothing may time out.
    fn config(self, nonce: u64) -> Config {
        let timeout_us = if self.has_blackouts { TIMEOUT_US } else { 40 * TIMEOUT_US };
        Config { timeout_us, ..config(nonce) }
    }
}

struct Client {
    exchange: Exchange,
    address: SocketAddrV4,
    call: Option<Began>,
    idle_until: u64,
    calls_left: u32,
    journal: Journal,
}

/// A call under way.
#[derive(Clone, Debug)]
enum Began {
    Connect,
    Acquire,
    Append(Vec<u8>),
    Release,
    Abort,
    Other,
    Close,
}

pub(super) struct World {
    random: Random,
    faults: Faults,
    now: u64,
    model: Model,
    clients: Vec<Client>,
    /// On their way, by time of arrival: from, to, bytes.
    flying: BTreeMap<(u64, u64), (SocketAddrV4, SocketAddrV4, Vec<u8>)>,
    sent: u64,
    dark_until: u64,
    next_tick: u64,
    next_nonce: u64,
}

impl World {
    pub(super) fn new(seed: u64, clients: u64, calls: u32, faults: Faults) -> Self {
        let mut random = Random(seed);
        let model = Model::new(random.percent(50), random.percent(50));
        let clients = (1..=clients).map(|id| Client {
            exchange: Exchange::new(faults.config(id)),
            address: SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, id as u8), 1),
            call: None,
            idle_until: 0,
            calls_left: calls,
            journal: Journal::default(),
        });
        World {
            clients: clients.collect(),
            random,
            faults,
            now: 1_000_000,
            model,
            flying: BTreeMap::new(),
            sent: 0,
            dark_until: 0,
            next_tick: 0,
            next_nonce: 100,
        }
    }

    /// Runs until every client has made its calls and closed; then compares what the clients
    /// were told with what the server did.
    pub(super) fn run(mut self) {
        for _ in 0..2_000_000 {
            for index in 0..self.clients.len() {
                self.act(index);
            }
            if self.clients.iter().all(|client| client.calls_left == 0 && client.call.is_none()) {
                for client in &self.clients {
                    client.journal.check(&self.model.published);
                }
                return;
            }
            self.step();
        }
        panic!("the calls do not end");
    }

    /// Goes to the next moment at which something happens.
    fn step(&mut self) {
        let wakes = self.clients.iter().filter_map(|client| match client.call {
            None => Some(client.idle_until).filter(|_| client.calls_left > 0),
            Some(_) => client.exchange.poll_timeout(),
        });
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let next = wakes.chain(arrival).chain([self.next_tick]).min().unwrap_or(self.next_tick);
        self.now = self.now.max(next);
        if self.next_tick <= self.now {
            self.next_tick = self.now + TICK_US;
            let mut out = Vec::new();
            self.model.tick(self.now, &mut out);
            self.send_all(SERVER, out);
            if self.faults.has_blackouts && self.random.below(1_000) == 0 {
                self.dark_until = self.now + self.random.below(3 * TIMEOUT_US);
            }
        }
        while let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= self.now) {
            let (from, to, bytes) = entry.remove();
            if to == SERVER {
                let out = self.model.handle(self.now, from, &bytes);
                self.send_all(SERVER, out);
            } else if let Some(client) = self.clients.iter_mut().find(|c| c.address == to) {
                client.exchange.handle_datagram(self.now, from, &bytes);
            }
        }
    }

    fn send_all(&mut self, from: SocketAddrV4, datagrams: Vec<(SocketAddrV4, Vec<u8>)>) {
        for (to, bytes) in datagrams {
            let copies = 1 + u64::from(self.random.percent(self.faults.dup_percent));
            for _ in 0..copies {
                let is_lost = self.random.percent(self.faults.loss_percent);
                if is_lost || self.now < self.dark_until {
                    continue;
                }
                let delay = 20 + self.random.below(self.faults.delay_us + 1);
                self.sent += 1;
                self.flying.insert((self.now + delay, self.sent), (from, to, bytes.clone()));
            }
        }
    }

    /// Lets a client do what it wants now.
    fn act(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.call.is_none() && client.calls_left > 0 && client.idle_until <= self.now {
            self.begin(index);
        }
        let client = &mut self.clients[index];
        if client.exchange.poll_timeout().is_some_and(|at| at <= self.now) {
            client.exchange.handle_timeout(self.now);
        }
        let (mut out, mut bytes) = (Vec::new(), Vec::new());
        while let Some(to) = client.exchange.poll_transmit(self.now, &mut bytes) {
            out.push((to, bytes.clone()));
        }
        let view = client.exchange.lease();
        if let Some(token) = view.token() {
            let believed = view.deadline_us(token).unwrap_or(0);
            let real = self.model.leases[&token.0];
            assert!(
                believed <= real,
                "the client believes in a lease until {believed}, not {real}"
            );
        }
        let outcome = client.exchange.poll_outcome();
        let address = client.address;
        self.send_all(address, out);
        if let Some(outcome) = outcome {
            self.end(index, outcome);
        }
    }

    fn begin(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.calls_left -= 1;
        let data = client.journal.next_data(index, self.random.below(40));
        let wait = self.random.below(600_000);
        let (call, began) = match self.random.below(20) {
            _ if client.exchange.client_id() == 0 => (Call::Connect, Began::Connect),
            _ if client.calls_left == 0 => (Call::Close, Began::Close),
            0..=2 => (Call::Acquire(Patience::Forever), Began::Acquire),
            3..=4 => (Call::Acquire(Patience::Until(self.now + wait)), Began::Acquire),
            5 => (Call::Acquire(Patience::Try), Began::Acquire),
            6..=12 => (Call::Append { file: b"file_0", data: &data }, Began::Append(data.clone())),
            13..=15 => (Call::Release, Began::Release),
            16 => (Call::Abort, Began::Abort),
            17 => (Call::Renew, Began::Other),
            18 => (Call::Read { file: b"file_0", offset: 0, max: 10 }, Began::Other),
            _ => (Call::Append { file: b"file_100", data: b"x" }, Began::Other),
        };
        client.exchange.begin(call, self.now);
        client.call = Some(began);
    }

    fn end(&mut self, index: usize, outcome: Result<Answer, Error>) {
        let client = &mut self.clients[index];
        let began = client.call.take().expect("only a call under way ends");
        let id = client.exchange.session;
        let is_pending = client.exchange.is_busy();
        let token = client.exchange.token();
        let is_unanswered = matches!(outcome, Err(Error::TimedOut | Error::Unavailable));
        // Closing without holding anything does not wait long.
        if !self.faults.has_blackouts && !matches!(began, Began::Close) {
            assert!(!is_unanswered, "everything is answered in the end");
        }
        match &began {
            Began::Connect => {}
            Began::Acquire => {
                client.journal.acquired(&outcome);
                if matches!(outcome, Err(Error::WouldBlock)) && !is_pending {
                    let holds = self.model.holder.as_ref().is_some_and(|h| h.session == id);
                    assert!(!holds && !self.model.queue.contains(&id), "it left the queue");
                }
            }
            Began::Append(data) => client.journal.appended(data, token, &outcome),
            Began::Release | Began::Close => client.journal.released(&outcome, &self.model, id),
            Began::Abort => client.journal.aborted(&outcome),
            Began::Other => client.journal.learned(&outcome),
        }
        if let (Ok(Answer::Granted(granted)), Some(token)) = (&outcome, token) {
            assert_eq!(*granted, token);
        }
        let is_over = client.exchange.state != State::Open;
        if is_over && client.calls_left > 0 {
            self.next_nonce += 1;
            client.exchange = Exchange::new(self.faults.config(self.next_nonce));
            let [a, b, c, d] = client.address.ip().octets();
            client.address = SocketAddrV4::new(Ipv4Addr::new(a, b, c + 1, d), 1);
        }
        // Now and then longer than a lease.
        let idle = if self.random.percent(10) { 1_000_000 } else { 5_000 };
        client.idle_until = self.now + self.random.below(idle);
        let is_known = id != SessionId(0) && self.model.sessions.contains_key(&id);
        if self.faults.forgets && is_known && self.random.below(100) == 0 {
            self.model.forget(id);
        }
    }
}
