//! The decisions of the fault proxy: datagrams and the time go in, the datagrams to send come out.
//! No clock, no socket, no thread: `relay` has those.

use super::census::{Census, Peer, Sighting};
use super::message::{Direction, Message};
use super::random::Random;
use super::script::{Pattern, Rule, Script, Verb, When};
use super::stats::{Counts, Stats};
use std::collections::BTreeMap;

/// How often the proxy does what by chance, each way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    pub requests: Rates,
    pub replies: Rates,
}

/// How often by chance, of the datagrams of one direction. Probabilities are from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Never arrives.
    pub drop: f64,
    /// Arrives twice.
    pub duplicate: f64,
    /// Arrives after the one that follows it.
    pub reorder: f64,
    /// Arrives later, by something between these two, in microseconds.
    pub delay_us: (u64, u64),
}

/// A datagram that is to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The client from or to which it travels.
    pub peer: Peer,
    pub direction: Direction,
    pub bytes: Vec<u8>,
}

/// The proxy without its sockets.
pub struct Core {
    seed: u64,
    faults: Faults,
    rules: Vec<RuleState>,
    watches: Vec<(Pattern, bool)>,
    census: Census,
    streams: BTreeMap<(u32, Direction), Random>,
    /// What is to be sent, by due time, then order of arrival.
    queue: BTreeMap<(u64, u64), Transmit>,
    arrivals: u64,
    /// Datagrams that let the next one of their client and direction go first.
    aside: BTreeMap<(Peer, Direction), (u64, u64)>,
    stats: Stats,
}

struct RuleState {
    rule: Rule,
    acted: u32,
    /// Its event has come: it acts no more.
    is_over: bool,
    kept: Vec<Transmit>,
}

/// What becomes of one datagram.
enum Fate {
    Passes,
    Dropped,
    Held,
}

impl Core {
    /// A proxy that has seen nothing yet.
    pub fn new(faults: Faults, script: Script, seed: u64) -> Core {
        let mut core = Core {
            seed,
            faults,
            rules: Vec::new(),
            watches: Vec::new(),
            census: Census::default(),
            streams: BTreeMap::new(),
            queue: BTreeMap::new(),
            arrivals: 0,
            aside: BTreeMap::new(),
            stats: Stats::default(),
        };
        core.set_script(script, 0);
        core
    }

    /// A datagram came from a client (`Request`) or for it (`Reply`).
    pub fn handle_datagram(
        &mut self,
        now_us: u64,
        peer: Peer,
        direction: Direction,
        bytes: Vec<u8>,
    ) {
        let seen = self.census.see(peer, &Message::read(direction, &bytes));
        self.counts(direction).seen += 1;
        let waits = self.aside.get(&(peer, direction)).copied();
        let freed = self.note_events(&seen);
        let transmit = Transmit { peer, direction, bytes };
        let due_us = match self.follow_script(now_us, &seen, &transmit) {
            Some(Fate::Passes) => Some(self.send_at(now_us, transmit)),
            Some(Fate::Dropped) => {
                self.counts(direction).dropped += 1;
                None
            }
            Some(Fate::Held) => {
                self.counts(direction).held += 1;
                None
            }
            None => self.try_luck(now_us, &seen, transmit),
        };
        if let (Some(due_us), Some(place)) = (due_us, waits) {
            self.follow(due_us, (peer, direction), place);
        }
        for kept in freed {
            self.send_at(now_us, kept);
        }
    }

    /// The next datagram that is due.
    pub fn poll_transmit(&mut self, now_us: u64) -> Option<Transmit> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now_us)?;
        let transmit = entry.remove();
        self.counts(transmit.direction).sent += 1;
        Some(transmit)
    }

    /// When the next datagram will be due.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.queue.first_key_value().map(|((due_us, _), _)| *due_us)
    }

    /// From now on these chances count.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// From now on these rules count; what the earlier ones kept back goes on.
    pub fn set_script(&mut self, script: Script, now_us: u64) {
        let fresh = script.rules.into_iter();
        let fresh =
            fresh.map(|rule| RuleState { rule, acted: 0, is_over: false, kept: Vec::new() });
        let old = std::mem::replace(&mut self.rules, fresh.collect());
        for kept in old.into_iter().flat_map(|state| state.kept) {
            self.send_at(now_us, kept);
        }
    }

    /// Watches for a datagram: [`Core::has_seen`] tells whether one has come since.
    pub fn watch(&mut self, pattern: Pattern) -> usize {
        self.watches.push((pattern, false));
        self.watches.len() - 1
    }

    /// Whether a datagram that this watch is for has come to the proxy.
    pub fn has_seen(&self, watch: usize) -> bool {
        self.watches.get(watch).is_some_and(|(_, seen)| *seen)
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// A client address is gone: what was on its way to or from it is dropped.
    pub fn forget(&mut self, peer: Peer) {
        self.census.forget(peer);
        self.queue.retain(|_, transmit| transmit.peer != peer);
        self.aside.retain(|(of, _), _| *of != peer);
        for state in &mut self.rules {
            state.kept.retain(|transmit| transmit.peer != peer);
        }
    }

    /// Ends the rules whose event this is and takes what they kept.
    fn note_events(&mut self, seen: &Sighting) -> Vec<Transmit> {
        for (pattern, has_come) in &mut self.watches {
            *has_come |= pattern.matches(seen);
        }
        let mut freed = Vec::new();
        for state in self.rules.iter_mut().filter(|state| !state.is_over) {
            if let Some(When::At(event)) = &state.rule.when
                && event.matches(seen)
            {
                state.is_over = true;
                let line = state.rule.line;
                tracing::debug!("{seen}: the event of line {line}, frees {}", state.kept.len());
                freed.append(&mut state.kept);
            }
        }
        freed
    }

    /// The first rule that drops or holds decides; duplicating rules before it act as well.
    /// `None`: no rule acted.
    fn follow_script(&mut self, now_us: u64, seen: &Sighting, transmit: &Transmit) -> Option<Fate> {
        let mut later = Vec::new();
        let mut fate = None;
        for state in &mut self.rules {
            if !state.acts_on(seen) {
                continue;
            }
            state.acted += 1;
            let line = state.rule.line;
            match (state.rule.verb, &state.rule.when) {
                (Verb::Drop, _) => {
                    tracing::debug!("{seen}: dropped, line {line}");
                    fate = Some(Fate::Dropped);
                    break;
                }
                (Verb::Hold, Some(When::After(delay))) => {
                    tracing::debug!("{seen}: held for {delay:?}, line {line}");
                    later.push((now_us + delay.as_micros() as u64, transmit.clone()));
                    fate = Some(Fate::Held);
                    break;
                }
                (Verb::Hold, _) => {
                    tracing::debug!("{seen}: held, line {line}");
                    state.kept.push(transmit.clone());
                    fate = Some(Fate::Held);
                    break;
                }
                (Verb::Duplicate, when) => {
                    tracing::debug!("{seen}: duplicated, line {line}");
                    fate = Some(Fate::Passes);
                    self.stats.of(transmit.direction).duplicated += 1;
                    match when {
                        Some(When::At(_)) if !state.is_over => state.kept.push(transmit.clone()),
                        Some(When::After(delay)) => {
                            later.push((now_us + delay.as_micros() as u64, transmit.clone()));
                        }
                        _ => later.push((now_us, transmit.clone())),
                    }
                }
            }
        }
        for (due_us, transmit) in later {
            self.send_at(due_us, transmit);
        }
        fate
    }

    /// Lets chance decide; tells when the datagram will go on, if it will.
    fn try_luck(&mut self, now_us: u64, seen: &Sighting, transmit: Transmit) -> Option<u64> {
        let direction = transmit.direction;
        let rates = match direction {
            Direction::Request => self.faults.requests.clone(),
            Direction::Reply => self.faults.replies.clone(),
        };
        let stream = u64::from(seen.client) << 1 | direction as u64;
        let fresh = || Random::new(self.seed, stream);
        let random = self.streams.entry((seen.client, direction)).or_insert_with(fresh);
        // All numbers are drawn for every datagram, so that changing one rate leaves what the
        // others do as it was.
        let is_dropped = random.chance(rates.drop);
        let is_duplicated = random.chance(rates.duplicate);
        let is_reordered = random.chance(rates.reorder);
        let (low, high) = rates.delay_us;
        let delays = [random.between(low, high), random.between(low, high)];
        if is_dropped {
            tracing::debug!("{seen}: dropped by chance");
            self.counts(direction).dropped += 1;
            return None;
        }
        if is_duplicated {
            tracing::debug!("{seen}: duplicated by chance");
            self.counts(direction).duplicated += 1;
            self.send_at(now_us + delays[1], transmit.clone());
        }
        if is_reordered {
            tracing::debug!("{seen}: lets the next one pass");
            self.counts(direction).reordered += 1;
            let place = (now_us + delays[0] + REORDER_US_MAX, self.arrivals);
            self.aside.insert((transmit.peer, direction), place);
            Some(self.send_at(place.0, transmit))
        } else {
            tracing::debug!("{seen}: passes after {} µs", delays[0]);
            Some(self.send_at(now_us + delays[0], transmit))
        }
    }

    /// Sends the datagram that let another pass right after that one, if it still waits.
    fn follow(&mut self, due_us: u64, whose: (Peer, Direction), place: (u64, u64)) {
        if self.aside.get(&whose) == Some(&place) {
            self.aside.remove(&whose);
        }
        if let Some(transmit) = self.queue.remove(&place) {
            self.send_at(due_us, transmit);
        }
    }

    fn send_at(&mut self, due_us: u64, transmit: Transmit) -> u64 {
        self.queue.insert((due_us, self.arrivals), transmit);
        self.arrivals += 1;
        due_us
    }

    fn counts(&mut self, direction: Direction) -> &mut Counts {
        self.stats.of(direction)
    }
}

impl RuleState {
    fn acts_on(&self, seen: &Sighting) -> bool {
        // A copy whose event has come already is sent at once; what lasts until an event is over.
        let is_live = !self.is_over || self.rule.verb == Verb::Duplicate;
        is_live
            && self.rule.times.is_none_or(|times| self.acted < times)
            && self.rule.pattern.matches(seen)
    }
}

/// How long a reordered datagram waits at most for another to overtake it, in microseconds: longer
/// than the smallest retransmission timeout, since of a client with one request in flight that is
/// what comes next.
const REORDER_US_MAX: u64 = 20_000;

#[cfg(test)]
mod tests;
