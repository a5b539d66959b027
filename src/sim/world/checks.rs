//! What is compared across clients and server: whom a handover concerns, and what must be left in the
//! end.

use super::{Stage, Verdict, World};
use crate::limits::{FRESH_MS, SILENCE_GRACE_MS, TURN_MS_MAX};
use crate::protocol::inspect::RecordKind;
use crate::sim::history;
use crate::sim::ledger::Fate;
use crate::sim::observe::{Cause, Handover};
use crate::sim::program::Ask;
use crate::sim::server::Crash;
use crate::sim::story::What;

impl World {
    pub(super) fn start_server(&mut self) -> Verdict {
        if self.server.is_running() {
            return Ok(());
        }
        let newest = self.server.observer.newest_token();
        let step = self.server.start(&mut self.context, &mut self.ledger)?;
        if !self.server.is_running() {
            return Ok(());
        }
        let holder = self.server.observer.holder().map(|(_, token)| token);
        self.ledger.forget_waiting(self.context.now);
        if self.power_losses < self.context.power_losses {
            self.power_losses = self.context.power_losses;
            self.voided = newest;
            self.survivor = holder;
            self.ledger.note_power_loss(newest, holder);
        }
        self.held_since = self.context.now;
        self.is_turn = false;
        self.tell_holder();
        for client in &self.clients {
            if let Some(token) = client.token()
                && Some(token) != holder
            {
                self.check_belief(token, "the restarted server does not know it")?;
            }
        }
        step.map_or(Ok(()), |handover| self.check_handover(handover))
    }

    pub(super) fn check_handover(&mut self, handover: Handover) -> Verdict {
        self.tell_holder();
        self.check_kind(&handover)?;
        self.held_since = self.context.now;
        self.is_turn = handover.to.is_some_and(|(id, _)| handover.cause != Cause::Request(id));
        self.check_wanted(&handover)?;
        for skipped in &handover.skipped {
            let silent_since = self.server.asked(*skipped);
            let silent_since = silent_since.unwrap_or(self.server.serves_since());
            if self.context.now + 1_000 < silent_since + SILENCE_GRACE_MS * 1000 {
                return Err(format!("session {skipped} is passed over, but was not silent"));
            }
        }
        let Some((session, token)) = handover.from else { return Ok(()) };
        if handover.is_revoked {
            // Its client learns it with the next answer; until then the token is its only fence.
            self.excused.insert(token);
            return Ok(());
        }
        // A waiter that never asked whether its turn has come may be gone.
        if !handover.was_wanted && self.ledger.client_of(token).is_some() {
            return Err(format!("session {session} lost the lock, but nobody waited"));
        }
        if handover.cause == Cause::Time
            && let Some(client) = self.ledger.client_of(token)
        {
            self.context.story.tell(self.context.now, || What::LeaseOver { client, token });
        }
        if let Some(client) = self.ledger.client_of(token)
            && handover.cause == Cause::Request(session)
            && (self.clients[client].had_power_loss(&self.context)
                || self.clients[client].may_contradict(&self.context))
        {
            // It asks for what a power loss took, or a late copy of a refused call has done: its
            // session is lost, as it learns at once.
            self.excused.insert(token);
            return Ok(());
        }
        self.check_belief(token, "the server took it away")
    }

    /// The history tells whether time took the lock from a holder, or from a waiter that was called
    /// and did not answer.
    fn check_kind(&self, handover: &Handover) -> Verdict {
        let Some((session, token)) = handover.from else { return Ok(()) };
        let machine = self.server.machine().filter(|_| handover.cause == Cause::Time);
        let (Some(machine), Some(heard)) = (machine, self.server.heard(session)) else {
            return Ok(());
        };
        let since = self.held_since;
        let was_called = self.is_turn && heard + FRESH_MS * 1000 + 1_000 < since;
        let history = machine.history();
        let (_, mut newest) = history.from(history.newest().saturating_sub(10));
        let ends = [RecordKind::Expired, RecordKind::Skipped];
        let end = newest.find(|one| one.token.0 == token && ends.contains(&one.kind));
        match end.map(|record| record.kind) {
            Some(RecordKind::Expired) if was_called && since > self.server.serves_since() => {
                Err(format!("session {session} did not answer, and is said to have held {token}"))
            }
            Some(RecordKind::Skipped) if heard > since => {
                Err(format!("session {session} held {token}, and is said not to have answered"))
            }
            _ => Ok(()),
        }
    }

    /// Nobody is given the lock who does not want it.
    fn check_wanted(&self, handover: &Handover) -> Verdict {
        let session = handover.to.and_then(|(id, _)| self.server.machine()?.session(id));
        let Some(session) = session else { return Ok(()) };
        let client = &self.clients[session.client.pid as usize];
        // A power loss may bring back the time when it did.
        let was_reset =
            client.had_power_loss(&self.context) || client.may_contradict(&self.context);
        let is_there = client.is_up() && client.program.is_connected();
        let is_other = !is_there || client.nonce != session.nonce;
        if is_other || was_reset || client.program.may_wait() {
            return Ok(());
        }
        Err(format!("client {} is given the lock without asking for it", client.id))
    }

    /// While somebody waits, nobody keeps the lock longer than the lease that began when it was
    /// heard last, or the time to ask when its turn has come.
    pub(super) fn check_lease(&self) -> Verdict {
        if !self.server.is_watching() {
            return Ok(());
        }
        let Some((session, token)) = self.server.observer.holder() else { return Ok(()) };
        let since = self.held_since.max(self.server.serves_since());
        let lease_ms = self.leases.of(token);
        let (from, ms) = match self.server.heard(session) {
            Some(heard) if heard > since => (heard, lease_ms),
            Some(heard) if self.is_turn && heard + FRESH_MS * 1000 + 1_000 < since => {
                (since, TURN_MS_MAX.min(lease_ms / 2))
            }
            _ => (since, lease_ms),
        };
        let over = from + ms * 1000;
        if self.context.now <= over + LEASE_SLACK_US {
            return Ok(());
        }
        let late = self.context.now - over;
        Err(format!("session {session} keeps the lock under {token}, {late} us after its time"))
    }

    /// Between two calls, with nothing left unanswered, a client that does not believe to hold the
    /// lock does not hold it: nobody would ever give it back.
    fn check_idle(&self, client: usize) -> Verdict {
        let client = &self.clients[client];
        let Some((id, token)) = self.server.observer.holder() else { return Ok(()) };
        let session = self.server.machine().and_then(|machine| machine.session(id));
        let is_excused = client.had_power_loss(&self.context)
            || client.may_contradict(&self.context)
            || self.ledger.fate(token) == Fate::Releasing;
        if session.is_none_or(|session| session.nonce != client.nonce)
            || !(client.is_idle() && client.program.is_connected())
            || client.token().is_some()
            || is_excused
        {
            return Ok(());
        }
        Err(format!("client {} does not know that it holds the lock under {token}", client.id))
    }

    /// A client was told that it has the lock: it does.
    pub(super) fn check_told(&mut self, client: usize) -> Verdict {
        self.check_idle(client)?;
        let Some((_, token)) = self.context.told_grant.take() else { return Ok(()) };
        match self.server.observer.holder() {
            Some((_, held)) if held == token => Ok(()),
            _ => self.check_belief(token, "it is told so only now, but it is not so any more"),
        }
    }

    /// The lock is not held under this token any more: its client must not believe that it is.
    fn check_belief(&self, token: u64, why: &str) -> Verdict {
        let Some(client) = self.ledger.client_of(token) else { return Ok(()) };
        let client = &self.clients[client];
        let is_void =
            (token <= self.voided && self.survivor != Some(token)) || self.excused.contains(&token);
        let is_giving_back = matches!(client.program.asked(), Some(Ask::Abort | Ask::Close))
            || self.ledger.fate(token) != Fate::Open;
        let until = client.believes_until(token);
        if is_void || is_giving_back || until <= self.context.now {
            return Ok(());
        }
        Err(format!(
            "client {} believes that it holds the lock for another {} us under token {token}, but \
             {why}",
            client.id,
            until - self.context.now
        ))
    }

    fn tell_holder(&mut self) {
        let Some(machine) = self.server.machine() else { return };
        let holder = machine.lock().holder.as_ref();
        let client = holder.and_then(|holder| machine.session(holder.session));
        let what = What::Holder {
            client: client.map(|session| session.client.pid as usize),
            token: holder.map_or(0, |holder| holder.token.0),
            waiters: machine.lock().waiters().count(),
        };
        self.context.story.tell(self.context.now, || what);
    }

    /// Everybody has gone: nothing may be left but the files.
    pub(super) fn finish(&mut self) -> Verdict {
        self.stage = Stage::Over;
        let machine = self.server.machine().ok_or("the server is not there in the end")?;
        let (sessions, lock) = (machine.sessions().count(), machine.lock());
        if sessions > 0 || lock.holder.is_some() || lock.is_waited_for() {
            return Err(format!("in the end there are {sessions} sessions, and {lock:?}"));
        }
        let remembered = self.server.remembered();
        if remembered > 0 {
            return Err(format!("in the end {remembered} things are remembered of nobody"));
        }
        history::check(machine.history(), &self.ledger.published())?;
        self.ledger.check_history(machine.history())?;
        self.server.see_files(true, &mut self.ledger)?;
        self.server.crash(Crash::Power, &mut self.context);
        self.server.start(&mut self.context, &mut self.ledger)?;
        self.server.check_log_is_short()?;
        self.ledger.close()
    }
}

/// What deadlines and threads may be late.
const LEASE_SLACK_US: u64 = 8_000;
