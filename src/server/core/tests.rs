use super::*;
use crate::limits::LINGER_MS;
use crate::protocol::ClientInfo;
use crate::protocol::inspect::{HistoryPage, LockPage, RecordKind, Revocation, ServerStatus, What};
use crate::types::{FencingToken, LockId, RequestNumber, SessionId};
use std::net::Ipv4Addr;

const LEASE: u64 = 1_000;
const WAIT: Op<'static> = Op::Acquire { try_only: false };

/// A core with a disk that does nothing until it is told to.
struct Stage {
    core: Core,
    now: u64,
    sent: Vec<(SocketAddr, Reply<'static>)>,
    published: Vec<u8>,
    /// Pages that were sent, and from where the next goes on.
    pages: Vec<(u64, Vec<u8>)>,
}

/// A client that knows what an exchange would know.
struct Client {
    addr: SocketAddr,
    session: SessionId,
    number: u64,
    attempt: u32,
    token: FencingToken,
}

impl Stage {
    fn new() -> Self {
        Self::with(true, Machine::default(), LogIndex(0))
    }

    fn with(syncs: bool, machine: Machine, last: LogIndex) -> Self {
        let mut stage = Self::starting(syncs, machine, last);
        stage.run_disk();
        stage
    }

    /// The first entry of the start is not written yet.
    fn starting(syncs: bool, machine: Machine, last: LogIndex) -> Self {
        let settings = Settings {
            lease_ms: LEASE,
            session_ttl_ms: 60_000,
            section_limit: 1 << 20,
            syncs,
            limits: Limits::default(),
        };
        Self::of(settings, machine, last)
    }

    fn of(settings: Settings, machine: Machine, last: LogIndex) -> Self {
        let now = Now { steady: Millis(1), steady_us: 1_000, unix: Millis(1) };
        let mut stage = Stage {
            core: Core::new(settings, machine, last, now),
            now: 1,
            sent: Vec::new(),
            published: Vec::new(),
            pages: Vec::new(),
        };
        stage.core.boot(2, now, &mut Vec::new());
        stage.core.settle();
        stage
    }

    fn now(&self) -> Now {
        let steady = Millis(self.now);
        Now { steady, steady_us: self.now * 1_000, unix: Millis(1_000_000 + self.now) }
    }

    fn collect(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, reply } => self.sent.push((to, reply)),
                Action::Inspect { page: Page::Whole { next, bytes }, .. } => {
                    self.pages.push((next, bytes));
                }
                Action::Inspect { page: Page::Status(status), .. } => {
                    self.pages.push((0, encode_page(&status)));
                }
                Action::Read { .. }
                | Action::Reform { .. }
                | Action::Inspect { page: Page::Backup { .. }, .. } => {}
            }
        }
    }

    fn deliver(&mut self, client: &Client, op: Op<'_>) {
        let request = Request {
            session: client.session,
            number: RequestNumber(client.number),
            attempt: client.attempt.into_attempt(),
            after: self
                .core
                .machine()
                .session(client.session)
                .map_or(Attempt(0), |one| one.attempt),
            stamp: Stamp(self.now * 1000 + u64::from(client.attempt)),
            token: client.token,
            lock: LockId(0),
            op,
        };
        let (now, mut actions) = (self.now(), Vec::new());
        self.core.handle_request(client.addr, &request, now, &mut actions);
        self.collect(actions);
    }

    /// Delivers one of the three pieces of an append that begins with request `first`.
    fn deliver_piece(&mut self, client: &mut Client, first: u64, at: u16, data: &[u8; 2]) {
        client.number = first + u64::from(at);
        let offset = 2 * u32::from(at);
        self.deliver(client, Op::Append { file: b"file_0", total: 6, offset, window: at, data });
    }

    fn set(&mut self, settings: Settings) {
        let (now, mut actions) = (self.now(), Vec::new());
        self.core.handle_settings(settings, now, &mut actions);
        self.collect(actions);
        self.run_disk();
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(Millis(at)) = self.core.next_deadline().filter(|at| at.0 <= until) {
            self.now = self.now.max(at);
            let (now, mut actions) = (self.now(), Vec::new());
            self.core.handle_timeout(now, &mut actions);
            self.collect(actions);
            self.run_disk();
        }
        self.now = until;
    }

    /// Takes the next job if it is a write, and ends it.
    fn write(&mut self, ending: Ending) {
        let Some(Job::Write(batch)) = self.core.poll_job() else { panic!("no write is due") };
        let (now, mut actions) = (self.now(), Vec::new());
        self.core.handle_written(batch, ending, now, &mut actions);
        self.collect(actions);
    }

    fn flush_job(&mut self) -> Flush {
        let Some(Job::Flush(flush)) = self.core.poll_job() else { panic!("no flush is due") };
        flush
    }

    fn end_flush(&mut self, mut flush: Flush, ending: Ending) {
        if ending == Ending::Done {
            for part in flush.parts.drain(..) {
                self.published.extend(part.data);
            }
        }
        let (now, mut actions) = (self.now(), Vec::new());
        self.core.handle_flushed(flush, ending, now, &mut actions);
        self.collect(actions);
    }

    fn run_disk(&mut self) {
        while let Some(job) = self.core.poll_job() {
            match job {
                Job::Write(batch) => {
                    let (now, mut actions) = (self.now(), Vec::new());
                    self.core.handle_written(batch, Ending::Done, now, &mut actions);
                    self.collect(actions);
                }
                Job::Flush(flush) => self.end_flush(flush, Ending::Done),
            }
        }
    }

    /// What was sent to a client since the last time.
    fn heard(&mut self, client: &mut Client) -> Vec<Outcome<'static>> {
        let mut outcomes = Vec::new();
        for (to, reply) in std::mem::take(&mut self.sent) {
            if to != client.addr {
                self.sent.push((to, reply));
                continue;
            }
            if reply.is_consumed && reply.number.0 >= client.number {
                client.number = reply.number.0 + 1;
                client.attempt += 1;
            } else if matches!(reply.outcome, Outcome::Refused { .. }) {
                client.attempt += 1;
            }
            if let Outcome::Granted { token, .. } = reply.outcome {
                client.token = token;
            }
            client.session = reply.session;
            outcomes.push(reply.outcome);
        }
        outcomes
    }

    fn client(&mut self, port: u16) -> Client {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut client =
            Client { addr, session: SessionId(0), number: 1, attempt: 1, token: FencingToken(0) };
        self.deliver(&client, Op::Init { nonce: u64::from(port), client: ClientInfo::default() });
        self.run_disk();
        assert!(matches!(self.heard(&mut client)[..], [Outcome::Connected { .. }]));
        client
    }

    /// A page, by the number of what it shows.
    fn look<T: serde::de::DeserializeOwned>(
        &mut self,
        client: &mut Client,
        what: What,
        from: u64,
    ) -> (T, u64) {
        client.attempt += 1;
        self.deliver(client, Op::Inspect { what: what as u8, from });
        self.run_disk();
        let (next, bytes) = self.pages.pop().expect("no page came");
        assert!(bytes.len() <= crate::limits::READ_MAX);
        (postcard::from_bytes(&bytes).unwrap(), next)
    }

    fn ask(&mut self, client: &mut Client, op: Op<'_>) -> Vec<Outcome<'static>> {
        let gives_back = matches!(op, Op::Release | Op::Abort);
        self.deliver(client, op);
        self.run_disk();
        let told = self.heard(client);
        if gives_back && matches!(told[..], [Outcome::Done { .. }]) {
            client.token = FencingToken(0);
        }
        told
    }

    /// Gets a place in the queue, and asks again to be told of it.
    fn queue(&mut self, client: &mut Client) {
        assert!(self.ask(client, WAIT).is_empty());
        assert!(matches!(self.ask(client, WAIT)[..], [Outcome::Queued { .. }]));
    }
}

trait IntoAttempt {
    fn into_attempt(self) -> Attempt;
}

impl IntoAttempt for u32 {
    fn into_attempt(self) -> Attempt {
        Attempt(self)
    }
}

fn append(data: &[u8]) -> Op<'_> {
    Op::Append { file: b"file_0", total: data.len() as u32, offset: 0, window: 0, data }
}

fn is_granted(outcomes: &[Outcome<'_>]) -> bool {
    matches!(outcomes, [Outcome::Granted { .. }])
}

const DONE: Outcome<'static> = Outcome::Done { lease_ms: 0 };
const NO_SPACE: Outcome<'static> =
    Outcome::Refused { status: Status::Refused, reason: Reason::NoSpace };

#[test]
fn nothing_is_told_before_it_is_written() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    stage.deliver(&c1, WAIT);
    // A retransmission must not get the answer early either.
    stage.now += 1;
    stage.deliver(&c1, WAIT);
    assert!(stage.heard(&mut c1).is_empty());
    stage.write(Ending::Done);
    assert!(is_granted(&stage.heard(&mut c1)));
}

#[test]
fn release_is_told_when_it_is_stable_and_published_but_the_lock_passes_on_before() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c1, append(b"A"));
    assert!(stage.ask(&mut c2, WAIT).is_empty(), "its place is of no use to it yet");
    stage.deliver(&c1, Op::Release);
    stage.write(Ending::Done);
    assert!(is_granted(&stage.heard(&mut c2)), "the next holder does not wait for the sync");
    assert!(stage.heard(&mut c1).is_empty());
    let flush = stage.flush_job();
    // While that flush is under way the next section goes on and even ends.
    stage.deliver(&c2, append(b"B"));
    stage.write(Ending::Done);
    assert!(matches!(stage.heard(&mut c2)[..], [Outcome::Done { lease_ms: 1_000 }]));
    stage.deliver(&c2, Op::Release);
    stage.write(Ending::Done);
    stage.deliver(&c1, Op::Release);
    assert!(stage.heard(&mut c1).is_empty(), "a retransmission is not told early");
    stage.end_flush(flush, Ending::Done);
    assert_eq!(stage.heard(&mut c1), [DONE]);
    assert!(stage.heard(&mut c2).is_empty(), "that flush had begun before its release");
    let flush = stage.flush_job();
    stage.end_flush(flush, Ending::Done);
    assert_eq!(stage.heard(&mut c2), [DONE]);
    assert_eq!(stage.published, b"AB");
}

#[test]
fn flush_that_begins_late_covers_what_was_written_until_then_and_nothing_else() {
    let mut stage = Stage::new();
    let mut clients: Vec<Client> = (1..4).map(|port| stage.client(port)).collect();
    let mut flush = None;
    for (client, is_written) in clients.iter_mut().zip([true, true, false]) {
        stage.deliver(client, WAIT);
        stage.write(Ending::Done);
        assert!(is_granted(&stage.heard(client)));
        stage.deliver(client, append(b"A"));
        stage.write(Ending::Done);
        stage.heard(client);
        stage.deliver(client, Op::Release);
        if is_written {
            stage.write(Ending::Done);
            flush = flush.or_else(|| Some(stage.flush_job()));
        }
    }
    let mut flush = flush.unwrap();
    assert_eq!(flush.parts.len(), 1);
    stage.core.widen(&mut flush);
    assert_eq!(flush.parts.len(), 2);
    stage.end_flush(flush, Ending::Done);
    let told: Vec<_> = clients.iter_mut().map(|client| stage.heard(client)).collect();
    assert_eq!(told, [vec![DONE], vec![DONE], vec![]]);
    assert_eq!(stage.published, b"AA");
}

#[test]
fn one_flush_serves_all_who_wait_for_it() {
    let mut stage = Stage::new();
    let mut clients: Vec<Client> = (1..5).map(|port| stage.client(port)).collect();
    for client in &mut clients {
        stage.deliver(client, WAIT);
        stage.write(Ending::Done);
        assert!(is_granted(&stage.heard(client)));
        stage.deliver(client, Op::Release);
        stage.write(Ending::Done);
    }
    let flush = stage.flush_job();
    stage.end_flush(flush, Ending::Done);
    for client in &mut clients {
        assert_eq!(stage.heard(client), [DONE]);
    }
    assert!(stage.core.poll_job().is_none());
}

#[test]
fn without_syncs_release_needs_the_data_files_only() {
    let mut stage = Stage::with(false, Machine::default(), LogIndex(0));
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    stage.deliver(&c1, Op::Release);
    stage.write(Ending::Done);
    let flush = stage.flush_job();
    assert!(!flush.needs_sync);
    stage.end_flush(flush, Ending::Done);
    assert_eq!(stage.heard(&mut c1), [DONE]);
}

#[test]
fn start_is_synced_also_without_syncs() {
    let mut stage = Stage::starting(false, Machine::default(), LogIndex(0));
    stage.write(Ending::Done);
    assert!(stage.flush_job().needs_sync);
}

#[test]
fn pieces_that_overtook_each_other_are_staged_in_order() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    let first = c1.number;
    for (at, data) in [(2, b"ef"), (1, b"cd"), (1, b"cd"), (0, b"ab")] {
        stage.deliver_piece(&mut c1, first, at, data);
    }
    stage.run_disk();
    assert_eq!(stage.heard(&mut c1).len(), 1);
    assert_eq!(c1.number, first + 3);
    c1.attempt += 1;
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE]);
    assert_eq!(stage.published, b"abcdef");
}

#[test]
fn pieces_that_are_written_together_have_one_answer() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    let first = c1.number;
    for (at, data) in (0..).zip([b"ab", b"cd", b"ef"]) {
        stage.deliver_piece(&mut c1, first, at, data);
    }
    stage.write(Ending::Done);
    let told: Vec<_> = stage.sent.iter().map(|(_, reply)| reply.number.0).collect();
    assert_eq!(told, [first + 2]);
}

#[test]
fn lease_ends_only_when_somebody_waits() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.pass(10 * LEASE);
    assert!(matches!(stage.ask(&mut c1, append(b"A"))[..], [Outcome::Done { .. }]));
    stage.ask(&mut c2, WAIT);
    stage.pass(LEASE / 2);
    stage.ask(&mut c2, WAIT);
    assert!(matches!(stage.ask(&mut c1, Op::Renew)[..], [Outcome::Done { lease_ms: 1_000 }]));
    // The clock shows whole milliseconds, and no lease may be shorter than its holder believes.
    stage.pass(LEASE);
    assert!(stage.heard(&mut c2).iter().all(|told| matches!(told, Outcome::Queued { .. })));
    stage.pass(1);
    // Not heard for a while: it is told that it is its turn, and granted when it asks.
    let turn = Outcome::Queued { position: 0, ask_again_ms: 0 };
    assert_eq!(stage.heard(&mut c2), [turn]);
    c2.number -= 1;
    c2.attempt -= 1;
    assert!(is_granted(&stage.ask(&mut c2, WAIT)));
    let expired = Outcome::Refused { status: Status::LeaseExpired, reason: Reason::None };
    assert_eq!(stage.ask(&mut c1, Op::Release), [expired]);
    assert_eq!(stage.ask(&mut c2, Op::Release), [DONE]);
    assert_eq!(stage.published, b"");
}

#[test]
fn lease_that_ran_out_unnoticed_ends_with_the_first_waiter() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.pass(2 * LEASE);
    let told = stage.ask(&mut c2, WAIT);
    assert!(is_granted(&told), "{told:?}");
}

#[test]
fn waiter_that_does_not_take_its_turn_is_passed_over_long_before_a_lease() {
    let mut stage = Stage::new();
    let (mut c1, mut c2, mut c3) = (stage.client(1), stage.client(2), stage.client(3));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c2, WAIT);
    stage.ask(&mut c3, WAIT);
    stage.pass(100);
    stage.ask(&mut c1, Op::Release);
    let turns = |told: &[Outcome<'_>]| {
        told.iter().filter(|told| matches!(told, Outcome::Queued { position: 0, .. })).count()
    };
    stage.pass(LEASE / 2 - 1);
    let told = stage.heard(&mut c2);
    assert!(turns(&told) > 2, "a lost notice is repeated: {told:?}");
    assert_eq!(turns(&stage.heard(&mut c3)), 0);
    stage.pass(1);
    assert_eq!(turns(&stage.heard(&mut c3)), 1);
    // It comes back, learns that it was passed over, and queues anew.
    c2.number -= 1;
    c2.attempt -= 1;
    let skipped = Outcome::Refused { status: Status::LeaseExpired, reason: Reason::Skipped };
    assert_eq!(stage.ask(&mut c2, WAIT), [skipped]);
}

#[test]
fn next_in_line_is_called_so_that_the_lock_passes_on_without_asking() {
    let mut stage = Stage::new();
    let (mut c1, mut c2, mut c3) = (stage.client(1), stage.client(2), stage.client(3));
    stage.ask(&mut c1, WAIT);
    stage.queue(&mut c2);
    stage.queue(&mut c3);
    stage.pass(100);
    stage.ask(&mut c1, Op::Release);
    let called = Outcome::Queued { position: 1, ask_again_ms: 0 };
    assert_eq!(stage.heard(&mut c3), [called]);
    for waiter in [&mut c3, &mut c2] {
        waiter.number -= 1;
        waiter.attempt -= 1;
        stage.ask(waiter, WAIT);
    }
    stage.ask(&mut c2, Op::Release);
    assert!(is_granted(&stage.heard(&mut c3)));
}

#[test]
fn lost_grant_is_told_again_however_long_the_waiter_meant_to_be_silent() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c2, WAIT);
    stage.ask(&mut c1, Op::Release);
    assert!(is_granted(&stage.heard(&mut c2)));
    stage.pass(crate::limits::TURN_REPEAT_MS);
    assert!(is_granted(&stage.heard(&mut c2)));
    stage.ask(&mut c2, append(b"A"));
    stage.pass(LEASE);
    assert!(stage.heard(&mut c2).is_empty(), "it was heard, so it knows");
}

#[test]
fn waiters_known_to_be_silent_cost_no_time_at_all() {
    let mut stage = Stage::new();
    let mut clients: Vec<Client> = (1..9).map(|port| stage.client(port)).collect();
    stage.ask(&mut clients[0], WAIT);
    for client in &mut clients[1..] {
        stage.ask(client, WAIT);
    }
    let last = clients.len() - 1;
    // The holder and the last waiter stay alive; nothing is heard of the others.
    for _ in 0..60 {
        stage.pass(100);
        stage.ask(&mut clients[0], Op::Renew);
        stage.deliver(&clients[last], WAIT);
    }
    clients[last].number -= 1;
    clients[last].attempt -= 1;
    stage.deliver(&clients[last], WAIT);
    stage.sent.clear();
    stage.ask(&mut clients[0], Op::Release);
    assert!(is_granted(&stage.heard(&mut clients[last])));
}

#[test]
fn late_duplicates_neither_renew_nor_move_a_session() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c2, WAIT);
    stage.pass(LEASE - 1);
    let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 99));
    let late = Request {
        session: c1.session,
        number: RequestNumber(2),
        attempt: Attempt(2),
        after: Attempt(1),
        stamp: Stamp(0),
        token: FencingToken(0),
        lock: LockId(0),
        op: WAIT,
    };
    let (now, mut actions) = (stage.now(), Vec::new());
    stage.core.handle_request(elsewhere, &late, now, &mut actions);
    stage.collect(actions);
    assert!(stage.sent.iter().all(|(to, _)| *to != elsewhere));
    stage.pass(2);
    let expired = Outcome::Refused { status: Status::LeaseExpired, reason: Reason::None };
    c1.number = 3;
    assert_eq!(stage.ask(&mut c1, Op::Release).last(), Some(&expired));
}

#[test]
fn a_request_older_than_the_news_of_its_turn_is_not_granted() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    let asked_at = stage.now;
    stage.deliver(&c2, WAIT);
    stage.run_disk();
    stage.pass(LEASE / 2);
    stage.ask(&mut c1, Op::Release);
    let turn = Outcome::Queued { position: 0, ask_again_ms: 0 };
    stage.sent.retain(|(_, reply)| reply.outcome == turn);
    assert_eq!(stage.sent.len(), 1);
    // A grant would carry a lease from long before.
    let now = std::mem::replace(&mut stage.now, asked_at);
    let late = Client { ..c2 };
    stage.deliver(&late, WAIT);
    stage.now = now;
    assert_eq!(stage.heard(&mut c2), [turn.clone(), turn]);
}

#[test]
fn dead_waiters_are_known_by_their_silence_after_a_restart() {
    let mut stage = Stage::new();
    let mut clients: Vec<Client> = (1..6).map(|port| stage.client(port)).collect();
    for client in &mut clients {
        stage.ask(client, WAIT);
    }
    let (machine, last) = (stage.core.machine().clone(), stage.core.engine().last());
    let mut stage = Stage::with(true, machine, last);
    let (mut c1, mut c5) = (clients.remove(0), clients.remove(3));
    for _ in 0..10 {
        stage.pass(300);
        stage.ask(&mut c1, Op::Renew);
        stage.deliver(&Client { number: 2, attempt: 2, ..c5 }, WAIT);
        stage.heard(&mut c5);
    }
    stage.ask(&mut c1, Op::Release);
    assert!(is_granted(&stage.heard(&mut c5)));
}

#[test]
fn a_cancel_is_never_refused_for_want_of_room() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.deliver(&c1, WAIT);
    stage.write(Ending::Full);
    // Its acquire was lost; a refusal would not tell which number comes next.
    c2.number += 1;
    stage.deliver(&c2, Op::Cancel);
    assert!(stage.heard(&mut c2).is_empty());
    stage.pass(RETRY_MS);
    assert_eq!(stage.heard(&mut c2), [DONE]);
    assert!(is_granted(&stage.heard(&mut c1)));
}

#[test]
fn full_log_holds_answers_back_refuses_new_work_and_recovers() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.deliver(&c1, WAIT);
    stage.write(Ending::Full);
    assert!(stage.heard(&mut c1).is_empty());
    assert_eq!(stage.ask(&mut c2, WAIT), [NO_SPACE]);
    stage.pass(RETRY_MS);
    assert!(is_granted(&stage.heard(&mut c1)));
    stage.queue(&mut c2);
}

#[test]
fn full_data_file_holds_the_release_back_and_publishes_once() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c1, append(b"A"));
    stage.deliver(&c1, Op::Release);
    stage.write(Ending::Done);
    let flush = stage.flush_job();
    stage.end_flush(flush, Ending::Full);
    assert!(stage.heard(&mut c1).is_empty());
    stage.pass(RETRY_MS);
    assert_eq!(stage.heard(&mut c1), [DONE]);
    assert_eq!(stage.published, b"A");
}

#[test]
fn little_room_refuses_growth_but_lets_the_lock_go() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c1, append(b"A"));
    stage.core.handle_room(1_000);
    assert_eq!(stage.ask(&mut c1, append(b"B")), [NO_SPACE]);
    stage.core.handle_room(0);
    assert_eq!(stage.ask(&mut c1, Op::Release), [NO_SPACE]);
    stage.core.handle_room(1_000);
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE]);
    assert_eq!(stage.published, b"A");
}

#[test]
fn refused_call_stays_refused_when_a_duplicate_finds_room() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    stage.core.handle_room(0);
    assert_eq!(stage.ask(&mut c1, append(b"A")), [NO_SPACE]);
    stage.core.handle_room(u64::MAX);
    c1.attempt -= 1;
    assert_eq!(stage.ask(&mut c1, append(b"A")), [NO_SPACE], "the same call once more");
    assert!(matches!(stage.ask(&mut c1, append(b"B"))[..], [Outcome::Done { .. }]));
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE]);
    assert_eq!(stage.published, b"B");
}

#[test]
fn late_duplicate_of_an_acquire_by_the_holder_does_not_queue_it_anew() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    assert!(is_granted(&stage.ask(&mut c1, WAIT)), "held already: takes no number");
    stage.ask(&mut c2, WAIT);
    stage.pass(LEASE + 1);
    let expired = Outcome::Refused { status: Status::LeaseExpired, reason: Reason::None };
    assert_eq!(stage.ask(&mut c1, WAIT), std::slice::from_ref(&expired), "the same call again");
    assert!(stage.core.machine().lock().waiters().next().is_none());
    c1.attempt += 1;
    assert_eq!(stage.ask(&mut c1, append(b"A")), [expired]);
}

#[test]
fn session_whose_refused_call_took_effect_after_a_restart_is_lost() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    // The append that takes the number is one that the client knows to be refused.
    stage.ask(&mut c1, append(b"A"));
    c1.number -= 1;
    let lost = Outcome::Refused { status: Status::SessionLost, reason: Reason::None };
    assert_eq!(stage.ask(&mut c1, append(b"B")), [lost]);
    assert!(stage.core.machine().lock().holder.is_none());
}

#[test]
fn failed_write_or_sync_ends_all_acknowledgement() {
    for fails_in_sync in [false, true] {
        let mut stage = Stage::new();
        let (mut c1, mut c2) = (stage.client(1), stage.client(2));
        stage.ask(&mut c1, WAIT);
        stage.deliver(&c1, Op::Release);
        if fails_in_sync {
            stage.write(Ending::Done);
            let flush = stage.flush_job();
            stage.end_flush(flush, Ending::Failed);
        } else {
            stage.write(Ending::Failed);
        }
        assert!(stage.core.poll_job().is_none());
        stage.pass(10 * LEASE);
        assert!(stage.heard(&mut c1).is_empty());
        let failed = Outcome::Refused { status: Status::Unavailable, reason: Reason::LogFailed };
        assert_eq!(stage.ask(&mut c2, WAIT), std::slice::from_ref(&failed));
        assert_eq!(stage.ask(&mut c1, Op::Release), [failed]);
    }
}

#[test]
fn idle_sessions_end_closed_ones_sooner_busy_ones_never() {
    let mut stage = Stage::new();
    let (mut c1, mut c2, mut c3) = (stage.client(1), stage.client(2), stage.client(3));
    stage.ask(&mut c1, WAIT);
    assert_eq!(stage.ask(&mut c3, Op::Close), [Outcome::Disconnected]);
    stage.pass(200_000);
    assert!(stage.core.machine().session(c3.session).is_none());
    assert!(stage.core.machine().session(c2.session).is_none());
    let lost = Outcome::Refused { status: Status::SessionLost, reason: Reason::None };
    assert_eq!(stage.ask(&mut c2, WAIT), [lost]);
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE]);
}

#[test]
fn lost_session_frees_its_lock_for_the_next() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c2, WAIT);
    c1.number += 5;
    let lost = Outcome::Refused { status: Status::SessionLost, reason: Reason::None };
    assert_eq!(stage.ask(&mut c1, Op::Release), [lost]);
    assert!(is_granted(&stage.heard(&mut c2)));
}

#[test]
fn restart_keeps_holder_token_queue_and_section_and_leases_start_anew() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c1, append(b"A"));
    stage.queue(&mut c2);
    let (machine, last) = (stage.core.machine().clone(), stage.core.engine().last());
    let mut stage = Stage::with(true, machine, last);
    stage.pass(LEASE - 1);
    assert!(matches!(stage.ask(&mut c1, append(b"B"))[..], [Outcome::Done { .. }]));
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE]);
    assert_eq!(stage.published, b"AB");
    // Where the waiter is reached is not known until it asks again: same request.
    c2.number -= 1;
    c2.attempt -= 1;
    assert!(is_granted(&stage.ask(&mut c2, WAIT)));
}

#[test]
fn operator_sees_the_holder_the_queue_and_the_time_left() {
    let mut stage = Stage::new();
    let (mut c1, mut c2, mut operator) = (stage.client(1), stage.client(2), stage.client(3));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c1, append(b"abc"));
    stage.pass(100);
    stage.ask(&mut c2, WAIT);
    stage.pass(200);
    let (page, next) = stage.look::<LockPage>(&mut operator, What::Lock, 0);
    assert_eq!((page.waiting, next), (1, 0));
    let holder = page.holder.unwrap();
    assert_eq!((holder.session, holder.token), (c1.session, c1.token));
    assert_eq!((holder.lease_left_ms, holder.is_called), (LEASE - 300, false));
    assert_eq!((holder.staged_bytes, holder.heard_ms_ago), (3, Some(300)));
    assert_eq!(page.now_ms.0 - holder.since_ms.0, 300);
    let waiter = &page.waiters[0];
    assert_eq!((waiter.session, waiter.heard_ms_ago), (c2.session, Some(200)));
    assert_eq!(page.now_ms.0 - waiter.since_ms.0, 200);
    stage.pass(LEASE - 299);
    let (page, _) = stage.look::<LockPage>(&mut operator, What::Lock, 0);
    let holder = page.holder.unwrap();
    assert_eq!((holder.session, holder.is_called), (c2.session, true), "told, not heard since");
    let (status, _) = stage.look::<ServerStatus>(&mut operator, What::Status, 0);
    assert_eq!((status.sessions, status.waiters, status.token), (3, 0, holder.token));
    assert_eq!((status.lease_ms, status.epoch, status.staged_bytes), (LEASE, 1, 0));
    assert_eq!(status.recorded[RecordKind::Granted as usize], 2);
    assert_eq!(status.recorded[RecordKind::Expired as usize], 1);
    assert_eq!(status.counters.requests, 9);
}

#[test]
fn a_long_queue_comes_in_pages_of_whole_waiters() {
    let mut stage = Stage::new();
    let mut clients: Vec<Client> = (1..60).map(|port| stage.client(port)).collect();
    for client in &mut clients {
        stage.ask(client, WAIT);
    }
    let mut operator = stage.client(99);
    let (mut seen, mut from, mut pages) = (Vec::new(), 0, 0);
    loop {
        let (page, next) = stage.look::<LockPage>(&mut operator, What::Lock, from);
        assert_eq!(page.waiting, 58);
        assert_eq!(page.holder.is_some(), from == 0);
        seen.extend(page.waiters.into_iter().map(|waiter| waiter.session));
        pages += 1;
        if next == 0 {
            break;
        }
        from = next;
    }
    assert!(pages > 1);
    assert_eq!(seen, clients[1..].iter().map(|client| client.session).collect::<Vec<_>>());
}

#[test]
fn history_is_told_when_it_is_stable_and_in_pages() {
    let mut stage = Stage::new();
    let (mut c1, mut operator) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    operator.attempt += 1;
    stage.deliver(&operator, Op::Inspect { what: What::History as u8, from: 0 });
    assert!(stage.pages.is_empty(), "the grant is written, not stable");
    let flush = stage.flush_job();
    // Asked again: the page that is held already goes to where the question came from.
    stage.now += 1;
    stage.deliver(&operator, Op::Inspect { what: What::History as u8, from: 0 });
    stage.end_flush(flush, Ending::Done);
    assert_eq!(stage.pages.len(), 1);
    stage.pages.clear();
    stage.ask(&mut c1, Op::Abort);
    for _ in 0..100 {
        stage.ask(&mut c1, WAIT);
        stage.ask(&mut c1, Op::Abort);
    }
    let (mut from, mut previous, mut count) = (0, crate::protocol::inspect::Hash::default(), 0);
    loop {
        let (page, next) = stage.look::<HistoryPage>(&mut operator, What::History, from);
        assert_eq!((page.oldest, page.newest, page.anchor), (1, 203, previous));
        if page.records.is_empty() {
            assert_eq!((from, next), (204, 204));
            break;
        }
        for record in page.records {
            assert_eq!(record.hash, record.chained(previous));
            previous = record.hash;
            count += 1;
        }
        from = next;
    }
    assert_eq!(count, 203);
}

#[test]
fn the_longest_texts_fit_a_page() {
    let mut stage = Stage::new();
    let text = "x".repeat(crate::limits::CLIENT_TEXT_MAX);
    let info = ClientInfo { host: text.clone(), user: text.clone(), program: text, pid: u32::MAX };
    let mut clients = Vec::new();
    for port in 1..=3 {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (session, token) = (SessionId(0), FencingToken(0));
        let mut client = Client { addr, session, number: 1, attempt: 1, token };
        stage.deliver(&client, Op::Init { nonce: port.into(), client: info.clone() });
        stage.run_disk();
        stage.heard(&mut client);
        clients.push(client);
    }
    let [mut c1, mut c2, mut c3] = <[Client; 3]>::try_from(clients).ok().unwrap();
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c2, WAIT);
    let (page, _) = stage.look::<LockPage>(&mut c3, What::Lock, 0);
    assert_eq!((page.holder.unwrap().client, &page.waiters[0].client), (info.clone(), &info));
    let reason = "y".repeat(crate::limits::REASON_TEXT_MAX);
    let revoke = Op::Revoke { token: c1.token, reason: &reason };
    c3.attempt += 1;
    assert_eq!(stage.ask(&mut c3, revoke), [DONE]);
    let (page, _) = stage.look::<HistoryPage>(&mut c3, What::History, 3);
    let client = info.clone();
    let expected = Revocation { session: c3.session, client, reason: reason.clone() };
    assert_eq!(page.records[0].revocation, Some(expected));
}

#[test]
fn what_is_not_there_to_be_seen_is_refused() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    let refused = Outcome::Refused { status: Status::InvalidArgument, reason: Reason::None };
    assert_eq!(stage.ask(&mut c1, Op::Inspect { what: 200, from: 0 }), [refused]);
}

#[test]
fn a_revocation_is_executed_once_and_tells_the_holder() {
    let mut stage = Stage::new();
    let (mut c1, mut operator) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c1, append(b"A"));
    let revoke = Op::Revoke { token: c1.token, reason: "stuck" };
    stage.deliver(&operator, revoke.clone());
    stage.now += 1;
    stage.deliver(&operator, revoke);
    stage.run_disk();
    assert_eq!(stage.heard(&mut operator), [DONE]);
    let revoked = Outcome::Refused { status: Status::LeaseExpired, reason: Reason::Revoked };
    let revoked = [revoked];
    assert_eq!(stage.ask(&mut c1, append(b"B")), revoked);
    assert_eq!(stage.ask(&mut c1, WAIT), revoked);
    c1.token = FencingToken(0);
    assert!(is_granted(&stage.ask(&mut c1, WAIT)));
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE]);
    assert_eq!(stage.published, b"");
    assert_eq!(stage.core.machine().history().counts()[RecordKind::Revoked as usize], 1);
}

#[test]
fn a_revocation_is_told_when_no_power_loss_can_give_the_lock_back() {
    let mut stage = Stage::new();
    let (mut c1, mut operator) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.deliver(&operator, Op::Revoke { token: c1.token, reason: "stuck" });
    stage.write(Ending::Done);
    assert!(stage.heard(&mut operator).is_empty());
    let flush = stage.flush_job();
    stage.end_flush(flush, Ending::Done);
    assert_eq!(stage.heard(&mut operator), [DONE]);
}

#[test]
fn that_nobody_holds_the_token_is_told_when_no_power_loss_can_bring_its_holder_back() {
    let mut stage = Stage::new();
    let (mut c1, mut operator) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.deliver(&c1, Op::Abort);
    stage.deliver(&operator, Op::Revoke { token: c1.token, reason: "stuck" });
    assert!(stage.heard(&mut operator).is_empty());
    stage.write(Ending::Done);
    assert!(stage.heard(&mut operator).is_empty());
    let flush = stage.flush_job();
    stage.end_flush(flush, Ending::Done);
    assert_eq!(stage.heard(&mut operator), refusal(Reason::NotHeld));
}

fn limited(limits: Limits) -> Stage {
    let mut stage = Stage::new();
    let settings = Settings { limits, ..stage.core.settings };
    stage.set(settings);
    stage
}

fn refusal(reason: Reason) -> [Outcome<'static>; 1] {
    [Outcome::Refused { status: Status::Refused, reason }]
}

#[test]
fn one_waiter_too_many_is_refused_and_those_who_wait_go_on_waiting() {
    let mut stage = limited(Limits { waiters: 1, ..Limits::default() });
    let (mut c1, mut c2, mut c3) = (stage.client(1), stage.client(2), stage.client(3));
    stage.ask(&mut c1, WAIT);
    stage.ask(&mut c2, WAIT);
    assert_eq!(stage.ask(&mut c3, WAIT), refusal(Reason::TooManyWaiters));
    let tried = stage.ask(&mut c3, Op::Acquire { try_only: true });
    assert!(
        matches!(tried[..], [Outcome::Refused { status: Status::WouldBlock, .. }]),
        "{tried:?}"
    );
    stage.ask(&mut c1, Op::Release);
    stage.queue(&mut c3);
}

#[test]
fn one_session_too_many_is_refused_and_known_ones_are_told_again_who_they_are() {
    let mut stage = limited(Limits { sessions: 2, ..Limits::default() });
    let (_, _) = (stage.client(1), stage.client(2));
    let init = |nonce| Op::Init { nonce, client: ClientInfo::default() };
    let mut third = Client {
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 3)),
        session: SessionId(0),
        number: 1,
        attempt: 5,
        token: FencingToken(0),
    };
    assert_eq!(stage.ask(&mut third, init(3)), refusal(Reason::TooManySessions));
    assert!(matches!(stage.ask(&mut third, init(2))[..], [Outcome::Connected { .. }]));
}

#[test]
fn data_limit_counts_what_is_published_and_staged_and_lets_a_section_end() {
    let mut stage = limited(Limits { data: 10, ..Limits::default() });
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    assert!(matches!(stage.ask(&mut c1, append(b"123456"))[..], [Outcome::Done { .. }]));
    assert_eq!(stage.ask(&mut c1, append(b"78901")), refusal(Reason::DataLimit));
    assert!(matches!(stage.ask(&mut c1, append(b"7890"))[..], [Outcome::Done { .. }]));
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE]);
    assert_eq!(stage.published, b"1234567890");
    stage.ask(&mut c1, WAIT);
    assert_eq!(stage.ask(&mut c1, append(b"x")), refusal(Reason::DataLimit));
    let (status, _) = stage.look::<ServerStatus>(&mut c1, What::Status, 0);
    assert_eq!(status.counters.refused, 2);
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE]);
}

#[test]
fn disk_floor_is_left_free() {
    let floor = 1 << 30;
    let mut stage = limited(Limits { disk_floor: floor, ..Limits::default() });
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    stage.core.handle_room(floor + 2);
    assert!(matches!(stage.ask(&mut c1, append(b"A"))[..], [Outcome::Done { .. }]));
    assert_eq!(stage.ask(&mut c1, append(b"B")), [NO_SPACE]);
    stage.core.handle_room(floor - 1);
    assert_eq!(stage.ask(&mut c1, Op::Release), [DONE], "what was taken on can be ended");
}

#[test]
fn no_holder_loses_time_by_another_lease() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    let told = stage.ask(&mut c1, WAIT);
    assert!(matches!(told[..], [Outcome::Granted { lease_ms: 1_000, .. }]), "{told:?}");
    stage.ask(&mut c2, WAIT);
    // Its client believes in what it was told, however short a lease is from now on, ...
    let settings = Settings { lease_ms: 100, ..stage.core.settings };
    stage.set(settings);
    stage.pass(500);
    assert_eq!(stage.ask(&mut c1, Op::Renew), [Outcome::Done { lease_ms: 100 }]);
    stage.pass(490);
    assert!(matches!(stage.ask(&mut c1, Op::Renew)[..], [Outcome::Done { .. }]));
    // ... and in a longer one from the next answer on.
    let settings = Settings { lease_ms: 5_000, ..stage.core.settings };
    stage.set(settings);
    stage.pass(4_990);
    assert_eq!(stage.ask(&mut c1, Op::Renew), [Outcome::Done { lease_ms: 5_000 }]);
    stage.pass(5_010);
    assert!(matches!(stage.ask(&mut c1, Op::Renew)[..], [Outcome::Refused { .. }]));
}

#[test]
fn no_holder_loses_time_by_a_start_with_a_shorter_lease() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    stage.ask(&mut c1, WAIT);
    stage.queue(&mut c2);
    let (machine, last) = (stage.core.machine().clone(), stage.core.engine().last());
    let settings = Settings { lease_ms: 100, ..stage.core.settings };
    let mut stage = Stage::of(settings, machine, last);
    stage.run_disk();
    stage.pass(LEASE - 1);
    // What it is told of now is the shorter one, ...
    assert_eq!(stage.ask(&mut c1, Op::Renew), [Outcome::Done { lease_ms: 100 }]);
    // ... and so is who comes after it.
    assert_eq!(stage.ask(&mut c1, Op::Release), [Outcome::Done { lease_ms: 0 }]);
    c2.number -= 1;
    c2.attempt -= 1;
    let told = stage.ask(&mut c2, WAIT);
    assert!(matches!(told[..], [Outcome::Granted { lease_ms: 100, .. }]), "{told:?}");
}

#[test]
fn a_longer_lease_is_told_when_no_power_loss_can_make_it_unknown() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    stage.ask(&mut c1, WAIT);
    let longer = Settings { lease_ms: 5_000, ..stage.core.settings };
    let (now, mut actions) = (stage.now(), Vec::new());
    stage.core.handle_settings(longer, now, &mut actions);
    stage.deliver(&c1, Op::Renew);
    assert_eq!(stage.heard(&mut c1), [Outcome::Done { lease_ms: LEASE as u32 }]);
    stage.write(Ending::Done);
    stage.deliver(&c1, Op::Renew);
    assert_eq!(stage.heard(&mut c1), [Outcome::Done { lease_ms: LEASE as u32 }]);
    let flush = stage.flush_job();
    stage.end_flush(flush, Ending::Done);
    stage.deliver(&c1, Op::Renew);
    assert_eq!(stage.heard(&mut c1), [Outcome::Done { lease_ms: 5_000 }]);
    assert_eq!(stage.core.machine().lock().holder.as_ref().map(|one| one.lease_ms), Some(5_000));
}

#[test]
fn a_holder_that_was_never_told_of_a_longer_lease_does_not_get_it_after_a_restart() {
    let mut stage = Stage::new();
    let (mut c1, mut c2) = (stage.client(1), stage.client(2));
    let short = stage.core.settings;
    stage.set(Settings { lease_ms: 3_600_000, ..short });
    stage.set(short);
    assert!(is_granted(&stage.ask(&mut c1, WAIT)));
    stage.queue(&mut c2);
    let (machine, last) = (stage.core.machine().clone(), stage.core.engine().last());
    let stage = Stage::of(short, machine, last);
    let (page, _) = stage.core.lock_view(0, stage.now(), 4096);
    assert_eq!(page.holder.map(|holder| holder.lease_left_ms), Some(LEASE));
}

#[test]
fn a_longer_lease_of_a_leader_is_told_when_it_is_committed() {
    let at = |ms| Now { steady: Millis(ms), steady_us: ms * 1000, unix: Millis(ms) };
    let mut actions = Vec::new();
    let settings = Stage::new().core.settings;
    let mut core = Core::following(settings, at(1));
    let begins = |term, machine| Standing::Begins { term, machine, published: 0, files: 1 };
    core.stand(Standing::Elected(2), at(1), &mut actions);
    core.stand(begins(2, Box::default()), at(2), &mut actions);
    core.stand(Standing::Trusted { term: 2, until: Millis(1_000) }, at(2), &mut actions);
    core.stand(Standing::Committed { term: 2, count: 1 }, at(3), &mut actions);
    let committed = core.machine().clone();
    core.handle_settings(Settings { lease_ms: 5_000, ..settings }, at(4), &mut actions);
    assert_eq!(core.watch.lease(), LEASE);
    // It is deposed, and elected again, over a state that does not know of it.
    core.stand(Standing::Deposed, at(5), &mut actions);
    core.stand(Standing::Elected(4), at(7), &mut actions);
    core.stand(begins(4, Box::new(committed)), at(8), &mut actions);
    core.stand(Standing::Trusted { term: 4, until: Millis(1_000) }, at(9), &mut actions);
    assert_eq!(core.watch.lease(), LEASE);
    core.stand(Standing::Committed { term: 4, count: 1 }, at(10), &mut actions);
    assert_eq!(core.watch.lease(), 5_000);
}

#[test]
fn a_session_that_was_closed_before_a_start_is_forgotten_as_soon_as_any() {
    let mut stage = Stage::new();
    let mut c1 = stage.client(1);
    assert_eq!(stage.ask(&mut c1, Op::Close), [Outcome::Disconnected]);
    let (machine, last) = (stage.core.machine().clone(), stage.core.engine().last());
    let settings = Settings { session_ttl_ms: 10 * LINGER_MS, ..stage.core.settings };
    let mut stage = Stage::of(settings, machine, last);
    stage.run_disk();
    stage.pass(LINGER_MS - 1);
    assert_eq!(stage.core.machine().session_count(), 1);
    stage.pass(2);
    assert_eq!(stage.core.machine().session_count(), 0);
}
