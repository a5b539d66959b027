//! The network between clients and server: what becomes of each datagram.

use super::plan::Faults;
use crate::proxy::random::Random;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// The state of the network: rates that hold for all, and cuts that are one client's.
#[derive(Debug, Default)]
pub struct Network {
    loss: [f64; 2],
    duplicates: f64,
    late: f64,
    late_us: u64,
    jitter_us: u64,
    /// Until when each client's datagrams are lost, by direction.
    cuts: Vec<[u64; 2]>,
    /// Until when each server is out of the clients' reach.
    hidden: Vec<u64>,
    /// What stories do with datagrams to come.
    orders: Vec<Order>,
}

/// What happens to the next datagrams of a client in a story.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub client: usize,
    pub direction: Direction,
    /// How many.
    pub count: usize,
    pub treatment: Treatment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    Lose,
    /// They arrive at this time.
    Delay(u64),
    /// They arrive, and a copy at this time.
    Repeat(u64),
}

impl Network {
    pub fn new(clients: usize) -> Network {
        Network { jitter_us: 200, cuts: vec![[0; 2]; clients], ..Network::default() }
    }

    /// Fair weather: every datagram arrives soon, though not always in order.
    pub fn calm(&mut self) {
        *self = Network { cuts: vec![[0; 2]; self.cuts.len()], ..Network::new(0) };
    }

    /// Has this happen; earlier orders come first.
    pub fn order(&mut self, order: Order) {
        self.orders.push(order);
    }

    /// Draws how bad the network is from now on.
    pub fn storm(&mut self, faults: &Faults, lease_ms: u64, random: &mut Random) {
        let rate = |random: &mut Random, is_on, max: u64| {
            if is_on { random.between(0, max) as f64 / 100.0 } else { 0.0 }
        };
        self.loss = [rate(random, faults.loss, 40), rate(random, faults.loss, 40)];
        self.duplicates = rate(random, faults.duplicates, 30);
        self.late = rate(random, faults.delays, 20);
        self.late_us = random.between(1, 3 * lease_ms) * 1000;
        self.jitter_us = if faults.delays { random.between(100, 20_000) } else { 200 };
    }

    /// Cuts a client off, in one direction or both.
    pub fn cut(&mut self, client: usize, now: u64, lease_ms: u64, random: &mut Random) {
        let until = now + random.between(1, 2 * lease_ms) * 1000;
        match random.between(0, 2) {
            0 => self.cuts[client] = [until, 0],
            1 => self.cuts[client] = [0, until],
            _ => self.cuts[client] = [until, until],
        }
    }

    /// Keeps all clients from a server.
    pub fn hide(&mut self, server: usize, until: u64) {
        let servers = self.hidden.len().max(server + 1);
        self.hidden.resize(servers, 0);
        self.hidden[server] = until;
    }

    /// When the datagram arrives, and when its duplicate does.
    pub fn fate(
        &mut self,
        (client, server): (usize, usize),
        direction: Direction,
        now: u64,
        random: &mut Random,
    ) -> [Option<u64>; 2] {
        let way = direction as usize;
        let is_meant = |order: &Order| order.client == client && order.direction == direction;
        let order = self.orders.iter_mut().find(|order| is_meant(order) && order.count > 0);
        let treatment = order.map(|order| {
            order.count -= 1;
            order.treatment
        });
        match treatment {
            Some(Treatment::Lose) => return [None, None],
            Some(Treatment::Delay(at)) => return [Some(at), None],
            _ => {}
        }
        let is_hidden = self.hidden.get(server).is_some_and(|until| *until > now);
        if is_hidden || self.cuts.get(client).is_some_and(|cuts| cuts[way] > now) {
            return [None, None];
        }
        let once = |is_lost: bool, random: &mut Random| {
            let late = if random.chance(self.late) { random.between(0, self.late_us) } else { 0 };
            (!is_lost).then(|| now + 20 + random.between(0, self.jitter_us) + late)
        };
        let is_lost = random.chance(self.loss[way]);
        let first = once(is_lost, random);
        if let Some(Treatment::Repeat(at)) = treatment {
            return [first, Some(at)];
        }
        let is_duplicated = random.chance(self.duplicates);
        [first, if is_duplicated { once(false, random) } else { None }]
    }
}
