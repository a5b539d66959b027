//! [`Machine::apply`]: the only mutation.

use super::lock::Piece;
use super::{
    Answer, Ask, Change, Command, Effect, Evicted, FIRST_REQUEST, Holder, Machine, Section, Session,
};
use crate::machine::history::Happening;
use crate::mutant;
use crate::protocol::inspect::RecordKind;
use crate::protocol::{ClientInfo, Reason, Status};
use crate::types::{Attempt, FencingToken, RequestNumber, SessionId};

/// A request as `apply` passes it on.
struct Turn<'a> {
    session: SessionId,
    attempt: Attempt,
    token: FencingToken,
    skip: &'a [SessionId],
}

impl Machine {
    /// Runs a committed command and adds what follows from it to `effects`.
    pub fn apply(&mut self, command: &Command, effects: &mut Vec<Effect>) {
        let is_back = mutant::is("time_goes_back");
        self.now_ms = if is_back { command.now_ms } else { self.now_ms.max(command.now_ms) };
        match &command.change {
            Change::Boot { epoch, files, records, lease_ms } => {
                self.history.keep(*records);
                self.set_lease(*lease_ms);
                self.boot(*epoch, *files);
            }
            Change::Lease { lease_ms } => self.set_lease(*lease_ms),
            Change::Register { nonce, attempt, client } => {
                self.register(*nonce, *attempt, client, effects);
            }
            Change::Request { session, number, attempt, lock: _, token, ask } => {
                let turn = Turn {
                    session: *session,
                    attempt: *attempt,
                    token: *token,
                    skip: &command.skip,
                };
                self.request(&turn, *number, ask, effects);
            }
            Change::Expire { lock: _, session, token, is_skipped } => {
                if self.lock.held_by(*session, *token).is_some() {
                    let (kind, reason) = match *is_skipped && !mutant::is("skipped_as_expired") {
                        true => (RecordKind::Skipped, Reason::Skipped),
                        false => (RecordKind::Expired, Reason::None),
                    };
                    self.take_back(kind, reason, None);
                    self.pass_on(&command.skip, effects);
                }
            }
            Change::Evict { session, last, why } => {
                self.evict(*session, *last, *why, &command.skip, effects);
            }
        }
    }

    /// Who holds the lock goes on with what its client may have been told before.
    fn set_lease(&mut self, lease_ms: u64) {
        self.lease_ms = lease_ms;
        if let Some(holder) = &mut self.lock.holder {
            holder.lease_ms = holder.lease_ms.max(lease_ms);
        }
    }

    fn boot(&mut self, epoch: u64, files: u32) {
        let first = self.begin_epoch(epoch);
        self.files = self.files.max(files);
        if !mutant::is("sessions_without_epoch") {
            self.last_session = SessionId(self.last_session.0.max(first));
        }
        if !mutant::is("tokens_without_epoch") {
            self.last_token = FencingToken(self.last_token.0.max(first));
        }
        self.record(RecordKind::Started, SessionId(0), FencingToken(0), 0);
    }

    fn register(
        &mut self,
        nonce: u64,
        attempt: Attempt,
        client: &ClientInfo,
        effects: &mut Vec<Effect>,
    ) {
        // Proposed twice when a duplicate came before the first was applied.
        if self.nonces.contains_key(&nonce) && !mutant::is("registered_twice") {
            return;
        }
        let id = SessionId(self.last_session.0 + 1);
        self.last_session = id;
        let session = Session {
            nonce,
            // The low bits of the session, never 0, within a C int.
            client_id: ((id.0 - 1) % u64::from(i32::MAX as u32)) as u32 + 1,
            client: client.clone(),
            last: FIRST_REQUEST,
            attempt,
            answer: Answer::Connected,
            ticket: None,
            lost: None,
        };
        self.sessions.insert(id, session);
        self.nonces.insert(nonce, id);
        effects.push(Effect::Registered { nonce, session: id });
        effects.push(Effect::Answer { session: id, is_stable: false });
    }

    fn request(
        &mut self,
        turn: &Turn<'_>,
        number: RequestNumber,
        ask: &Ask,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(&turn.session) else { return };
        let next = session.last.next();
        // A cancel may overtake the acquire that it cancels; anything else comes in its turn, or
        // is a duplicate that was proposed before the first was applied.
        let is_due = number == next
            || (*ask == Ask::Cancel && number == next.next())
            || (number == session.last && mutant::is("duplicate_executed"))
            || (number == session.last
                && mutant::is("append_doubled")
                && matches!(ask, Ask::Stage { .. }))
            || (number == next.next() && mutant::is("gap_accepted"));
        if !is_due || session.is_closed() {
            return;
        }
        // Whoever asks for something else has stopped waiting.
        let is_kept =
            mutant::is("waiter_kept") || (*ask == Ask::Cancel && mutant::is("cancel_keeps_place"));
        if !matches!(ask, Ask::Acquire { try_only: false }) && !is_kept {
            self.leave(turn.session);
        }
        let mut is_stable = false;
        let answer = match ask {
            Ask::Acquire { try_only } => self.acquire(turn, *try_only, effects),
            Ask::Cancel => {
                if self.holds(turn.session) && !mutant::is("cancel_keeps_lock") {
                    self.give_back(RecordKind::Cancelled);
                    self.pass_on(turn.skip, effects);
                }
                Answer::Done
            }
            Ask::Stage { file, total, offset, data } => {
                let (file, total, offset) = (*file, *total, *offset);
                self.stage(turn, &Piece { attempt: turn.attempt, file, total, offset, data })
            }
            Ask::Release | Ask::Abort => {
                let refusal = self.refusal(turn);
                is_stable = *ask == Ask::Release;
                let kind = if is_stable { RecordKind::Released } else { RecordKind::Aborted };
                match self.take_section(turn, kind) {
                    None => {
                        is_stable = false;
                        refusal
                    }
                    Some(section) => {
                        let kept = mutant::is("aborted_goes_on").then(|| section.clone());
                        if is_stable || mutant::is("abort_publishes") {
                            effects.push(Effect::Publish(section.into_parts()));
                        }
                        self.pass_on(turn.skip, effects);
                        if let (Some(section), Some(holder)) = (kept, &mut self.lock.holder)
                            && !is_stable
                        {
                            holder.section = section;
                        }
                        Answer::Done
                    }
                }
            }
            Ask::Close
                if turn.token.0 > 0 && self.lock.held_by(turn.session, turn.token).is_none() =>
            {
                self.refusal(turn)
            }
            Ask::Close => {
                if let Some(section) = self.take_section(turn, RecordKind::Released) {
                    is_stable = true;
                    effects.push(Effect::Publish(section.into_parts()));
                    self.pass_on(turn.skip, effects);
                } else if self.holds(turn.session) {
                    // Held under a token that the client never saw: nothing of its making.
                    self.give_back(RecordKind::Cancelled);
                    self.pass_on(turn.skip, effects);
                }
                Answer::Disconnected
            }
            Ask::Revoke { token, reason } => {
                // A power loss must not give the lock back to whom an operator was told has lost it.
                is_stable = !mutant::is("revoke_not_stable");
                self.revoke(turn, *token, reason, effects)
            }
        };
        if let Some(session) = self.sessions.get_mut(&turn.session) {
            session.last = number;
            if !mutant::is("attempt_not_kept") {
                session.attempt = turn.attempt;
            }
            session.answer = answer;
        }
        effects.push(Effect::Answer { session: turn.session, is_stable });
    }

    fn acquire(&mut self, turn: &Turn<'_>, try_only: bool, effects: &mut Vec<Effect>) -> Answer {
        if self.lock.held_by(turn.session, turn.token).is_some() {
            return Answer::Granted(turn.token);
        }
        if self.holds(turn.session) {
            // The client has been told that this lock is lost, and a crash took the entry by which
            // it was. What was appended under it must not become part of what follows.
            self.give_back(RecordKind::Expired);
            self.pass_on(turn.skip, effects);
        }
        if self.lock.holder.is_some() || try_only && mutant::is("try_refused") {
            if try_only && !mutant::is("try_waits") {
                return Answer::Refused(Status::WouldBlock, Reason::None);
            }
            let Some(session) = self.sessions.get_mut(&turn.session) else {
                return Answer::Refused(Status::SessionLost, Reason::None);
            };
            if session.ticket.is_none() || mutant::is("queued_twice") {
                session.ticket = Some(self.lock.enqueue(turn.session, self.now_ms));
            }
            return Answer::Waiting;
        }
        Answer::Granted(self.grant(turn.session))
    }

    fn stage(&mut self, turn: &Turn<'_>, piece: &Piece<'_>) -> Answer {
        let refusal = self.refusal(turn);
        match self.lock.held_by(turn.session, turn.token) {
            None => refusal,
            Some(holder) if !holder.section.accepts(piece) => {
                Answer::Refused(Status::InvalidArgument, Reason::None)
            }
            Some(holder) => {
                holder.section.stage(piece);
                Answer::Done
            }
        }
    }

    fn evict(
        &mut self,
        id: SessionId,
        last: RequestNumber,
        why: Evicted,
        skip: &[SessionId],
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let is_busy =
            session.ticket.is_some() || (self.holds(id) && !mutant::is("evicted_holding"));
        if session.last != last || (why == Evicted::Idle && is_busy) {
            return;
        }
        if session.ticket.is_some() && !mutant::is("evicted_not_recorded") {
            self.record(RecordKind::Evicted, id, FencingToken(0), 0);
        }
        if !mutant::is("evicted_keeps_place") {
            self.leave(id);
        }
        if self.holds(id) {
            self.give_back(RecordKind::Evicted);
            self.pass_on(skip, effects);
        }
        if let Some(session) = self.sessions.remove(&id)
            && !mutant::is("nonce_kept")
        {
            self.nonces.remove(&session.nonce);
        }
        effects.push(Effect::Ended { session: id });
    }

    /// Gives the free lock to a session.
    fn grant(&mut self, id: SessionId) -> FencingToken {
        self.last_token = FencingToken(self.last_token.0 + u64::from(!mutant::is("token_reused")));
        let token = self.last_token;
        self.lock.holder = Some(Holder {
            session: id,
            token,
            since_ms: self.now_ms,
            lease_ms: self.lease_ms,
            section: Section::default(),
        });
        if let Some(session) = self.sessions.get_mut(&id) {
            session.lost = None;
        }
        self.record(RecordKind::Granted, id, token, 0);
        token
    }

    /// Gives the free lock to the first waiter that is not to be skipped.
    fn pass_on(&mut self, skip: &[SessionId], effects: &mut Vec<Effect>) {
        while let Some(id) = self.lock.pop() {
            let is_skipped = skip.contains(&id);
            let token = if is_skipped { FencingToken(0) } else { self.grant(id) };
            if is_skipped {
                self.record(RecordKind::Skipped, id, token, 0);
            }
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if !mutant::is("turn_keeps_ticket") {
                session.ticket = None;
            }
            if is_skipped && mutant::is("skipped_not_told") {
                continue;
            }
            if is_skipped {
                session.answer = Answer::Refused(Status::LeaseExpired, Reason::Skipped);
                continue;
            }
            session.answer = Answer::Granted(token);
            effects.push(Effect::Turn { session: id, token });
            return;
        }
    }

    /// Takes the lock from its holder and discards the section; `by` tells whom a revocation
    /// comes from, and why.
    fn take_back(&mut self, kind: RecordKind, reason: Reason, by: Option<(SessionId, &str)>) {
        let Some(holder) = self.lock.holder.take() else { return };
        if !mutant::is("history_forgets") {
            let is_forgotten = mutant::is("discarded_not_counted");
            let bytes = if is_forgotten { 0 } else { holder.section.bytes() };
            self.record_by(kind, holder.session, holder.token, bytes, by);
        }
        if let Some(session) = self.sessions.get_mut(&holder.session) {
            if !mutant::is("loss_not_kept") {
                let is_blamed = mutant::is("operators_blamed");
                let told = if is_blamed { Reason::Revoked } else { reason };
                session.lost = Some((holder.token, told));
            }
            // If the client has not seen the grant, it must not believe in it later.
            if session.answer == Answer::Granted(holder.token) && !mutant::is("unseen_grant_kept") {
                session.answer = Answer::Refused(Status::LeaseExpired, reason);
            }
        }
    }

    /// The section of the session that acts under its token; the lock is free then.
    fn take_section(&mut self, turn: &Turn<'_>, kind: RecordKind) -> Option<Section> {
        self.lock.held_by(turn.session, turn.token)?;
        self.give_back(kind)
    }

    /// Frees the lock; the section is what its holder had staged.
    fn give_back(&mut self, kind: RecordKind) -> Option<Section> {
        let holder = self.lock.holder.take()?;
        // What is still in pieces is not published.
        let bytes = match kind {
            RecordKind::Released if !mutant::is("history_counts_half") => {
                holder.section.whole_bytes()
            }
            _ => holder.section.bytes(),
        };
        self.record(kind, holder.session, holder.token, bytes);
        Some(holder.section)
    }

    fn revoke(
        &mut self,
        turn: &Turn<'_>,
        token: FencingToken,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        // Given back since it was admitted.
        let is_it = |holder: &Holder| holder.token == token || mutant::is("anybody_revoked");
        if !self.lock.holder.as_ref().is_some_and(is_it) {
            return Answer::Refused(Status::Refused, Reason::NotHeld);
        }
        if mutant::is("revoke_publishes")
            && let Some(holder) = &self.lock.holder
        {
            effects.push(Effect::Publish(holder.section.clone().into_parts()));
        }
        let by = match &self.lock.holder {
            Some(holder) if mutant::is("revoked_by_holder") => holder.session,
            _ => turn.session,
        };
        self.take_back(RecordKind::Revoked, Reason::Revoked, Some((by, reason)));
        self.pass_on(turn.skip, effects);
        Answer::Done
    }

    fn record(&mut self, kind: RecordKind, id: SessionId, token: FencingToken, bytes: u64) {
        self.record_by(kind, id, token, bytes, None);
    }

    fn record_by(
        &mut self,
        kind: RecordKind,
        id: SessionId,
        token: FencingToken,
        bytes: u64,
        by: Option<(SessionId, &str)>,
    ) {
        let nobody = ClientInfo::default();
        let client = |id| self.sessions.get(&id).map_or(&nobody, |session| &session.client);
        self.history.record(&Happening {
            at_ms: self.now_ms,
            kind,
            token,
            session: id,
            client: client(id),
            bytes,
            revocation: by.map(|(by, reason)| (by, client(by), reason)),
        });
    }

    fn leave(&mut self, id: SessionId) {
        let ticket = self.sessions.get_mut(&id).and_then(|session| session.ticket.take());
        if let Some(ticket) = ticket {
            self.lock.leave(ticket);
        }
    }

    fn holds(&self, id: SessionId) -> bool {
        self.lock.holder.as_ref().is_some_and(|holder| holder.session == id)
    }

    /// What a session is told that acts under a token that is not the holder's.
    fn refusal(&self, turn: &Turn<'_>) -> Answer {
        let (status, reason) = match self.sessions.get(&turn.session) {
            Some(session) => session.refusal(turn.token),
            None => (Status::SessionLost, Reason::None),
        };
        Answer::Refused(status, reason)
    }
}
