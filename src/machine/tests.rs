use super::*;
use crate::protocol::ClientInfo;
use crate::protocol::inspect::{Hash, RecordKind};
use crate::types::Stamp;
use proptest::prelude::*;

const LIMIT: u64 = 64;

/// A machine, its log, and the files that it has published.
#[derive(Default)]
struct World {
    machine: Machine,
    log: Vec<Command>,
    files: Vec<Vec<u8>>,
    turns: Vec<(SessionId, FencingToken)>,
}

impl World {
    fn new() -> Self {
        let mut world = World::default();
        world.commit(Change::Boot { epoch: 1, files: 3, records: 100, lease_ms: 1_000 }, &[]);
        world
    }

    fn commit(&mut self, change: Change, skip: &[SessionId]) {
        let now_ms = Millis(self.log.len() as u64);
        let command = Command { now_ms, skip: skip.to_vec(), change };
        let mut effects = Vec::new();
        self.machine.apply(&command, &mut effects);
        self.log.push(command);
        self.files.resize(self.machine.files() as usize, Vec::new());
        for effect in effects {
            match effect {
                Effect::Publish(parts) => {
                    for part in parts {
                        self.files[part.file.0 as usize].extend(part.data);
                    }
                }
                Effect::Turn { session, token } => self.turns.push((session, token)),
                _ => {}
            }
        }
    }

    fn register(&mut self, nonce: u64) -> SessionId {
        let op = Op::Init { nonce, client: ClientInfo::default() };
        match self.machine.admit(&request(SessionId(0), 1, 1, 0, op), Attempt(0), LIMIT) {
            Admission::Propose(change) => self.commit(change, &[]),
            other => panic!("{other:?}"),
        }
        self.machine.nonces[&nonce]
    }

    /// The request of a client that knows which call of the session was the last.
    fn knowing<'a>(&self, request: &Request<'a>) -> Request<'a> {
        let session = self.machine.session(request.session);
        let after = session.map_or(Attempt(0), |session| session.attempt);
        Request { after, ..request.clone() }
    }

    fn deliver(&mut self, request: &Request<'_>) -> Admission {
        self.deliver_as_it_is(&self.knowing(request))
    }

    fn deliver_as_it_is(&mut self, request: &Request<'_>) -> Admission {
        let admission = self.machine.admit(request, Attempt(0), LIMIT);
        if let Admission::Propose(change) | Admission::Lost(change) = &admission {
            self.commit(change.clone(), &[]);
        }
        admission
    }

    /// The next request of a session; its answer.
    fn ask(&mut self, session: SessionId, token: FencingToken, op: Op<'_>) -> Answer {
        let last = self.machine.session(session).unwrap();
        let (number, attempt) = (last.last.next().0, last.attempt.0.max(9));
        match self.deliver(&request(session, number, attempt, token.0, op)) {
            Admission::Propose(_) => self.machine.session(session).unwrap().answer,
            Admission::Refuse(status, reason) => Answer::Refused(status, reason),
            Admission::Holding(token) => Answer::Granted(token),
            other => panic!("{other:?}"),
        }
    }

    fn acquire(&mut self, session: SessionId) -> FencingToken {
        match self.ask(session, FencingToken(0), Op::Acquire { try_only: false }) {
            Answer::Granted(token) => token,
            other => panic!("{other:?}"),
        }
    }

    fn expire(&mut self, skip: &[SessionId]) {
        let holder = self.machine.lock.holder.as_ref().unwrap();
        let (session, token) = (holder.session, holder.token);
        let lock = LockId(0);
        self.commit(Change::Expire { lock, session, token, is_skipped: false }, skip);
    }

    fn answer(&self, session: SessionId) -> Answer {
        self.machine.session(session).unwrap().answer
    }
}

fn request(session: SessionId, number: u64, attempt: u32, token: u64, op: Op<'_>) -> Request<'_> {
    Request {
        session,
        number: RequestNumber(number),
        attempt: Attempt(attempt),
        after: Attempt(0),
        stamp: Stamp(0),
        token: FencingToken(token),
        lock: LockId(0),
        op,
    }
}

/// A session that holds the lock, its token, and the attempt of its acquire.
fn holding() -> (World, SessionId, u64, Attempt) {
    let mut world = World::new();
    let session = world.register(1);
    let token = world.acquire(session).0;
    let after = world.machine.session(session).unwrap().attempt;
    (world, session, token, after)
}

fn append<'a>(file: &'a str, data: &'a [u8]) -> Op<'a> {
    let total = data.len() as u32;
    Op::Append { file: file.as_bytes(), total, offset: 0, window: 0, data }
}

const EXPIRED: Answer = Answer::Refused(Status::LeaseExpired, Reason::None);
const NOT_HOLDER: Answer = Answer::Refused(Status::NotHolder, Reason::None);
const WAIT: Op<'static> = Op::Acquire { try_only: false };

#[test]
fn a_section_appears_whole_at_release_and_not_before() {
    let mut world = World::new();
    let c1 = world.register(1);
    let token = world.acquire(c1);
    assert_eq!(world.ask(c1, token, append("file_0", b"ab")), Answer::Done);
    assert_eq!(world.ask(c1, token, append("file_1", b"x")), Answer::Done);
    assert_eq!(world.ask(c1, token, append("file_0", b"c")), Answer::Done);
    assert!(world.files.iter().all(Vec::is_empty));
    assert_eq!(world.ask(c1, token, Op::Release), Answer::Done);
    assert_eq!(world.files, [b"abc".to_vec(), b"x".to_vec(), vec![]]);
}

#[test]
fn expired_holder_is_told_so_and_can_acquire_again() {
    let mut world = World::new();
    let (c1, c2) = (world.register(1), world.register(2));
    let token = world.acquire(c1);
    world.ask(c1, token, append("file_0", b"A"));
    assert_eq!(world.ask(c2, FencingToken(0), WAIT), Answer::Waiting);
    world.expire(&[]);
    let Answer::Granted(second) = world.answer(c2) else { panic!() };
    assert!(second > token);
    for op in [append("file_0", b"A"), Op::Release, Op::Abort, Op::Renew] {
        assert_eq!(world.ask(c1, token, op), EXPIRED);
    }
    // It learns that the lock is lost before it queues for it anew.
    assert_eq!(world.ask(c1, token, WAIT), EXPIRED);
    assert_eq!(world.ask(c1, FencingToken(0), WAIT), Answer::Waiting);
    assert_eq!(world.ask(c1, token, append("file_0", b"A")), EXPIRED);
    assert_eq!(world.ask(c1, FencingToken(0), append("file_0", b"A")), NOT_HOLDER);
    assert_eq!(world.ask(c2, second, Op::Release), Answer::Done);
    assert_eq!(world.files[0], b"");
}

#[test]
fn late_copy_of_an_acquire_that_found_the_lock_held_takes_no_number() {
    let mut world = World::new();
    let (c1, c2) = (world.register(1), world.register(2));
    let token = world.acquire(c1);
    let number = world.machine.session(c1).unwrap().last.next().0;
    let again = request(c1, number, 9, token.0, WAIT);
    assert_eq!(world.deliver(&again), Admission::Holding(token));
    world.ask(c2, FencingToken(0), WAIT);
    world.expire(&[]);
    // After a restart the server does not know any more that it has answered this call.
    assert!(matches!(world.deliver(&again), Admission::Refuse(Status::LeaseExpired, _)));
    assert_eq!(world.machine.session(c1).unwrap().last.next().0, number);
}

#[test]
fn closing_under_a_lost_token_says_so_and_the_session_can_still_be_ended() {
    let mut world = World::new();
    let (c1, c2) = (world.register(1), world.register(2));
    let token = world.acquire(c1);
    world.ask(c1, token, append("file_0", b"A"));
    world.ask(c2, FencingToken(0), WAIT);
    world.expire(&[]);
    assert_eq!(world.ask(c1, token, Op::Close), EXPIRED);
    assert_eq!(world.ask(c1, FencingToken(0), Op::Close), Answer::Disconnected);
    assert_eq!(world.files[0], b"");
}

#[test]
fn a_lock_that_a_crash_brought_back_is_not_what_its_client_acquires() {
    let mut world = World::new();
    let (c1, c2) = (world.register(1), world.register(2));
    let token = world.acquire(c1);
    world.ask(c1, token, append("file_0", b"lost"));
    // It was told of an expiry of which the log has nothing any more: it names no token.
    let second = world.acquire(c1);
    assert!(second > token);
    world.ask(c1, second, append("file_0", b"A"));
    world.ask(c1, second, Op::Release);
    assert_eq!(world.files[0], b"A");
    // With somebody waiting it queues like anybody else.
    let third = world.acquire(c1);
    world.ask(c2, FencingToken(0), WAIT);
    assert!(third > second);
    assert_eq!(world.ask(c1, FencingToken(0), WAIT), Answer::Waiting);
    assert!(matches!(world.answer(c2), Answer::Granted(_)));
}

#[test]
fn an_earlier_piece_that_comes_again_is_answered_by_the_last_one() {
    let mut world = World::new();
    let c1 = world.register(1);
    let token = world.acquire(c1);
    let piece = |number, offset, data: &'static [u8]| {
        let op = Op::Append { file: b"file_0", total: 4, offset, window: 0, data };
        request(c1, number, 17, token.0, op)
    };
    assert!(matches!(world.deliver(&piece(3, 0, b"ab")), Admission::Propose(_)));
    assert!(matches!(world.deliver(&piece(4, 2, b"cd")), Admission::Propose(_)));
    assert_eq!(world.deliver(&piece(3, 0, b"ab")), Admission::Repeat);
}

#[test]
fn expiry_that_comes_too_late_does_nothing() {
    let mut world = World::new();
    let c1 = world.register(1);
    let old = world.acquire(c1);
    world.ask(c1, old, Op::Abort);
    let token = world.acquire(c1);
    let stale = Change::Expire { lock: LockId(0), session: c1, token: old, is_skipped: false };
    world.commit(stale, &[]);
    assert_eq!(world.ask(c1, token, Op::Release), Answer::Done);
}

#[test]
fn silent_waiters_are_skipped_and_learn_it_when_they_come_back() {
    let mut world = World::new();
    let ids: Vec<_> = (1..=4).map(|nonce| world.register(nonce)).collect();
    let token = world.acquire(ids[0]);
    for id in &ids[1..] {
        assert_eq!(world.ask(*id, FencingToken(0), WAIT), Answer::Waiting);
    }
    let release = request(ids[0], 3, 9, token.0, Op::Release);
    let admission = world.machine.admit(&world.knowing(&release), Attempt(0), LIMIT);
    let Admission::Propose(change) = admission else { panic!() };
    world.commit(change, &[ids[1], ids[2]]);
    assert_eq!(world.turns.len(), 1);
    assert_eq!(world.turns[0].0, ids[3]);
    assert_eq!(world.answer(ids[1]), Answer::Refused(Status::LeaseExpired, Reason::Skipped));
    assert_eq!(world.ask(ids[1], FencingToken(0), WAIT), Answer::Waiting);
}

/// First the server refuses append A, which takes no number, for want of room, and takes append B under that
/// number. Then a power loss takes B, and a late copy of A comes to the server as it starts. The client
/// goes on behind B.
#[test]
fn a_client_that_goes_on_behind_another_call_than_the_server_loses_its_session() {
    let (mut world, c1, token, after) = holding();
    let a = Request { after, ..request(c1, 3, 10, token, append("file_0", b"A")) };
    assert!(matches!(world.deliver_as_it_is(&a), Admission::Propose(_)));
    let behind_b = Request { after: Attempt(11), ..request(c1, 4, 12, token, Op::Release) };
    assert!(matches!(world.deliver_as_it_is(&behind_b), Admission::Lost(_)));
    assert!(world.files.iter().all(Vec::is_empty));
    assert!(world.machine.lock.holder.is_none());
}

/// An append's second piece was refused, and the client went on. After a restart, late pieces of that append
/// come: the third in its turn, or second and third before what the client asks next.
#[test]
fn late_pieces_of_an_append_that_was_refused_end_a_session_only_where_they_took_effect() {
    let (mut world, c1, token, after) = holding();
    let piece = |number, offset, after| {
        let op = Op::Append { file: b"file_0", total: 9, offset, window: 0, data: b"abc" };
        Request { after, ..request(c1, number, 10, token, op) }
    };
    assert!(matches!(world.deliver_as_it_is(&piece(3, 0, after)), Admission::Propose(_)));
    let next = |number| Request {
        after: Attempt(10),
        ..request(c1, number, 11, token, append("file_1", b"B"))
    };
    let mut other = World { machine: world.machine.clone(), ..World::new() };

    assert!(matches!(world.deliver_as_it_is(&next(4)), Admission::Propose(_)));
    assert_eq!(
        world.machine.admit(&piece(5, 6, Attempt(10)), Attempt(10), LIMIT),
        Admission::Ignore
    );

    for (number, offset) in [(4, 3), (5, 6)] {
        let late = piece(number, offset, Attempt(10));
        assert!(matches!(other.deliver_as_it_is(&late), Admission::Propose(_)));
    }
    assert!(matches!(other.deliver_as_it_is(&next(4)), Admission::Lost(_)));
}

#[test]
fn cancel_gives_back_a_grant_that_crossed_it() {
    let mut world = World::new();
    let (c1, c2) = (world.register(1), world.register(2));
    let token = world.acquire(c1);
    world.ask(c2, FencingToken(0), WAIT);
    world.ask(c1, token, Op::Release);
    assert!(matches!(world.answer(c2), Answer::Granted(_)));
    assert_eq!(world.ask(c2, FencingToken(0), Op::Cancel), Answer::Done);
    assert!(world.machine.lock.holder.is_none());
}

#[test]
fn cancel_may_overtake_an_acquire_that_is_then_ignored() {
    let mut world = World::new();
    let c1 = world.register(1);
    let late = request(c1, 2, 2, 0, WAIT);
    let cancel = request(c1, 3, 3, 0, Op::Cancel);
    assert!(matches!(world.deliver(&cancel), Admission::Propose(_)));
    assert_eq!(world.deliver(&late), Admission::Ignore);
    assert!(world.machine.lock.holder.is_none());
}

#[test]
fn an_earlier_piece_of_the_newest_append_gets_its_answer() {
    let mut world = World::new();
    let c1 = world.register(1);
    let token = world.acquire(c1);
    let piece = |number, offset| {
        let op = Op::Append { file: b"file_0", total: 2, offset, window: 0, data: b"x" };
        request(c1, number, 17, token.0, op)
    };
    for (number, offset) in [(3, 0), (4, 1)] {
        assert!(matches!(world.deliver(&piece(number, offset)), Admission::Propose(_)));
    }
    assert_eq!(world.deliver(&piece(3, 0)), Admission::Repeat);
    let stale = request(c1, 3, 16, token.0, append("file_0", b"x"));
    assert_eq!(world.deliver(&stale), Admission::Ignore);
    let release = request(c1, 5, 18, token.0, Op::Release);
    assert!(matches!(world.deliver(&release), Admission::Propose(_)));
    assert_eq!(world.deliver(&piece(3, 0)), Admission::Ignore);
    assert_eq!(world.files[0], b"xx");
}

#[test]
fn a_gap_in_the_numbers_loses_the_session_and_frees_its_lock() {
    let mut world = World::new();
    let (c1, c2) = (world.register(1), world.register(2));
    let token = world.acquire(c1);
    world.ask(c2, FencingToken(0), WAIT);
    let ahead = request(c1, 7, 9, token.0, Op::Release);
    assert!(matches!(world.deliver(&ahead), Admission::Lost(_)));
    assert!(world.machine.session(c1).is_none());
    assert!(matches!(world.answer(c2), Answer::Granted(_)));
    let refused = Admission::Refuse(Status::SessionLost, Reason::None);
    assert_eq!(world.deliver(&ahead), refused);
}

#[test]
fn pieces_become_one_append_or_nothing() {
    let mut world = World::new();
    let c1 = world.register(1);
    let token = world.acquire(c1);
    let piece = |offset, data| Op::Append { file: b"file_0", total: 4, offset, window: 0, data };
    assert_eq!(world.ask(c1, token, piece(0, b"ab")), Answer::Done);
    // A new append drops the unfinished one, and a piece must continue where the last ended.
    assert_eq!(world.ask(c1, token, piece(0, b"cd")), Answer::Done);
    let invalid = Answer::Refused(Status::InvalidArgument, Reason::None);
    assert_eq!(world.ask(c1, token, piece(3, b"x")), invalid);
    assert_eq!(world.ask(c1, token, piece(2, b"ef")), Answer::Done);
    assert_eq!(world.ask(c1, token, piece(0, b"gh")), Answer::Done);
    assert_eq!(world.ask(c1, token, Op::Release), Answer::Done);
    assert_eq!(world.files[0], b"cdef");
}

#[test]
fn early_pieces_wait_but_anything_else_early_is_a_gap() {
    let mut world = World::new();
    let c1 = world.register(1);
    let token = world.acquire(c1);
    let early = Op::Append { file: b"file_0", total: 9, offset: 3, window: 1, data: b"def" };
    assert_eq!(world.deliver(&request(c1, 4, 9, token.0, early)), Admission::Early);
    let gap = Op::Append { file: b"file_0", total: 9, offset: 3, window: 1, data: b"def" };
    assert!(matches!(world.deliver(&request(c1, 5, 9, token.0, gap)), Admission::Lost(_)));
}

#[test]
fn sections_beyond_the_limit_are_refused_before_they_are_staged() {
    let mut world = World::new();
    let c1 = world.register(1);
    let token = world.acquire(c1);
    assert_eq!(world.ask(c1, token, append("file_0", &[b'x'; 60])), Answer::Done);
    let large = Answer::Refused(Status::TooLarge, Reason::None);
    assert_eq!(world.ask(c1, token, append("file_0", &[b'y'; 5])), large);
    assert_eq!(world.ask(c1, token, append("file_0", &[b'z'; 4])), Answer::Done);
    assert_eq!(world.machine.staged_bytes(), LIMIT);
}

#[test]
fn closing_publishes_what_is_held_and_answers_again() {
    let mut world = World::new();
    let c1 = world.register(1);
    let token = world.acquire(c1);
    world.ask(c1, token, append("file_2", b"end"));
    let close = request(c1, 4, 9, token.0, Op::Close);
    assert!(matches!(world.deliver(&close), Admission::Propose(_)));
    assert_eq!(world.deliver(&close), Admission::Repeat);
    assert_eq!(world.answer(c1), Answer::Disconnected);
    assert_eq!(world.files[2], b"end");
    let after = request(c1, 5, 10, token.0, WAIT);
    assert_eq!(world.deliver(&after), Admission::Refuse(Status::SessionLost, Reason::None));
}

#[test]
fn tokens_and_sessions_of_a_new_start_are_above_all_earlier_ones() {
    let mut world = World::new();
    let c1 = world.register(1);
    let token = world.acquire(c1);
    // A power loss takes the whole suffix of the log; only the boot entries are synced.
    let mut restarted = World::new();
    restarted.commit(Change::Boot { epoch: 2, files: 3, records: 100, lease_ms: 1_000 }, &[]);
    let c2 = restarted.register(2);
    assert!(c2 > c1 && restarted.acquire(c2) > token);
}

fn kinds(machine: &Machine) -> Vec<RecordKind> {
    machine.history().from(0).1.map(|record| record.kind).collect()
}

#[test]
fn an_operator_takes_the_lock_away_and_everybody_can_read_why() {
    let mut world = World::new();
    let (c1, c2, operator) = (world.register(1), world.register(2), world.register(3));
    let token = world.acquire(c1);
    world.ask(c1, token, append("file_0", b"abc"));
    world.ask(c2, FencingToken(0), WAIT);
    let revoke = |token| Op::Revoke { token, reason: "stuck" };
    let not_held = Answer::Refused(Status::Refused, Reason::NotHeld);
    assert_eq!(world.ask(operator, FencingToken(0), revoke(FencingToken(9))), not_held);
    assert_eq!(world.ask(operator, FencingToken(0), revoke(token)), Answer::Done);
    assert!(matches!(world.answer(c2), Answer::Granted(_)), "the lock passes on");
    assert_eq!(world.ask(operator, FencingToken(0), revoke(token)), not_held);
    let revoked = Answer::Refused(Status::LeaseExpired, Reason::Revoked);
    assert_eq!(world.ask(c1, token, Op::Release), revoked);
    assert_eq!(world.ask(c1, token, Op::Renew), revoked);
    assert_eq!(world.files[0], b"");
    let records: Vec<_> = world.machine.history().from(3).1.collect();
    assert_eq!((records[0].kind, records[0].token), (RecordKind::Revoked, token));
    assert_eq!((records[0].session, records[0].bytes), (c1, 3));
    let by = records[0].revocation.as_ref().unwrap();
    assert_eq!((by.session, by.reason.as_str()), (operator, "stuck"));
    assert_eq!(records[1].kind, RecordKind::Granted);
}

#[test]
fn a_revocation_that_crosses_the_release_changes_nothing() {
    let mut world = World::new();
    let (c1, operator) = (world.register(1), world.register(2));
    let token = world.acquire(c1);
    let op = Op::Revoke { token, reason: "late" };
    let request = request(operator, 2, 9, 0, op);
    let request = world.knowing(&request);
    let Admission::Propose(late) = world.machine.admit(&request, Attempt(0), LIMIT) else {
        panic!("not proposed")
    };
    assert_eq!(world.ask(c1, token, append("file_0", b"A")), Answer::Done);
    assert_eq!(world.ask(c1, token, Op::Release), Answer::Done);
    world.commit(late, &[]);
    assert_eq!(world.answer(operator), Answer::Refused(Status::Refused, Reason::NotHeld));
    assert_eq!(world.files[0], b"A");
    use RecordKind::{Granted, Released, Started};
    assert_eq!(kinds(&world.machine), [Started, Granted, Released]);
}

#[test]
fn each_way_to_lose_or_give_back_the_lock_has_its_record() {
    let mut world = World::new();
    let ids: Vec<_> = (1..=5).map(|nonce| world.register(nonce)).collect();
    let token = world.acquire(ids[0]);
    world.ask(ids[0], token, append("file_0", b"ab"));
    for id in &ids[1..] {
        world.ask(*id, FencingToken(0), WAIT);
    }
    world.expire(&[ids[1]]);
    let Answer::Granted(third) = world.answer(ids[2]) else { panic!() };
    world.ask(ids[2], third, append("file_0", b"c"));
    world.ask(ids[2], third, Op::Abort);
    world.ask(ids[3], FencingToken(0), Op::Cancel);
    let Answer::Granted(fifth) = world.answer(ids[4]) else { panic!() };
    world.ask(ids[4], fifth, append("file_0", b"def"));
    world.ask(ids[4], fifth, Op::Close);
    world.acquire(ids[0]);
    let gap = request(ids[0], 77, 9, 0, Op::Release);
    assert!(matches!(world.deliver(&gap), Admission::Lost(_)));
    let found: Vec<_> = world.machine.history().from(0).1.map(|r| (r.kind, r.bytes)).collect();
    use RecordKind::*;
    let expected = [
        (Started, 0),
        (Granted, 0),
        (Expired, 2),
        (Skipped, 0),
        (Granted, 0),
        (Aborted, 1),
        (Granted, 0),
        (Cancelled, 0),
        (Granted, 0),
        (Released, 3),
        (Granted, 0),
        (Evicted, 0),
    ];
    assert_eq!(found, expected);
}

/// What the property test does next; indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Ask {
        client: usize,
        what: u8,
        file: u8,
        byte: u8,
    },
    /// An operator takes the lock away, or tries to under a token that is not the holder's.
    Revoke {
        is_stale: bool,
    },
    /// An earlier request arrives once more.
    Again {
        which: usize,
    },
    Expire {
        skip: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4usize, 0..12u8, 0..4u8, any::<u8>())
            .prop_map(|(client, what, file, byte)| Step::Ask { client, what, file, byte }),
        2 => any::<usize>().prop_map(|which| Step::Again { which }),
        1 => (0..4usize).prop_map(|skip| Step::Expire { skip }),
        1 => any::<bool>().prop_map(|is_stale| Step::Revoke { is_stale }),
    ]
}

/// The meaning of the operations once more, as simply as possible.
#[derive(Default)]
struct Model {
    queue: Vec<usize>,
    holder: Option<(usize, FencingToken)>,
    staged: Vec<(usize, u8)>,
    files: [Vec<u8>; 3],
    last_token: FencingToken,
    /// What the history should tell: what happened, to whom, how many bytes it was about.
    history: Vec<(RecordKind, usize, usize)>,
}

impl Model {
    fn grant(&mut self, client: usize, token: FencingToken) {
        assert!(self.holder.is_none(), "granted to a second holder");
        assert!(token > self.last_token, "a token came again");
        self.last_token = token;
        self.holder = Some((client, token));
        self.history.push((RecordKind::Granted, client, 0));
    }

    fn free(&mut self, kind: RecordKind) {
        let publishes = kind == RecordKind::Released;
        let Some((client, _)) = self.holder.take() else { panic!("nobody holds") };
        self.history.push((kind, client, self.staged.len()));
        for (file, byte) in self.staged.drain(..) {
            if publishes {
                self.files[file].push(byte);
            }
        }
    }
}

proptest! {
    #[test]
    fn the_machine_means_what_the_model_means(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        let ids: Vec<SessionId> = (0..4).map(|n| world.register(n)).collect();
        let operator = world.register(99);
        let mut tokens = [FencingToken(0); 4];
        let mut sent: Vec<(usize, u64, u32, FencingToken, u8, u8, u8)> = Vec::new();
        let mut model = Model::default();
        let mut states = vec![(world.log.len(), world.machine.clone())];
        for step in steps {
            let before = world.turns.len();
            match step {
                Step::Ask { client, what, file, byte } => {
                    let state = world.machine.session(ids[client]).unwrap();
                    let (number, attempt) = (state.last.next().0, sent.len() as u32 + 2);
                    let is_waiting = state.ticket.is_some();
                    sent.push((client, number, attempt, tokens[client], what, file, byte));
                    let name = format!("file_{file}");
                    let data = [byte];
                    let op = match what {
                        0..=3 => Op::Acquire { try_only: what == 3 },
                        4..=7 => append(&name, &data),
                        8 | 9 => Op::Release,
                        10 => Op::Abort,
                        _ => Op::Cancel,
                    };
                    let holds = model.holder.is_some_and(|(h, t)| h == client && t == tokens[client]);
                    let admission =
                        world.deliver(&request(ids[client], number, attempt, tokens[client].0, op));
                    let answer = world.answer(ids[client]);
                    match what {
                        // It learns that its lock is lost, and names none the next time.
                        0..=3 if !holds && tokens[client].0 > 0 => {
                            prop_assert!(matches!(
                                admission,
                                Admission::Refuse(Status::LeaseExpired, _)
                            ));
                            tokens[client] = FencingToken(0);
                        }
                        0..=3 => match model.holder {
                            Some((holder, token)) if holder == client => {
                                prop_assert_eq!(admission, Admission::Holding(token));
                                tokens[client] = token;
                            }
                            Some(_) if what == 3 => {
                                model.queue.retain(|waiter| *waiter != client);
                                prop_assert_eq!(
                                    answer,
                                    Answer::Refused(Status::WouldBlock, Reason::None)
                                );
                            }
                            Some(_) => {
                                if !is_waiting {
                                    model.queue.push(client);
                                }
                            }
                            None => {
                                let Answer::Granted(token) = answer else { panic!("{answer:?}") };
                                model.grant(client, token);
                                tokens[client] = token;
                            }
                        },
                        4..=7 if file == 3 => prop_assert_eq!(
                            admission,
                            Admission::Refuse(Status::FileNotFound, Reason::None)
                        ),
                        4..=7 if holds => {
                            if (model.staged.len() as u64) < LIMIT {
                                prop_assert_eq!(answer, Answer::Done);
                                model.staged.push((usize::from(file), byte));
                            }
                        }
                        8..=10 if holds => {
                            prop_assert_eq!(answer, Answer::Done);
                            model.free(match what {
                                10 => RecordKind::Aborted,
                                _ => RecordKind::Released,
                            });
                        }
                        4..=10 => prop_assert!(matches!(admission, Admission::Refuse(..))),
                        _ => {
                            model.queue.retain(|waiter| *waiter != client);
                            if model.holder.is_some_and(|(holder, _)| holder == client) {
                                model.free(RecordKind::Cancelled);
                            }
                        }
                    }
                }
                Step::Revoke { is_stale } => {
                    let held = model.holder.map_or(FencingToken(7), |(_, token)| token);
                    let token = FencingToken(held.0 - u64::from(is_stale));
                    let is_held = model.holder.is_some() && !is_stale;
                    let op = Op::Revoke { token, reason: "why" };
                    let answer = world.ask(operator, FencingToken(0), op);
                    if is_held {
                        prop_assert_eq!(answer, Answer::Done);
                        model.free(RecordKind::Revoked);
                    } else {
                        let refused = Answer::Refused(Status::Refused, Reason::NotHeld);
                        prop_assert_eq!(answer, refused);
                    }
                }
                Step::Again { which } => {
                    if sent.is_empty() { continue }
                    let (client, number, attempt, token, what, file, byte) =
                        sent[which % sent.len()];
                    let state = world.machine.session(ids[client]).unwrap();
                    // Whoever is newest decides in the server's memory, which is not here.
                    if number > state.last.0 { continue }
                    let name = format!("file_{file}");
                    let data = [byte];
                    let op = match what {
                        0..=3 => Op::Acquire { try_only: what == 3 },
                        4..=7 => append(&name, &data),
                        8 | 9 => Op::Release,
                        10 => Op::Abort,
                        _ => Op::Cancel,
                    };
                    let was = world.machine.clone();
                    world.deliver(&request(ids[client], number, attempt, token.0, op));
                    prop_assert_eq!(&was, &world.machine, "a duplicate took effect");
                }
                Step::Expire { skip } => {
                    if world.machine.lock.holder.is_none() { continue }
                    let skipped: Vec<usize> = model.queue.iter().copied().take(skip).collect();
                    let skip: Vec<SessionId> = skipped.iter().map(|c| ids[*c]).collect();
                    world.expire(&skip);
                    model.free(RecordKind::Expired);
                    for client in &skipped {
                        model.history.push((RecordKind::Skipped, *client, 0));
                    }
                    model.queue.retain(|waiter| !skipped.contains(waiter));
                }
            }
            for (session, token) in world.turns[before..].iter().copied() {
                let client = ids.iter().position(|id| *id == session).unwrap();
                prop_assert_eq!(client, model.queue.remove(0), "out of turn");
                model.grant(client, token);
                tokens[client] = token;
            }
            if model.holder.is_none() {
                prop_assert!(model.queue.is_empty(), "the lock is free while somebody waits");
            }
            prop_assert_eq!(world.machine.lock.holder.as_ref().map(|h| h.token),
                model.holder.map(|(_, token)| token));
            prop_assert_eq!(&world.files, &model.files.to_vec());
            prop_assert_eq!(world.machine.staged_bytes(), model.staged.len() as u64);
            states.push((world.log.len(), world.machine.clone()));
        }
        let (anchor, records) = world.machine.history().from(0);
        let records: Vec<_> = records.collect();
        prop_assert_eq!(records[0].kind, RecordKind::Started);
        prop_assert_eq!(records.len(), model.history.len() + 1);
        prop_assert_eq!(anchor, Hash::default());
        for (record, (kind, client, bytes)) in records[1..].iter().zip(&model.history) {
            prop_assert_eq!((record.kind, record.session), (*kind, ids[*client]));
            prop_assert_eq!(record.bytes, *bytes as u64);
        }
        for pair in records.windows(2) {
            prop_assert_eq!(pair[1].hash, pair[1].chained(pair[0].hash));
        }
        recovery_from_every_prefix_gives_the_state_then(&world.log, &states);
    }
}

fn recovery_from_every_prefix_gives_the_state_then(log: &[Command], states: &[(usize, Machine)]) {
    let mut machine = Machine::default();
    let mut applied = 0;
    for (index, state) in states {
        for command in &log[applied..*index] {
            let bytes = postcard::to_stdvec(command).unwrap();
            let read: Command = postcard::from_bytes(&bytes).unwrap();
            machine.apply(&read, &mut Vec::new());
        }
        applied = *index;
        assert_eq!(&machine, state);
        let snapshot = postcard::to_stdvec(state).unwrap();
        assert_eq!(&postcard::from_bytes::<Machine>(&snapshot).unwrap(), state);
    }
}
