use super::*;
use crate::protocol::{ClientInfo, Op, Outcome, Reply, Request};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use crate::wire;

/// A request of the session that has the peer's number, as attempt `number`.
fn request(peer: u64, number: u64, op: Op<'_>) -> Vec<u8> {
    let session = SessionId(if matches!(op, Op::Init { .. }) { 0 } else { peer });
    let mut bytes = Vec::new();
    let request = Request {
        session,
        number: RequestNumber(number),
        attempt: Attempt(number as u32),
        after: Attempt(0),
        stamp: Stamp(0),
        token: FencingToken(0),
        lock: LockId(0),
        op,
    };
    wire::encode_request(&request, &mut bytes);
    bytes
}

fn reply(peer: u64, number: u64, outcome: Outcome<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reply = Reply {
        session: SessionId(peer),
        number: RequestNumber(number),
        attempt: Attempt(number as u32),
        stamp: Stamp(0),
        is_consumed: true,
        outcome,
    };
    wire::encode_reply(&reply, &mut bytes);
    bytes
}

fn init(nonce: u64) -> Op<'static> {
    Op::Init { nonce, client: ClientInfo::default() }
}

const ACQUIRE: Op<'static> = Op::Acquire { try_only: false };
const GRANTED: Outcome<'static> = Outcome::Granted { token: FencingToken(1), lease_ms: 500 };
const QUEUED: Outcome<'static> = Outcome::Queued { position: 1, ask_again_ms: 100 };

fn scripted(script: &str) -> Core {
    Core::new(Faults::default(), script.parse().unwrap(), 0)
}

/// Hands in one datagram at time 0 and takes what comes out then, as (peer, bytes).
fn pass(core: &mut Core, peer: u64, direction: Direction, bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    core.handle_datagram(0, peer, direction, bytes.to_vec());
    drain(core, 0)
}

fn drain(core: &mut Core, now_us: u64) -> Vec<(u64, Vec<u8>)> {
    std::iter::from_fn(|| core.poll_transmit(now_us)).map(|t| (t.peer, t.bytes)).collect()
}

#[test]
fn without_faults_everything_passes_in_order_even_what_is_no_message() {
    let mut core = scripted("");
    for bytes in [&b"hello"[..], &request(1, 1, init(7)), b""] {
        assert_eq!(pass(&mut core, 1, Direction::Request, bytes), [(1, bytes.to_vec())]);
        assert_eq!(pass(&mut core, 1, Direction::Reply, bytes), [(1, bytes.to_vec())]);
    }
    assert_eq!(core.poll_timeout(), None);
    assert_eq!(core.stats().requests, Counts { seen: 3, sent: 3, ..Counts::default() });
}

#[test]
fn a_dropped_message_is_dropped_once_and_its_repetition_passes() {
    let mut core = scripted("drop request acquire of 2 nth 2");
    let (one, two) = (request(1, 2, ACQUIRE), request(2, 2, ACQUIRE));
    let again = request(2, 5, ACQUIRE);
    assert_eq!(pass(&mut core, 1, Direction::Request, &one).len(), 1);
    assert_eq!(pass(&mut core, 2, Direction::Request, &two).len(), 1);
    assert_eq!(pass(&mut core, 2, Direction::Request, &two).len(), 1, "a repetition of the first");
    assert_eq!(pass(&mut core, 2, Direction::Request, &again).len(), 0);
    assert_eq!(pass(&mut core, 2, Direction::Request, &again).len(), 1);
}

#[test]
fn a_drop_until_an_event_loses_every_repetition_before_it() {
    let mut core = scripted("drop request acquire of 1 nth 1 until request release of 2");
    let acquire = request(1, 2, ACQUIRE);
    for _ in 0..3 {
        assert_eq!(pass(&mut core, 1, Direction::Request, &acquire).len(), 0);
    }
    pass(&mut core, 2, Direction::Request, &request(2, 2, Op::Release));
    assert_eq!(pass(&mut core, 1, Direction::Request, &acquire).len(), 1);
    assert_eq!(core.stats().requests.dropped, 3);
}

#[test]
fn held_datagrams_follow_the_one_that_frees_them() {
    let mut core = scripted("hold reply to acquire of 1 until request acquire of 2");
    let acquire = request(1, 2, ACQUIRE);
    pass(&mut core, 1, Direction::Request, &acquire);
    let (queued, granted) = (reply(1, 2, QUEUED), reply(1, 2, GRANTED));
    assert_eq!(pass(&mut core, 1, Direction::Reply, &queued).len(), 0);
    assert_eq!(pass(&mut core, 1, Direction::Reply, &granted).len(), 0);
    let other = request(2, 2, ACQUIRE);
    let freed = pass(&mut core, 2, Direction::Request, &other);
    assert_eq!(freed, [(2, other), (1, queued.clone()), (1, granted)]);
    assert_eq!(pass(&mut core, 1, Direction::Reply, &queued).len(), 1, "the rule is over");
}

#[test]
fn a_held_datagram_goes_on_when_its_time_is_over() {
    let mut core = scripted("hold request acquire for 30ms");
    assert_eq!(pass(&mut core, 1, Direction::Request, &request(1, 2, ACQUIRE)).len(), 0);
    assert_eq!(core.poll_timeout(), Some(30_000));
    assert_eq!(drain(&mut core, 29_999).len(), 0);
    assert_eq!(drain(&mut core, 30_000).len(), 1);
}

#[test]
fn a_duplicate_passes_at_once_and_again_at_its_event() {
    let mut core = scripted("duplicate request release of 1 at reply granted of 2");
    let release = request(1, 3, Op::Release);
    assert_eq!(pass(&mut core, 1, Direction::Request, &release).len(), 1);
    let granted = reply(2, 2, GRANTED);
    let sent = pass(&mut core, 2, Direction::Reply, &granted);
    assert_eq!(sent, [(2, granted), (1, release)]);
}

#[test]
fn a_reply_is_known_by_what_it_answers() {
    let mut core = scripted("drop reply to release of 1 nth 2 copy 2");
    for (number, op) in [(2, Op::Release), (3, ACQUIRE), (4, Op::Release)] {
        pass(&mut core, 1, Direction::Request, &request(1, number, op));
    }
    let done = |number| reply(1, number, Outcome::Done { lease_ms: 0 });
    for (number, sent) in [(2, 1), (2, 1), (4, 1), (4, 0), (4, 1)] {
        assert_eq!(pass(&mut core, 1, Direction::Reply, &done(number)).len(), sent);
    }
}

#[test]
fn clients_are_numbered_by_their_sessions_not_their_addresses() {
    let mut core = scripted("");
    let second = core.watch("request acquire of 2".parse().unwrap());
    // Two sessions one after the other from one address.
    pass(&mut core, 9, Direction::Request, &request(5, 1, init(1)));
    pass(&mut core, 9, Direction::Request, &request(5, 2, ACQUIRE));
    pass(&mut core, 9, Direction::Request, &request(6, 1, init(2)));
    pass(&mut core, 9, Direction::Request, &request(5, 3, ACQUIRE));
    assert!(!core.has_seen(second));
    pass(&mut core, 9, Direction::Request, &request(6, 2, ACQUIRE));
    assert!(core.has_seen(second));
}

#[test]
fn a_new_script_frees_what_the_old_one_held() {
    let mut core = scripted("hold request any until request close of 7");
    assert_eq!(pass(&mut core, 1, Direction::Request, b"x").len(), 0);
    core.set_script(Script::default(), 5);
    assert_eq!(drain(&mut core, 5), [(1, b"x".to_vec())]);
}

#[test]
fn a_reordered_datagram_follows_the_next_or_goes_alone_after_a_while() {
    let rates = Rates { reorder: 1.0, ..Rates::default() };
    let faults = Faults { requests: rates, replies: Rates::default() };
    let mut core = Core::new(faults, Script::default(), 0);
    assert_eq!(pass(&mut core, 1, Direction::Request, b"a").len(), 0);
    core.set_faults(Faults::default());
    let sent = pass(&mut core, 1, Direction::Request, b"b");
    assert_eq!(sent, [(1, b"b".to_vec()), (1, b"a".to_vec())]);

    core.set_faults(Faults {
        requests: Rates { reorder: 1.0, ..Rates::default() },
        replies: Rates::default(),
    });
    assert_eq!(pass(&mut core, 1, Direction::Request, b"c").len(), 0);
    assert_eq!(drain(&mut core, REORDER_US_MAX).len(), 1);
}

#[test]
fn the_same_seed_makes_the_same_faults_and_the_rates_come_true() {
    let rates = Rates { drop: 0.3, duplicate: 0.1, reorder: 0.0, delay_us: (100, 900) };
    let run = |seed| {
        let faults = Faults { requests: rates.clone(), replies: Rates::default() };
        let mut core = Core::new(faults, Script::default(), seed);
        let mut sent = Vec::new();
        for n in 0..10_000u64 {
            core.handle_datagram(n * 1000, 1, Direction::Request, n.to_le_bytes().to_vec());
            assert!(core.poll_transmit(n * 1000 + 99).is_none(), "earlier than the least delay");
            sent.extend(std::iter::from_fn(|| core.poll_transmit(n * 1000 + 900)));
        }
        (sent, core.stats().requests)
    };
    let (sent, counts) = run(42);
    assert_eq!(sent, run(42).0);
    assert_ne!(sent, run(43).0);
    assert!((2_700..3_300).contains(&counts.dropped), "{counts}");
    assert!((600..800).contains(&counts.duplicated), "{counts}");
    assert_eq!(counts.sent, counts.seen - counts.dropped + counts.duplicated);
}
