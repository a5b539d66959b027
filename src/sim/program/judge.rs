//! What a program learns from the answer to its call, and whether it may be told such a thing.

use super::{Ask, Circumstances, Lock, Program, Verdict};
use crate::client::Error;
use crate::client::call::{Answer, Patience};
use crate::protocol::Reason;
use crate::sim::ledger::{Fate, Ledger, Told};

impl Program {
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
        self.judge(&ask, result, ledger, circumstances, (invoked, now))?;
        self.operated(&ask, result, data, ledger, (invoked, now))?;
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
        let is_open = match result {
            Err(Error::TimedOut | Error::Unavailable) => true,
            // It ran out of time before it came to anything of its own.
            Err(Error::WouldBlock) => circumstances.is_unanswered && self.pending_since.is_some(),
            _ => false,
        };
        self.settle(&ask, result, ledger, circumstances, is_open)?;
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
        circumstances: Circumstances,
        is_open: bool,
    ) -> Verdict {
        let Lock::Held(token) = self.lock else {
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
            // What was given back or lost may be what an acquire brought that had timed out.
            (Ask::Abort, Ok(_)) | (_, Err(Error::LeaseExpired))
                if is_releasing && self.pending_since.is_some() =>
            {
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
            // Whether an earlier call lost it could not be found out in time, or has been and is told
            // once that call is settled.
            (Ask::Acquire(_), Err(Error::WouldBlock))
                if circumstances.token == Some(token) || circumstances.is_unanswered => {}
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
                ledger.reopen(token, matches!(result, Err(Error::Refused(_))));
            }
            (Ask::Close, Err(Error::Unavailable | Error::Refused(_)))
                if self.fate_before == Fate::Open =>
            {
                ledger.reopen(token, matches!(result, Err(Error::Refused(_))));
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
        (invoked, now): (u64, u64),
    ) -> Verdict {
        let Circumstances { may_be_lost, full_until, is_calm, is_unanswered, crowded, .. } =
            circumstances;
        let Circumstances { data_limit, section_limit, is_revoked, .. } = circumstances;
        // The call may go on with what an earlier one asked for.
        let since = self.pending_since.unwrap_or(invoked);
        let was_lately = |at: Option<u64>| at.is_some_and(|at| at >= since);
        let is_without_lock = self.lock == Lock::No;
        let is_releasing =
            matches!(self.lock, Lock::Held(token) if ledger.fate(token) == Fate::Releasing);
        let is_allowed = match (ask, result) {
            (Ask::Acquire(_), Ok(answer)) => matches!(answer, Answer::Granted(_)),
            (Ask::Read { .. }, Ok(answer)) => matches!(answer, Answer::Read { .. }),
            (Ask::Inspect { .. }, Ok(answer)) => matches!(answer, Answer::Page { .. }),
            (Ask::Append { file: None, .. }, Ok(_)) => false,
            (Ask::Release, Ok(_)) => self.holds(),
            (Ask::Abort | Ask::Append { .. }, Ok(_)) => !is_without_lock,
            (Ask::Renew, Ok(_)) => {
                let token = if let Lock::Held(token) = self.lock { token } else { 0 };
                self.pending_since.is_some() || ledger.was_holder(token, invoked)
            }
            (_, Ok(_)) => true,
            (Ask::Append { file: None, .. }, Err(Error::FileNotFound)) => true,
            (Ask::Acquire(patience), Err(Error::WouldBlock)) => match patience {
                Patience::Forever => false,
                Patience::Try => is_unanswered || ledger.was_held(since),
                Patience::Until(until) => *until <= circumstances.clock,
            },
            (Ask::Append { .. }, Err(Error::TooLarge)) => {
                matches!(self.lock, Lock::Held(token) if ledger.staged_at_most(token) > section_limit)
            }
            (
                Ask::Connect | Ask::Read { .. } | Ask::Inspect { .. } | Ask::Revoke { .. },
                Err(Error::NotHolder | Error::LeaseExpired),
            ) => false,
            (Ask::Revoke { .. }, Err(Error::Refused(Reason::NotHeld))) => true,
            (_, Err(Error::NotHolder)) => {
                !self.holds() || is_releasing || self.pending_since.is_some()
            }
            (_, Err(Error::LeaseExpired)) => match self.lock {
                Lock::Held(token) if is_revoked => ledger.may_be_revoked(token),
                _ => true,
            },
            (_, Err(Error::TimedOut | Error::Unavailable)) => !is_calm,
            (Ask::Connect, Err(Error::SessionLost)) => false,
            (_, Err(Error::SessionLost)) => may_be_lost,
            (_, Err(Error::Refused(Reason::NoSpace))) => {
                full_until.is_some_and(|until| until.saturating_add(ROOM_SEEN_US) >= since)
            }
            (Ask::Connect, Err(Error::Refused(Reason::TooManySessions))) => {
                was_lately(crowded.sessions)
            }
            (Ask::Acquire(_), Err(Error::Refused(Reason::TooManyWaiters))) => {
                was_lately(crowded.waiters)
            }
            (Ask::Append { .. }, Err(Error::Refused(Reason::DataLimit))) => {
                ledger.bytes_at_most() > data_limit
            }
            _ => false,
        };
        let longest = match ask {
            Ask::Acquire(Patience::Forever) => None,
            // Until then, or until it is cancelled.
            Ask::Acquire(Patience::Until(until)) => {
                Some(circumstances.clock.saturating_sub(*until))
            }
            _ => Some(now - invoked),
        };
        if is_calm && longest.is_some_and(|waited| waited > circumstances.prompt_us) {
            return Err(format!("{} called {} at {invoked} and waited", self.client, ask.name()));
        }
        if is_allowed {
            return Ok(());
        }
        Err(format!("{} called {} and got {result:?}, which cannot be", self.client, ask.name()))
    }
}

/// By then a server has seen that there is room again.
const ROOM_SEEN_US: u64 = 1_500_000;
