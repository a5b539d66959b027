//! Who was heard when, and what is due: everything about time and addresses, none of which
//! outlives a restart. Pure: the time is an argument, in milliseconds of a clock that never goes
//! back.

use crate::limits::{FRESH_MS, LINGER_MS, SILENCE_GRACE_MS, TURN_MS_MAX, TURN_REPEAT_MS};
use crate::mutant;
use crate::protocol::{Reason, Status};
use crate::types::{Attempt, FencingToken, LogIndex, Millis, SessionId, Stamp, Ticket};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;

/// What is known of a session that has been heard since the start.
#[derive(Clone, Copy, Debug)]
pub struct Contact {
    pub addr: SocketAddr,
    /// Of its newest transmission.
    pub stamp: Stamp,
    /// Its newest call.
    pub attempt: Attempt,
    /// The last call that was answered without taking its number, and what a duplicate is told
    /// that would take it.
    settled: Option<(Attempt, Status, Reason)>,
    heard: Millis,
    /// By when it is to be heard again while it waits.
    ask_by: Millis,
    /// The ticket under which it waits, and since when, in microseconds.
    waits: Option<(Ticket, u64)>,
    /// The last entry of the log that changed something for it, and whether what it is told of
    /// that must be stable.
    pub touched: LogIndex,
    pub needs_stable: bool,
}

/// The grant that is in force.
#[derive(Clone, Copy, Debug)]
struct Hold {
    session: SessionId,
    token: FencingToken,
    /// When its lease began last, and when that is over.
    since: Millis,
    until: Millis,
    /// The holder was told of its turn and has not been heard since, so it may not know: when to
    /// tell it again, and how long after that once more.
    reminder: Option<(Millis, u64)>,
    /// It is granted only when it asks, and passed over if it does not.
    must_ask: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Hold,
    Retry,
    Idle(SessionId),
}

/// Something whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The holder's time is over, if anybody waits.
    Over { session: SessionId, token: FencingToken, is_skipped: bool },
    /// Tell the holder again that its turn has come, or that it is granted.
    Remind(SessionId),
    /// Nothing was heard of the session for its time to live.
    Idle(SessionId),
    /// Try again what found no space on the disk.
    Retry,
}

/// Spreads numbers of sessions. The server gives them, so nobody can choose some that meet, and the
/// standard hash, which guards against that, costs a tenth of a section's instructions.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub struct Watch {
    lease: u64,
    session_ttl: u64,
    contacts: HashMap<SessionId, Contact, BuildHasherDefault<Spread>>,
    /// The last entry that changed something for anybody.
    last_touched: LogIndex,
    /// By when waiters are to be heard that have not been heard since the start.
    all_ask_by: Millis,
    /// Sessions that have not been heard are idle since then.
    serves_since: Millis,
    hold: Option<Hold>,
    deadlines: BTreeSet<(Millis, Due)>,
    hold_armed: Option<Millis>,
}

impl Watch {
    pub fn new(lease_ms: u64, session_ttl_ms: u64) -> Self {
        Watch {
            lease: lease_ms,
            session_ttl: session_ttl_ms,
            contacts: HashMap::default(),
            last_touched: LogIndex(0),
            all_ask_by: Millis(0),
            serves_since: Millis(0),
            hold: None,
            deadlines: BTreeSet::new(),
            hold_armed: None,
        }
    }

    /// How long leases last.
    pub fn lease(&self) -> u64 {
        self.lease
    }

    /// Changes how long leases and idle sessions last. A lease that runs is never cut short, and a
    /// longer one is given to the holder at once: what clients are told must not exceed it.
    pub fn set_times(&mut self, lease_ms: u64, session_ttl_ms: u64) {
        // Who has not asked yet is told of no lease.
        let is_forgotten = mutant::is("longer_lease_not_given");
        if self.hold.is_some_and(|hold| !hold.must_ask) && !is_forgotten {
            self.hold_for(lease_ms);
        }
        self.lease = lease_ms;
        self.session_ttl = session_ttl_ms;
    }

    /// Begins to watch a session.
    pub fn begin(&mut self, session: SessionId, now: Millis) {
        self.deadlines.insert((after(now, self.session_ttl), Due::Idle(session)));
    }

    /// A datagram of this session has arrived; returns its newest call. Late duplicates, older
    /// than what was heard, say nothing about it.
    pub fn hear(
        &mut self,
        session: SessionId,
        addr: SocketAddr,
        stamp: Stamp,
        attempt: Attempt,
        now: Millis,
    ) -> Attempt {
        let mut is_new = false;
        // What has changed for it while nothing was known of it is one of these entries at latest.
        let touched =
            if mutant::is("unheard_touch_forgotten") { LogIndex(0) } else { self.last_touched };
        let contact = self.contacts.entry(session).or_insert_with(|| {
            is_new = true;
            Contact {
                addr,
                stamp,
                attempt,
                settled: None,
                heard: now,
                ask_by: now,
                waits: None,
                touched,
                needs_stable: false,
            }
        });
        if is_new || stamp > contact.stamp || mutant::is("duplicates_renew") {
            contact.addr = if mutant::is("address_kept") { contact.addr } else { addr };
            contact.stamp = stamp;
            contact.heard = now;
            let is_its = |hold: &&mut Hold| hold.session == session || mutant::is("anyone_renews");
            if let Some(hold) = self.hold.as_mut().filter(is_its) {
                if !mutant::is("lease_not_renewed") {
                    // It may have been given for longer, by settings that were changed since.
                    let is_cut = mutant::is("shorter_lease_at_once");
                    let least = if is_cut { Millis(0) } else { hold.until };
                    hold.until = least.max(lease_end(now, self.lease));
                    hold.since = now;
                }
                hold.reminder = None;
                hold.must_ask = false;
            }
        }
        if contact.attempt.is_before(attempt) {
            contact.attempt = attempt;
        }
        contact.attempt
    }

    /// How many sessions have been heard and not been forgotten.
    pub fn contacts(&self) -> usize {
        self.contacts.len()
    }

    pub fn contact(&self, session: SessionId) -> Option<&Contact> {
        self.contacts.get(&session)
    }

    /// A call was answered without taking its number; `why` is what a duplicate of it is told from
    /// now on if it would change something.
    pub fn settle(&mut self, session: SessionId, attempt: Attempt, why: (Status, Reason)) {
        if let Some(contact) = self.contacts.get_mut(&session) {
            contact.settled = Some((attempt, why.0, why.1));
        }
    }

    /// What is told to a duplicate of this call, if it was settled.
    pub fn settled(&self, session: SessionId, attempt: Attempt) -> Option<(Status, Reason)> {
        let (settled, status, reason) = self.contacts.get(&session)?.settled?;
        (settled == attempt).then_some((status, reason))
    }

    /// Entry `index` changed something for this session.
    pub fn touch(&mut self, session: SessionId, index: LogIndex, needs_stable: bool) {
        self.last_touched = index;
        if let Some(contact) = self.contacts.get_mut(&session) {
            contact.touched = index;
            contact.needs_stable = needs_stable;
        }
    }

    /// A waiter was told to ask again after this many milliseconds.
    /// `since`: its ticket and the time, if it waits.
    pub fn expect(
        &mut self,
        session: SessionId,
        ask_again_ms: u64,
        now: Millis,
        since: Option<(Ticket, u64)>,
    ) {
        if let Some(contact) = self.contacts.get_mut(&session) {
            contact.ask_by = after(now, ask_again_ms);
            if let Some((ticket, _)) = since
                && contact.waits.is_none_or(|(known, _)| known != ticket)
            {
                contact.waits = since;
            }
        }
    }

    /// The session has ended.
    pub fn forget(&mut self, session: SessionId) {
        self.contacts.remove(&session);
    }

    /// A session was closed: its last reply is kept for a while only.
    pub fn linger(&mut self, session: SessionId, now: Millis) {
        self.deadlines.insert((after(now, LINGER_MS), Due::Idle(session)));
    }

    /// When the idle session may be evicted; past: now.
    pub fn idle_until(&self, session: SessionId, is_closed: bool) -> Millis {
        let heard = self.contacts.get(&session).map_or(self.serves_since, |contact| contact.heard);
        let ttl = self.session_ttl / if mutant::is("evicted_early") { 2 } else { 1 };
        let lingers = is_closed && !mutant::is("closed_for_long");
        after(heard, if lingers { LINGER_MS } else { ttl })
    }

    /// Looks again at a session later.
    pub fn look_again(&mut self, session: SessionId, at: Millis) {
        self.deadlines.insert((at, Due::Idle(session)));
    }

    /// The server has just started: its waiters ask within this many milliseconds.
    pub fn expect_all(&mut self, ask_again_ms: u64, now: Millis) {
        if !mutant::is("silence_from_birth") {
            self.all_ask_by = after(now, ask_again_ms);
        }
        self.serves_since = now;
    }

    /// A waiter that should have been heard and was not.
    pub fn is_silent(&self, session: SessionId, now: Millis) -> bool {
        let ask_by = self.contacts.get(&session).map_or(self.all_ask_by, |one| one.ask_by);
        let grace = if mutant::is("live_waiter_skipped") { 0 } else { SILENCE_GRACE_MS };
        now > after(ask_by, grace) && !mutant::is("silent_waiter_kept")
    }

    /// The lock is held by this session now, granted on its request.
    pub fn begin_hold(&mut self, session: SessionId, token: FencingToken, now: Millis) {
        let until = lease_end(now, self.lease);
        let (reminder, must_ask) = (None, false);
        self.hold = Some(Hold { session, token, since: now, until, reminder, must_ask });
    }

    /// The holder goes on with a lease that it may have been told of before.
    pub fn hold_for(&mut self, lease_ms: u64) {
        if let Some(hold) = &mut self.hold {
            hold.until = hold.until.max(lease_end(hold.since, lease_ms));
        }
    }

    /// The lock is held by a waiter whose turn has come. Unless it was heard just now it must ask,
    /// and soon, before it is granted.
    /// Returns since when it has waited, in microseconds, where that is known.
    pub fn begin_turn(
        &mut self,
        session: SessionId,
        token: FencingToken,
        now: Millis,
    ) -> Option<u64> {
        let contact = self.contacts.get_mut(&session);
        let (heard, waits) = contact.map(|one| (one.heard, one.waits.take())).unzip();
        let is_fresh = self.is_fresh(session, now);
        let until = match heard {
            Some(_) if is_fresh || mutant::is("turn_waits_a_lease") => lease_end(now, self.lease),
            Some(_) => after(now, TURN_MS_MAX.min(self.lease / 2)),
            // Where it is reached is not known since the restart: it gets time to ask by itself.
            None => after(now, self.lease),
        };
        let reminder = Some((after(now, TURN_REPEAT_MS), TURN_REPEAT_MS));
        let must_ask = !is_fresh && !mutant::is("turn_not_asked");
        self.hold = Some(Hold { session, token, since: now, until, reminder, must_ask });
        self.arm_hold();
        waits.flatten().map(|(_, since_us)| since_us)
    }

    /// The session was heard so recently that it need not ask before it is granted the lock.
    pub fn is_fresh(&self, session: SessionId, now: Millis) -> bool {
        let contact = self.contacts.get(&session);
        contact.is_some_and(|contact| now.0 <= contact.heard.0 + FRESH_MS)
    }

    /// The session was told that its turn has come, and is granted only when it asks.
    pub fn must_ask(&self, session: SessionId) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.session == session && hold.must_ask)
    }

    /// Nobody holds the lock.
    pub fn end_hold(&mut self) {
        self.hold = None;
    }

    pub fn held_token(&self) -> Option<FencingToken> {
        self.hold.as_ref().map(|hold| hold.token)
    }

    /// The lease of the holder, if it is this session, in full from when it was last heard.
    pub fn lease_ms(&self, session: SessionId) -> u32 {
        match &self.hold {
            Some(hold) if hold.session == session => u32::try_from(self.lease).unwrap_or(u32::MAX),
            _ => 0,
        }
    }

    /// How long ago a session was heard; none if not since the start of the server.
    pub fn heard_ms_ago(&self, session: SessionId, now: Millis) -> Option<u64> {
        self.contacts.get(&session).map(|contact| now.0.saturating_sub(contact.heard.0))
    }

    /// How long the hold still lasts, and whether its holder has been told that its turn has come
    /// and has not been heard since.
    pub fn hold_left(&self, now: Millis) -> (u64, bool) {
        let hold = self.hold.as_ref();
        hold.map_or((0, false), |hold| (hold.until.0.saturating_sub(now.0 + 1), hold.must_ask))
    }

    /// Somebody waits: makes sure that the holder's lease is watched. Returns whether it has run
    /// out already.
    pub fn watch_hold(&mut self, now: Millis) -> Option<Event> {
        let hold = self.hold?;
        if hold.until <= now {
            return Some(over(&hold));
        }
        self.arm_hold();
        None
    }

    /// Has [`Event::Retry`] come about.
    pub fn retry_at(&mut self, at: Millis) {
        self.deadlines.insert((at, Due::Retry));
    }

    /// When [`Watch::poll`] is to be called next.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next thing whose time has come.
    pub fn poll(&mut self, now: Millis) -> Option<Event> {
        while let Some((at, due)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            match due {
                Due::Idle(session) => return Some(Event::Idle(session)),
                Due::Retry => return Some(Event::Retry),
                Due::Hold => {
                    self.hold_armed = None;
                    if let Some(event) = self.poll_hold(now) {
                        return Some(event);
                    }
                }
            }
        }
        None
    }

    fn poll_hold(&mut self, now: Millis) -> Option<Event> {
        let hold = self.hold.as_mut()?;
        if hold.until <= now {
            return Some(over(hold));
        }
        let mut event = None;
        if let Some((at, interval)) = hold.reminder
            && at <= now
        {
            hold.reminder = Some((after(now, interval * 2), interval * 2));
            event = Some(Event::Remind(hold.session));
        }
        self.arm_hold();
        event
    }

    /// Keeps one deadline for the hold in the table, the earliest that is needed: a lease that
    /// was renewed meanwhile is looked at again when the old one would have run out.
    fn arm_hold(&mut self) {
        let Some(hold) = &self.hold else { return };
        let at = hold.reminder.map_or(hold.until, |(at, _)| at.min(hold.until));
        match self.hold_armed {
            Some(armed) if armed <= at => return,
            Some(armed) => {
                self.deadlines.remove(&(armed, Due::Hold));
            }
            None => {}
        }
        self.hold_armed = Some(at);
        self.deadlines.insert((at, Due::Hold));
    }
}

fn over(hold: &Hold) -> Event {
    Event::Over { session: hold.session, token: hold.token, is_skipped: hold.reminder.is_some() }
}

/// When a lease that begins now is over. The time comes in whole milliseconds, cut off; clients
/// count finer, and must not believe longer than this.
fn lease_end(now: Millis, lease: u64) -> Millis {
    let lease = match () {
        _ if mutant::is("server_lease_short") => lease - lease / 10,
        _ if mutant::is("server_lease_long") => lease + lease / 10,
        _ => lease,
    };
    after(now, lease.saturating_add(u64::from(!mutant::is("lease_millisecond_short"))))
}

fn after(at: Millis, ms: u64) -> Millis {
    Millis(at.0.saturating_add(ms))
}
