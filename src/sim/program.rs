//! A client's program: which call it makes next, and what it learns from the answer. Random, but
//! it keeps to what the documents allow, so whatever it is told has to make sense to it.

use super::ledger::{Fate, Ledger, Told};
use super::plan::Plan;
use crate::client::Error;
use crate::client::call::{Answer, Call, Patience};
use crate::proxy::random::Random;

/// A call with its bytes.
#[derive(Clone, Debug)]
pub enum Ask {
    Connect,
    Acquire(Patience),
    /// `file` is a number for a file that there is.
    Append {
        name: String,
        file: Option<usize>,
        data: Vec<u8>,
    },
    Release,
    Abort,
    Renew,
    Read {
        file: usize,
        offset: u64,
    },
    Close,
}

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
    /// The disk was full at some time.
    pub was_full: bool,
    /// Nothing at all goes wrong in this run.
    pub is_calm: bool,
    /// The token that the library goes on to believe in.
    pub token: Option<u64>,
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
            Lock::No => match random.between(0, 99) {
                0..=2 => Ask::Close,
                3 => Ask::Release,
                4 => self.append_without_lock(),
                5..=14 => read(plan, ledger, random),
                _ => Ask::Acquire(patience(plan, clock, random)),
            },
        };
        if let (Lock::Held(token), Ask::Release | Ask::Close) = (self.lock, &ask) {
            self.fate_before = ledger.fate(token);
            ledger.releasing(token, now);
        }
        Ok(&self.asked.insert((ask, now)).0)
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
        Ok(match random.between(0, 99) {
            0..=1 => Ask::Close,
            2..=5 => Ask::Abort,
            6..=9 => Ask::Renew,
            10..=13 => read(plan, ledger, random),
            14..=16 => Ask::Acquire(patience(plan, clock, random)),
            17..=18 => {
                let name = ["file_1000", "", "../etc/passwd", "file_01"];
                let name = name[random.between(0, 3) as usize].to_owned();
                Ask::Append { name, file: None, data: b"never".to_vec() }
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
        Ask::Append { name: format!("file_{file}"), file: Some(file), data }
    }

    fn append_without_lock(&self) -> Ask {
        Ask::Append { name: "file_0".into(), file: None, data: b"never".to_vec() }
    }

    /// The call ended. An `Err` says what is wrong with the answer.
    pub fn ended(
        &mut self,
        result: &Result<Answer, Error>,
        data: &[u8],
        ledger: &mut Ledger,
        circumstances: Circumstances,
        now: u64,
    ) -> Verdict {
        let Some((ask, invoked)) = self.asked.take() else { return Ok(()) };
        self.judge(&ask, result, ledger, circumstances)?;
        match (&ask, result) {
            (Ask::Connect, Ok(_)) => self.is_connected = true,
            (Ask::Acquire(_), Ok(Answer::Granted(token))) => {
                let since = self.pending_since.unwrap_or(invoked);
                self.acquired(token.0, ledger, (since, now))?;
            }
            (Ask::Append { file: Some(_), .. }, _) => {
                if let Lock::Held(token) = self.lock {
                    let told = match result {
                        Ok(_) => Told::Done,
                        Err(Error::TimedOut | Error::SessionLost) => Told::Nothing,
                        Err(_) => Told::NotDone,
                    };
                    ledger.appended(token, told, invoked, now)?;
                }
            }
            (Ask::Read { file, offset }, Ok(Answer::Read { length })) => {
                ledger.has_read(self.client, *file, *offset, data, *length, (invoked, now))?;
            }
            (Ask::Release | Ask::Close, Ok(_)) => {
                // Closing does well also when a lock was lost under which nothing was appended.
                if let Lock::Held(token) = self.lock
                    && self.pending_since.is_none()
                    && (matches!(ask, Ask::Release) || ledger.has_acknowledged(token))
                {
                    ledger.released(token, invoked, now)?;
                }
                self.lock = Lock::No;
            }
            _ => {}
        }
        self.settle(&ask, result, ledger, circumstances.token)?;
        let is_open = matches!(result, Err(Error::TimedOut | Error::Unavailable));
        match (&ask, circumstances.token) {
            (Ask::Acquire(_), _) if is_open => {
                self.pending_since.get_or_insert(invoked);
            }
            _ if is_open => {}
            // An acquire that had timed out turns out to have been granted.
            (_, Some(token)) if ledger.client_of(token).is_none() => {
                let since = self.pending_since.take().unwrap_or(invoked);
                self.acquired(token, ledger, (since, now))?;
            }
            (_, believed) => {
                let was_pending = self.pending_since.take().is_some();
                if let Lock::Held(token) = self.lock
                    && was_pending
                    && believed.is_none()
                    && !ledger.has_acknowledged(token)
                {
                    // Lost with nothing in it, which nobody needs to be told.
                    self.lock = Lock::No;
                    if ledger.fate(token) == Fate::Open {
                        ledger.discard(token)?;
                    }
                }
            }
        }
        if matches!(ask, Ask::Close) || matches!(result, Err(Error::SessionLost)) {
            self.is_connected = false;
            self.lock = Lock::No;
            self.pending_since = None;
        }
        Ok(())
    }

    fn acquired(&mut self, token: u64, ledger: &mut Ledger, time: (u64, u64)) -> Verdict {
        if let Lock::Held(old) = self.lock
            && old != token
            && ledger.fate(old) == Fate::Open
        {
            if ledger.has_acknowledged(old) {
                return Err(format!(
                    "{} was granted {token} without being told that its section {old} is lost",
                    self.client
                ));
            }
            ledger.discard(old)?;
        }
        if self.lock != Lock::Held(token) {
            self.appends = 0;
        }
        self.lock = Lock::Held(token);
        ledger.granted(self.client, token, time.0, time.1)
    }

    /// What a call that did not do well means for the section.
    fn settle(
        &mut self,
        ask: &Ask,
        result: &Result<Answer, Error>,
        ledger: &mut Ledger,
        believed: Option<u64>,
    ) -> Verdict {
        let Lock::Held(token) = self.lock else {
            let is_open = matches!(result, Err(Error::TimedOut | Error::Unavailable));
            self.lock = match (self.lock, ask) {
                (_, Ask::Acquire(_)) if is_open => Lock::Unsure,
                (Lock::Unsure, _) if is_open => Lock::Unsure,
                (Lock::Unsure, Ask::Acquire(_)) => Lock::No,
                (Lock::Unsure, Ask::Abort | Ask::Close) => Lock::No,
                (lock, _) => lock,
            };
            return Ok(());
        };
        let is_releasing = ledger.fate(token) == Fate::Releasing;
        match (ask, result) {
            // What was given back may be what an acquire brought that had timed out.
            (Ask::Abort, Ok(_)) if is_releasing && self.pending_since.is_some() => {
                self.lock = Lock::No;
            }
            (_, Err(Error::NotHolder))
                if self.pending_since.is_some() && !ledger.has_acknowledged(token) =>
            {
                self.lock = Lock::No;
                if !is_releasing {
                    ledger.discard(token)?;
                }
            }
            (Ask::Abort, Ok(_)) | (_, Err(Error::LeaseExpired)) => {
                ledger.discard(token)?;
                self.lock = Lock::No;
            }
            (_, Err(Error::NotHolder)) if is_releasing => self.lock = Lock::No,
            (_, Err(Error::NotHolder)) => {
                return Err(format!("{} is told that it never held {token}", self.client));
            }
            // Whether an earlier call lost it could not be found out in time.
            (Ask::Acquire(_), Err(Error::WouldBlock)) if believed == Some(token) => {}
            (Ask::Acquire(_), Err(Error::WouldBlock)) => {
                if !is_releasing && ledger.has_acknowledged(token) {
                    return Err(format!("{} is not told that {token} is lost", self.client));
                }
                if !is_releasing {
                    ledger.discard(token)?;
                }
                self.lock = Lock::No;
            }
            (Ask::Abort, Err(Error::TimedOut)) => {
                if !is_releasing {
                    ledger.discard(token)?;
                }
                self.lock = Lock::Unsure;
            }
            // Nothing was sent, or it was refused: all is as before.
            (Ask::Release, Err(Error::Unavailable | Error::Refused(_)))
                if self.fate_before == Fate::Open =>
            {
                ledger.reopen(token);
            }
            (Ask::Close, Err(Error::Unavailable | Error::Refused(_)))
                if self.fate_before == Fate::Open =>
            {
                ledger.discard(token)?;
            }
            (Ask::Release | Ask::Close, _) => {}
            (_, Err(Error::SessionLost)) if !is_releasing => {
                ledger.discard(token)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether such an answer may be given to such a call at all.
    fn judge(
        &self,
        ask: &Ask,
        result: &Result<Answer, Error>,
        ledger: &Ledger,
        circumstances: Circumstances,
    ) -> Verdict {
        let Circumstances { may_be_lost, was_full, is_calm, .. } = circumstances;
        let is_without_lock = self.lock == Lock::No;
        let is_releasing =
            matches!(self.lock, Lock::Held(token) if ledger.fate(token) == Fate::Releasing);
        let is_allowed = match (ask, result) {
            (Ask::Acquire(_), Ok(answer)) => matches!(answer, Answer::Granted(_)),
            (Ask::Read { .. }, Ok(answer)) => matches!(answer, Answer::Read { .. }),
            (Ask::Append { file: None, .. }, Ok(_)) => false,
            (Ask::Release, Ok(_)) => self.holds(),
            (Ask::Abort | Ask::Append { .. }, Ok(_)) => !is_without_lock,
            (_, Ok(_)) => true,
            (Ask::Append { file: None, .. }, Err(Error::FileNotFound)) => true,
            (Ask::Acquire(patience), Err(Error::WouldBlock)) => *patience != Patience::Forever,
            (Ask::Append { .. }, Err(Error::TooLarge)) => true,
            (Ask::Connect | Ask::Read { .. }, Err(Error::NotHolder | Error::LeaseExpired)) => false,
            (_, Err(Error::NotHolder)) => {
                !self.holds() || is_releasing || self.pending_since.is_some()
            }
            (_, Err(Error::LeaseExpired)) => true,
            (_, Err(Error::TimedOut | Error::Unavailable)) => !is_calm,
            (Ask::Connect, Err(Error::SessionLost)) => false,
            (_, Err(Error::SessionLost)) => may_be_lost,
            (_, Err(Error::Refused(_))) => was_full,
            _ => false,
        };
        if is_allowed {
            return Ok(());
        }
        Err(format!("{} called {} and got {result:?}, which cannot be", self.client, ask.name()))
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

impl Ask {
    pub fn as_call(&self) -> Call<'_> {
        match self {
            Ask::Connect => Call::Connect,
            Ask::Acquire(patience) => Call::Acquire(*patience),
            Ask::Append { name, data, .. } => Call::Append { file: name.as_bytes(), data },
            Ask::Release => Call::Release,
            Ask::Abort => Call::Abort,
            Ask::Renew => Call::Renew,
            Ask::Read { file, offset } => {
                Call::Read { file: FILES[*file].as_bytes(), offset: *offset, max: READ }
            }
            Ask::Close => Call::Close,
        }
    }

    /// The call for people.
    pub fn name(&self) -> String {
        match self {
            Ask::Connect => "init".into(),
            Ask::Acquire(Patience::Forever) => "acquire".into(),
            Ask::Acquire(Patience::Try) => "try".into(),
            Ask::Acquire(Patience::Until(_)) => "acquire with timeout".into(),
            Ask::Append { name, data, .. } => format!("append {} to {name}", data.len()),
            Ask::Release => "release".into(),
            Ask::Abort => "abort".into(),
            Ask::Renew => "renew".into(),
            Ask::Read { file, .. } => format!("read file_{file}"),
            Ask::Close => "close".into(),
        }
    }
}

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

const FILES: [&str; 4] = ["file_0", "file_1", "file_2", "file_3"];
const READ: u32 = 1024;
