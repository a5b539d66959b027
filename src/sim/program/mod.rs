//! A client's program: which call it makes next, and what it learns from the answer. Random, but
//! it keeps to what the documents allow, so whatever it is told has to make sense to it.

mod ask;
mod judge;
mod operator;

use super::context::Crowded;
use super::ledger::{Fate, Ledger};
use super::plan::Plan;
use crate::client::call::Patience;
use crate::proxy::random::Random;
pub use ask::Ask;

/// What the program knows of its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    No,
    Held(u64),
    /// A call for it has an unknown outcome.
    Unsure,
}

#[derive(Debug)]
pub struct Program {
    client: usize,
    /// Makes one section and no other: shows that the lock can be had.
    is_probe: bool,
    is_connected: bool,
    lock: Lock,
    serial: u64,
    /// Appends in this section.
    appends: u64,
    /// The holder's token that it was shown last, and a ticket.
    seen: Option<u64>,
    seen_ticket: u64,
    /// Since when an acquire has an unknown outcome: a later call may find that it was granted.
    pending_since: Option<u64>,
    /// The fate of the section before the call under way.
    fate_before: Fate,
    asked: Option<(Ask, u64)>,
}

/// What is to be known of the world to judge an answer.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The server may have forgotten the session.
    pub may_be_lost: bool,
    /// What an earlier call asked for is not answered yet.
    pub is_unanswered: bool,
    /// Until when a disk was full, if one was.
    pub full_until: Option<u64>,
    /// When the server had as many sessions and waiters as it may have.
    pub crowded: Crowded,
    /// The most bytes that the data files may have together.
    pub data_limit: u64,
    /// The most bytes that a section may have.
    pub section_limit: u64,
    /// Nothing at all goes wrong in this run.
    pub is_calm: bool,
    /// So long a call may take then that waits for nobody.
    pub prompt_us: u64,
    /// The client's clock.
    pub clock: u64,
    /// The token that the library goes on to believe in.
    pub token: Option<u64>,
    /// The library says that an operator has taken the lock away.
    pub is_revoked: bool,
}

type Verdict = Result<(), String>;

impl Program {
    pub fn new(client: usize, is_probe: bool) -> Program {
        Program {
            client,
            is_probe,
            is_connected: false,
            lock: Lock::No,
            serial: 0,
            appends: 0,
            seen: None,
            seen_ticket: 0,
            pending_since: None,
            fate_before: Fate::Open,
            asked: None,
        }
    }

    /// The call under way.
    pub fn asked(&self) -> Option<&Ask> {
        self.asked.as_ref().map(|(ask, _)| ask)
    }

    /// There is a session, as far as the program knows.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// It waits for the lock, or did so in a call that timed out.
    pub fn may_wait(&self) -> bool {
        self.pending_since.is_some() || matches!(self.asked(), Some(Ask::Acquire(_)))
    }

    /// Its one section has not begun yet.
    pub fn is_probing(&self) -> bool {
        self.is_probe && self.serial == 0
    }

    fn holds(&self) -> bool {
        matches!(self.lock, Lock::Held(_))
    }

    /// Chooses the next call. Once `ends`, the program puts its things in order and closes.
    pub fn choose(
        &mut self,
        plan: &Plan,
        ledger: &mut Ledger,
        (now, clock): (u64, u64),
        ends: bool,
        random: &mut Random,
    ) -> Result<&Ask, String> {
        let ask = match self.lock {
            _ if !self.is_connected => Ask::Connect,
            Lock::Held(token) if self.is_probing() => self.append(token, 0, 10, ledger),
            _ if self.is_probing() => Ask::Acquire(Patience::Forever),
            Lock::Held(token) => self.choose_holding(token, plan, ledger, clock, ends, random)?,
            Lock::Unsure if ends => Ask::Close,
            Lock::Unsure => match random.between(0, 9) {
                0 => Ask::Close,
                1 => Ask::Abort,
                _ => Ask::Acquire(patience(plan, clock, random)),
            },
            Lock::No if ends => Ask::Close,
            Lock::No if plan.operators && random.chance(OPERATES) => {
                self.operate(plan, ledger, random)
            }
            Lock::No => match random.between(0, 99) {
                0..=2 => Ask::Close,
                3 => Ask::Release,
                4 => self.append_without_lock(),
                5..=14 => read(plan, ledger, random),
                _ => Ask::Acquire(patience(plan, clock, random)),
            },
        };
        Ok(self.ask(ask, ledger, now))
    }

    /// Makes this call next.
    pub fn ask(&mut self, ask: Ask, ledger: &mut Ledger, now: u64) -> &Ask {
        if let (Lock::Held(token), Ask::Release | Ask::Close) = (self.lock, &ask) {
            self.fate_before = ledger.fate(token);
            ledger.releasing(token, now);
        }
        if let Ask::Revoke { token } = ask {
            ledger.revoking(self.client, token);
        }
        &self.asked.insert((ask, now)).0
    }

    /// An append of a story: readers of the file see the letter.
    pub fn append_letter(&mut self, letter: char, file: usize, ledger: &mut Ledger) -> Ask {
        let Lock::Held(token) = self.lock else { return self.append_without_lock() };
        let mut ask = self.append(token, file, 0, ledger);
        ledger.name(token, self.serial, letter);
        if let Ask::Append { letter: called, .. } = &mut ask {
            *called = Some(letter);
        }
        ask
    }

    fn choose_holding(
        &mut self,
        token: u64,
        plan: &Plan,
        ledger: &mut Ledger,
        clock: u64,
        ends: bool,
        random: &mut Random,
    ) -> Result<Ask, String> {
        if ends {
            return Ok(if random.chance(0.7) { Ask::Release } else { Ask::Close });
        }
        if ledger.fate(token) == Fate::Releasing || self.pending_since.is_some() {
            // It timed out: the outcome is asked for, one way or another.
            return Ok(match random.between(0, 9) {
                0 => Ask::Close,
                1 => Ask::Abort,
                2 => Ask::Renew,
                3..=5 => Ask::Acquire(patience(plan, clock, random)),
                _ => Ask::Release,
            });
        }
        if plan.operators && random.chance(OPERATES) {
            return Ok(self.operate(plan, ledger, random));
        }
        Ok(match random.between(0, 99) {
            0..=1 => Ask::Close,
            2..=5 => Ask::Abort,
            6..=9 => Ask::Renew,
            10..=13 => read(plan, ledger, random),
            14..=16 => Ask::Acquire(patience(plan, clock, random)),
            17..=18 => {
                let name = ["file_1000", "", "../etc/passwd", "file_01"];
                let name = name[random.between(0, 3) as usize].to_owned();
                Ask::Append { name, file: None, letter: None, data: b"never".to_vec() }
            }
            19..=49 if self.appends > 0 => Ask::Release,
            _ => {
                let file = random.between(0, u64::from(plan.files) - 1) as usize;
                let padding = match random.between(0, 19) {
                    // Many pieces, now and then more than a section may have.
                    0..=1 => random.between(1_000, plan.section_limit + 2_000),
                    2..=5 => random.between(0, 1_500),
                    _ => random.between(0, 20),
                };
                self.append(token, file, padding as usize, ledger)
            }
        })
    }

    fn append(&mut self, token: u64, file: usize, padding: usize, ledger: &mut Ledger) -> Ask {
        self.serial += 1;
        self.appends += 1;
        let data = ledger.append(token, self.serial, file, padding);
        Ask::Append { name: format!("file_{file}"), file: Some(file), letter: None, data }
    }

    fn append_without_lock(&self) -> Ask {
        Ask::Append { name: "file_0".into(), file: None, letter: None, data: b"never".to_vec() }
    }

    /// The call under way does not want to wait for the lock any longer than until now, if that
    /// is what it does.
    pub fn cancel(&mut self, clock: u64) -> bool {
        let Some((Ask::Acquire(patience), _)) = &mut self.asked else { return false };
        *patience = Patience::Until(clock);
        true
    }

    /// The client's process is gone.
    pub fn vanish(&mut self, ledger: &mut Ledger) -> Verdict {
        self.asked = None;
        self.pending_since = None;
        self.is_connected = false;
        let lock = std::mem::replace(&mut self.lock, Lock::No);
        match lock {
            Lock::Held(token) if ledger.fate(token) == Fate::Open => ledger.discard(token),
            _ => Ok(()),
        }
    }
}

/// How many calls of those who may are an operator's.
const OPERATES: f64 = 0.08;

fn patience(plan: &Plan, clock: u64, random: &mut Random) -> Patience {
    match random.between(0, 9) {
        0 => Patience::Try,
        1..=3 => Patience::Until(clock + random.between(1, 3 * plan.lease_ms) * 1000),
        _ => Patience::Forever,
    }
}

fn read(plan: &Plan, ledger: &Ledger, random: &mut Random) -> Ask {
    let file = random.between(0, u64::from(plan.files) - 1) as usize;
    let length = ledger.length(file);
    let offset = random.between(length.saturating_sub(500), length + 10);
    Ask::Read { file, offset }
}
