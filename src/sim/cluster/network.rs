//! The network between the servers: connections that keep the order and lose what is on its way when
//! they break, or, harsher than TCP ever is, single messages that are lost, doubled and overtaken.

use crate::proxy::random::Random;

/// The ways from each server to each other.
pub struct Network {
    links: Vec<Vec<Link>>,
    /// Messages are lost, doubled and overtake each other.
    is_harsh: bool,
    /// The longest delay in microseconds.
    jitter_us: u64,
}

#[derive(Clone, Copy, Default)]
struct Link {
    /// Counts connections; what was on its way in an earlier one is lost.
    connection: u64,
    /// When the newest message arrives.
    last_at: u64,
    /// Nothing gets through from one time to the other.
    cut: (u64, u64),
}

impl Network {
    pub fn new(servers: usize, is_harsh: bool) -> Network {
        let links = vec![vec![Link::default(); servers]; servers];
        Network { links, is_harsh, jitter_us: CALM_US }
    }

    /// There is one server more.
    pub fn grow(&mut self) {
        let servers = self.links.len() + 1;
        self.links.resize(servers, Vec::new());
        self.links.iter_mut().for_each(|links| links.resize(servers, Link::default()));
    }

    /// Draws how slow it is from now on.
    pub fn storm(&mut self, random: &mut Random) {
        self.jitter_us = random.between(CALM_US, 30_000);
    }

    pub fn calm(&mut self) {
        self.jitter_us = CALM_US;
    }

    /// All is well from now on.
    pub fn heal(&mut self) {
        self.calm();
        self.is_harsh = false;
        self.links.iter_mut().flatten().for_each(|link| link.cut = (0, 0));
    }

    /// Cuts one way.
    pub fn cut(&mut self, from: usize, to: usize, now: u64, until: u64) {
        self.links[from][to].cut = (now, until);
    }

    /// Cuts both ways.
    pub fn separate(&mut self, one: usize, other: usize, now: u64, until: u64) {
        self.cut(one, other, now, until);
        self.cut(other, one, now, until);
    }

    /// The connection breaks.
    pub fn reset(&mut self, from: usize, to: usize) {
        self.links[from][to].connection += 1;
    }

    pub fn connection(&self, from: usize, to: usize) -> u64 {
        self.links[from][to].connection
    }

    /// Whether questions get there and answers back.
    pub fn reaches(&self, from: usize, to: usize, now: u64) -> bool {
        self.links[from][to].cut.1 <= now && self.links[to][from].cut.1 <= now
    }

    /// When a message arrives, and when its double does.
    pub fn fate(
        &mut self,
        from: usize,
        to: usize,
        now: u64,
        random: &mut Random,
    ) -> [Option<u64>; 2] {
        let delay = 30 + random.between(0, self.jitter_us);
        let link = &mut self.links[from][to];
        let (since, until) = link.cut;
        if until > now && (self.is_harsh || until - since > GIVE_UP_US) {
            return [None, None];
        }
        if self.is_harsh {
            let late = if random.chance(0.05) { random.between(0, 200_000) } else { 0 };
            let at = (!random.chance(0.05)).then_some(now + delay + late);
            return [at, random.chance(0.05).then_some(now + 2 * delay)];
        }
        // What waits for the end of a short cut is delivered then, in order.
        link.last_at = (now.max(until) + delay).max(link.last_at + 1);
        [Some(link.last_at), None]
    }
}

const CALM_US: u64 = 200;
/// What is not delivered in this time ends the connection.
const GIVE_UP_US: u64 = 1_000_000;
