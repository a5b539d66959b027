//! Golden bytes of every kind of message, the round trip, and each way to be malformed.

use super::layout::kind;
use super::*;
use crate::limits::{NAME_MAX, READ_MAX};
use crate::protocol::{ClientInfo, Op, Outcome, Reason, Reform, Reply, Request, Status};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use proptest::prelude::*;
use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;

/// Builds the expected datagram field by field, without the code under test.
struct Golden(Vec<u8>);

impl Golden {
    fn header(
        kind: u8,
        session: u64,
        number: u64,
        token: u64,
        attempt: u32,
        last: [u8; 4],
    ) -> Self {
        let mut bytes = vec![b'B', b'T', 2, kind, 0, 0, 0, 0];
        for field in [session, number, token, 0x0102_0304_0506_0708] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&attempt.to_le_bytes());
        bytes.extend_from_slice(&last);
        Golden(bytes)
    }

    fn with(mut self, body: &[u8]) -> Self {
        self.0.extend_from_slice(body);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.with(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.with(&value.to_le_bytes())
    }

    /// CRC-32C computed bit by bit, as RFC 3720 appendix B.4 describes it.
    fn sealed(mut self) -> Vec<u8> {
        let mut crc = !0u32;
        for byte in self.0[..4].iter().chain(&self.0[8..]) {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            }
        }
        self.0[4..8].copy_from_slice(&(!crc).to_le_bytes());
        self.0
    }
}

fn request(session: u64, token: u64, op: Op<'_>) -> Request<'_> {
    Request {
        session: SessionId(session),
        number: RequestNumber(0x1112),
        attempt: Attempt(0x21),
        after: Attempt(0x1F),
        stamp: Stamp(0x0102_0304_0506_0708),
        token: FencingToken(token),
        lock: LockId(0),
        op,
    }
}

fn reply(outcome: Outcome<'_>) -> Reply<'_> {
    Reply {
        session: SessionId(0xA1A2),
        number: RequestNumber(0x1112),
        attempt: Attempt(0x21),
        stamp: Stamp(0x0102_0304_0506_0708),
        is_consumed: true,
        outcome,
    }
}

fn encoded_request(request: &Request<'_>) -> Vec<u8> {
    let mut out = vec![0xFF; 7];
    encode_request(request, &mut out);
    out
}

fn encoded_reply(reply: &Reply<'_>) -> Vec<u8> {
    let mut out = vec![0xFF; 7];
    encode_reply(reply, &mut out);
    out
}

/// One request of every kind, with its expected bytes.
fn golden_requests() -> Vec<(Request<'static>, Vec<u8>)> {
    let of =
        |kind, session, token| Golden::header(kind, session, 0x1112, token, 0x21, [0; 4]).u32(0x1F);
    let head = |kind, token| of(kind, 0xA1A2, token);
    let client =
        ClientInfo { host: "h1".into(), user: "ü".into(), program: String::new(), pid: 0x3132 };
    let init = of(0x01, 0, 0)
        .u64(0x4142_4344_4546_4748)
        .u32(0x3132)
        .with(&[2, 2, 0, 0])
        .with(b"h1\xC3\xBC")
        .with(&[0; 56]);
    let revoke = Op::Revoke { token: FencingToken(0x5152), reason: "stück" };
    let append =
        Op::Append { file: b"file_7", total: 0x0102_0304, offset: 5, window: 9, data: b"abc" };
    vec![
        (request(0, 0, Op::Init { nonce: 0x4142_4344_4546_4748, client }), init.sealed()),
        (request(0xA1A2, 3, Op::Acquire { try_only: false }), head(2, 3).u64(0).sealed()),
        (request(0xA1A2, 0, Op::Acquire { try_only: true }), head(2, 0).u64(1).sealed()),
        (request(0xA1A2, 0, Op::Cancel), head(3, 0).sealed()),
        (
            request(0xA1A2, 3, append),
            head(4, 3).u32(0x0102_0304).u32(5).with(&[9, 0, 6, 0]).with(b"file_7abc").sealed(),
        ),
        (request(0xA1A2, 3, Op::Release), head(5, 3).sealed()),
        (request(0xA1A2, 3, Op::Abort), head(6, 3).sealed()),
        (request(0xA1A2, 0, Op::Close), head(7, 0).sealed()),
        (request(0xA1A2, 3, Op::Renew), head(8, 3).sealed()),
        (
            request(0xA1A2, 0, Op::Read { file: b"file_7", offset: 0x0203, max: 1024 }),
            head(9, 0).u64(0x0203).u32(1024).with(&[6, 0, 0, 0]).with(b"file_7").sealed(),
        ),
        (
            request(0xA1A2, 0, Op::Inspect { what: 3, from: 0x0203 }),
            head(10, 0).u64(0x0203).with(&[3, 0, 0, 0, 0, 0, 0, 0]).sealed(),
        ),
        (request(0xA1A2, 3, revoke), head(11, 3).u64(0x5152).with("stück".as_bytes()).sealed()),
        (request(0, 0, Op::Cluster), of(12, 0, 0).with(&[0; 1148]).sealed()),
        (
            request(0xA1A2, 0, Op::Reform(Reform::Add { server: 4, addr: "db4:1".into() })),
            head(13, 0).u64(4).with(&[1, 5, 0, 0, 0, 0, 0, 0]).with(b"db4:1").sealed(),
        ),
        (
            request(0xA1A2, 0, Op::Reform(Reform::Remove { server: 0x0203 })),
            head(13, 0).u64(0x0203).with(&[2, 0, 0, 0, 0, 0, 0, 0]).sealed(),
        ),
        (
            request(0xA1A2, 0, Op::Reform(Reform::Transfer { server: 1 })),
            head(13, 0).u64(1).with(&[3, 0, 0, 0, 0, 0, 0, 0]).sealed(),
        ),
    ]
}

/// One reply of every kind, with its expected bytes.
fn golden_replies() -> Vec<(Reply<'static>, Vec<u8>)> {
    let head = |kind, token| Golden::header(kind, 0xA1A2, 0x1112, token, 0x21, [0, 0, 1, 0]);
    let refused = Outcome::Refused { status: Status::Refused, reason: Reason::NoSpace };
    let unconsumed = Reply {
        is_consumed: false,
        ..reply(Outcome::Refused { status: Status::NotHolder, reason: Reason::None })
    };
    let granted = Outcome::Granted { token: FencingToken(0x5152), lease_ms: 10_000 };
    vec![
        (
            reply(Outcome::Connected { client_id: 77 }),
            head(0x81, 0).u32(77).u32(0).with(b"Connected!").sealed(),
        ),
        (reply(granted), head(0x82, 0x5152).u32(10_000).u32(0).sealed()),
        (
            reply(Outcome::Queued { position: 3, ask_again_ms: 300 }),
            head(0x83, 0).u32(3).u32(300).sealed(),
        ),
        (reply(Outcome::Done { lease_ms: 500 }), head(0x84, 0).u32(500).u32(0).sealed()),
        (reply(Outcome::Disconnected), head(0x85, 0).with(b"Disconnected!").sealed()),
        (
            reply(Outcome::Data { length: 0x0102_0304_0506, data: b"xyz" }),
            head(0x86, 0).u64(0x0102_0304_0506).with(b"xyz").sealed(),
        ),
        (reply(refused), Golden::header(0x87, 0xA1A2, 0x1112, 0, 0x21, [12, 1, 1, 0]).sealed()),
        (unconsumed, Golden::header(0x87, 0xA1A2, 0x1112, 0, 0x21, [2, 0, 0, 0]).sealed()),
        (reply(Outcome::NotLeader { leader: None }), head(0x88, 0).sealed()),
        (
            reply(Outcome::NotLeader { leader: Some("127.0.0.1:10000".parse().unwrap()) }),
            head(0x88, 0x7F00_0001_2710).sealed(),
        ),
    ]
}

#[test]
fn every_request_has_its_golden_bytes() {
    for (message, bytes) in golden_requests() {
        assert_eq!(encoded_request(&message), bytes, "{message:?}");
        assert_eq!(decode_request(&bytes), Ok(message));
        assert!(!is_reply(&bytes));
    }
}

#[test]
fn every_reply_has_its_golden_bytes() {
    for (message, bytes) in golden_replies() {
        assert_eq!(encoded_reply(&message), bytes, "{message:?}");
        assert_eq!(decode_reply(&bytes), Ok(message));
        assert!(is_reply(&bytes));
    }
}

/// A golden datagram with one byte changed and the checksum made right again.
fn resealed(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    seal(&mut bytes);
    bytes
}

fn golden_request(kind: u8) -> Vec<u8> {
    golden_requests().into_iter().map(|(_, bytes)| bytes).find(|bytes| bytes[3] == kind).unwrap()
}

fn golden_reply(kind: u8) -> Vec<u8> {
    golden_replies().into_iter().map(|(_, bytes)| bytes).find(|bytes| bytes[3] == kind).unwrap()
}

#[test]
fn a_datagram_of_another_length_protocol_or_version_is_malformed() {
    let good = golden_request(kind::RELEASE);
    assert_eq!(decode_request(&good[..REPLY_HEADER_LEN - 1]), Err(Malformed::Length));
    let mut cut = good[..REQUEST_HEADER_LEN - 1].to_vec();
    seal(&mut cut);
    assert_eq!(decode_request(&cut), Err(Malformed::Length));
    assert_eq!(decode_request(&[]), Err(Malformed::Length));
    assert_eq!(decode_request(&vec![0; DATAGRAM_MAX + 1]), Err(Malformed::Length));
    assert_eq!(decode_request(&resealed(good.clone(), 0, b'C')), Err(Malformed::Magic));
    assert_eq!(decode_request(&resealed(good.clone(), 2, 1)), Err(Malformed::Version));
    assert_eq!(decode_request(&resealed(good, 3, 14)), Err(Malformed::Kind));
}

/// What fuzzing begins with gets past the header. Its checksums are made right there, too.
#[test]
fn seeds_of_the_fuzzers_are_well_formed() {
    let seeds = |of: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(of);
        let entries = fs::read_dir(dir).unwrap().map(|entry| fs::read(entry.unwrap().path()));
        entries.map(|bytes| resealed(bytes.unwrap(), 0, b'B')).collect::<Vec<_>>()
    };
    let (requests, replies) = (seeds("wire_request"), seeds("wire_reply"));
    assert!(!requests.is_empty() && !replies.is_empty());
    assert!(requests.iter().all(|bytes| decode_request(bytes).is_ok()));
    assert!(replies.iter().all(|bytes| decode_reply(bytes).is_ok()));
}

#[test]
fn any_flipped_bit_is_noticed() {
    for (_, bytes) in golden_requests() {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_request(&damaged).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn requests_and_replies_are_never_taken_for_each_other() {
    for (_, bytes) in golden_requests() {
        assert!(decode_reply(&bytes).is_err());
    }
    for (_, bytes) in golden_replies() {
        let malformed = decode_request(&bytes).unwrap_err();
        assert!(matches!(malformed, Malformed::Kind | Malformed::Length));
    }
}

#[test]
fn a_body_shorter_or_longer_than_its_kind_is_malformed() {
    let kinds = [kind::ACQUIRE, kind::CANCEL, kind::RELEASE, kind::ABORT, kind::CLOSE, kind::RENEW];
    for kind in kinds.into_iter().chain([kind::READ, kind::INIT, kind::INSPECT, kind::REFORM]) {
        let mut longer = golden_request(kind);
        longer.push(0);
        seal(&mut longer);
        assert_eq!(decode_request(&longer), Err(Malformed::Length), "{kind}");
    }
    let long = [kind::INIT, kind::ACQUIRE, kind::APPEND, kind::READ, kind::INSPECT, kind::REVOKE];
    for kind in long.into_iter().chain([kind::CLUSTER, kind::REFORM]) {
        let mut shorter = golden_request(kind)[..REQUEST_HEADER_LEN + 4].to_vec();
        seal(&mut shorter);
        assert_eq!(decode_request(&shorter), Err(Malformed::Length), "{kind}");
    }
    let append = golden_request(kind::APPEND);
    assert_eq!(decode_request(&resealed(append, 62, 200)), Err(Malformed::Length));
    for kind in [kind::GRANTED, kind::QUEUED, kind::DONE, kind::DATA] {
        let mut shorter = golden_reply(kind)[..REPLY_HEADER_LEN + 4].to_vec();
        seal(&mut shorter);
        assert_eq!(decode_reply(&shorter), Err(Malformed::Length), "{kind}");
    }
}

#[test]
fn no_reply_carries_more_data_than_a_read_may_ask_for() {
    let data = [0; READ_MAX];
    let mut bytes = encoded_reply(&reply(Outcome::Data { length: 0, data: &data }));
    assert!(decode_reply(&bytes).is_ok());
    bytes.push(0);
    seal(&mut bytes);
    assert_eq!(decode_reply(&bytes), Err(Malformed::Length));
}

#[test]
fn a_field_out_of_its_range_is_malformed() {
    let bad_requests = [
        resealed(golden_request(kind::ACQUIRE), 52, 2),
        resealed(golden_request(kind::ACQUIRE), 56, 1),
        resealed(golden_request(kind::APPEND), 63, 1),
        resealed(golden_request(kind::READ), 65, 1),
        resealed(golden_request(kind::INSPECT), 61, 1),
        resealed(golden_request(kind::REVOKE), 60, 0xFF),
        // A reform for no server, of no kind, with an address that none has or none where one
        // belongs, or that is no text.
        resealed(golden_request(kind::REFORM), 52, 0),
        resealed(golden_request(kind::REFORM), 60, 2),
        resealed(golden_request(kind::REFORM), 60, 4),
        resealed(golden_request(kind::REFORM), 62, 1),
        resealed(golden_request(kind::REFORM), 68, 0xFF),
        resealed(golden_request(kind::CLUSTER), 1199, 1),
        resealed(golden_request(kind::CLUSTER), 8, 1),
        encoded_request(&request(1, 1, Op::Reform(Reform::Add { server: 1, addr: String::new() }))),
        // Text that is too long, not UTF-8, or not followed by zeros.
        resealed(golden_request(kind::INIT), 64, 64),
        resealed(golden_request(kind::INIT), 70, 0xFF),
        resealed(golden_request(kind::INIT), 127, 1),
        resealed(golden_request(kind::INIT), 67, 1),
        // `Init` with a session, and another request without one.
        resealed(golden_request(kind::INIT), 8, 1),
        resealed(resealed(golden_request(kind::RELEASE), 8, 0), 9, 0),
        // A piece that ends behind its append, and an empty piece of an append that is not empty.
        encoded_request(&request(
            1,
            1,
            Op::Append { file: b"f", total: 2, offset: 1, window: 0, data: b"ab" },
        )),
        encoded_request(&request(
            1,
            1,
            Op::Append { file: b"f", total: 2, offset: 1, window: 0, data: b"" },
        )),
    ];
    for (case, bytes) in bad_requests.iter().enumerate() {
        assert_eq!(decode_request(bytes), Err(Malformed::Field), "case {case}");
    }
    let bad_replies = [
        resealed(golden_reply(kind::GRANTED), 44, 14),
        resealed(golden_reply(kind::GRANTED), 44, 1),
        resealed(golden_reply(kind::REFUSED), 44, 0),
        resealed(golden_reply(kind::GRANTED), 45, 1),
        resealed(golden_reply(kind::REFUSED), 45, 21),
        resealed(golden_reply(kind::GRANTED), 46, 2),
        resealed(golden_reply(kind::GRANTED), 47, 1),
        resealed(golden_reply(kind::CONNECTED), 60, b'?'),
        resealed(golden_reply(kind::CONNECTED), 52, 1),
        resealed(golden_reply(kind::GRANTED), 52, 1),
        resealed(golden_reply(kind::DONE), 52, 1),
        resealed(golden_reply(kind::DISCONNECTED), 48, b'?'),
        resealed(golden_reply(kind::DONE), 24, 1),
    ];
    for (case, bytes) in bad_replies.iter().enumerate() {
        assert_eq!(decode_reply(bytes), Err(Malformed::Field), "case {case}");
    }
}

#[test]
fn reasons_travel_under_their_numbers() {
    let golden = [
        (1, Reason::NoSpace),
        (2, Reason::TooManySessions),
        (3, Reason::LogFailed),
        (4, Reason::Skipped),
        (5, Reason::Revoked),
        (6, Reason::NotHeld),
        (7, Reason::TooManyWaiters),
        (8, Reason::DataLimit),
        (9, Reason::NotCluster),
        (10, Reason::ChangeUnderWay),
        (11, Reason::NoQuorum),
        (12, Reason::NumberUsed),
        (13, Reason::AddressUsed),
        (14, Reason::TooManyServers),
        (15, Reason::NotWaiting),
        (16, Reason::NoSuchServer),
        (17, Reason::CannotLead),
        (18, Reason::LastServer),
        (19, Reason::BackupUnderWay),
        (20, Reason::NoBackup),
    ];
    assert_eq!(golden.len() + 1, Reason::ALL.len());
    for (number, reason) in golden {
        let sent = reply(Outcome::Refused { status: Status::Refused, reason });
        let bytes = encoded_reply(&sent);
        assert_eq!(bytes[45], number);
        assert_eq!(bytes, resealed(golden_reply(kind::REFUSED), 45, number));
        assert_eq!(decode_reply(&bytes), Ok(sent));
    }
}

#[test]
fn what_answers_init_is_never_longer_than_init() {
    let empty = encoded_request(&request(0, 0, Op::Init { nonce: 0, client: Default::default() }));
    assert_eq!(empty.len(), INIT_LEN_MIN);
    for outcome in [
        Outcome::Connected { client_id: u32::MAX },
        Outcome::Refused { status: Status::Refused, reason: Reason::TooManySessions },
    ] {
        assert!(encoded_reply(&reply(outcome)).len() <= empty.len());
    }
}

#[test]
fn long_texts_of_a_client_are_cut_at_a_character() {
    let host = "é".repeat(40);
    let client = ClientInfo { host, ..ClientInfo::default() };
    let bytes = encoded_request(&request(0, 0, Op::Init { nonce: 1, client }));
    let Ok(Request { op: Op::Init { client, .. }, .. }) = decode_request(&bytes) else {
        panic!("not an Init");
    };
    assert_eq!(client.host, "é".repeat(31));
}

#[test]
fn a_reason_is_cut_by_the_sender_and_never_taken_longer() {
    let reason = "é".repeat(101);
    let op = Op::Revoke { token: FencingToken(1), reason: &reason };
    let mut bytes = encoded_request(&request(1, 0, op));
    let Ok(Request { op: Op::Revoke { reason, .. }, .. }) = decode_request(&bytes) else {
        panic!("not a Revoke");
    };
    assert_eq!(reason, "é".repeat(100));
    bytes.push(b'x');
    seal(&mut bytes);
    assert_eq!(decode_request(&bytes), Err(Malformed::Length));
}

#[test]
fn the_longest_piece_fills_a_datagram() {
    let (file, data) = (vec![b'f'; NAME_MAX], vec![b'd'; piece_max(NAME_MAX)]);
    let total = data.len() as u32;
    let op = Op::Append { file: &file, total, offset: 0, window: 0, data: &data };
    assert_eq!(encoded_request(&request(1, 1, op)).len(), DATAGRAM_MAX);
}

/// What a generated message owns, since messages borrow.
#[derive(Clone, Debug)]
struct Parts {
    numbers: [u64; 5],
    small: [u32; 4],
    reason: String,
    name: Vec<u8>,
    data: Vec<u8>,
    texts: [String; 3],
    flag: bool,
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        any::<[u64; 5]>(),
        any::<[u32; 4]>(),
        "\\PC{0,50}",
        prop::collection::vec(any::<u8>(), 0..=NAME_MAX),
        prop::collection::vec(any::<u8>(), 0..=piece_max(NAME_MAX)),
        prop::array::uniform3("\\PC{0,15}"),
        any::<bool>(),
    )
        .prop_map(|(numbers, small, reason, name, data, texts, flag)| Parts {
            numbers,
            small,
            reason,
            name,
            data,
            texts,
            flag,
        })
}

fn any_request(parts: &Parts, kind: usize) -> Request<'_> {
    let ([session, number, stamp, token, nonce], [attempt, lock, a, b]) =
        (parts.numbers, parts.small);
    let op = match kind {
        0 => {
            let [host, user, program] = parts.texts.clone();
            Op::Init { nonce, client: ClientInfo { host, user, program, pid: a } }
        }
        1 => Op::Acquire { try_only: parts.flag },
        2 => Op::Cancel,
        3 => {
            let offset = if parts.data.is_empty() { 0 } else { b / 2 };
            let total = offset + parts.data.len() as u32;
            let (file, data) = (&parts.name[..], &parts.data[..]);
            Op::Append { file, total, offset, window: a as u16, data }
        }
        4 => Op::Release,
        5 => Op::Abort,
        6 => Op::Close,
        7 => Op::Renew,
        8 => Op::Inspect { what: a as u8, from: nonce },
        9 => Op::Revoke { token: FencingToken(nonce), reason: &parts.reason },
        10 => Op::Cluster,
        11 => {
            let addr: String = parts.reason.chars().take(16).collect();
            let server = nonce.max(1);
            Op::Reform(match a % 3 {
                0 if !addr.is_empty() => Reform::Add { server, addr },
                1 => Reform::Remove { server },
                _ => Reform::Transfer { server },
            })
        }
        _ => Op::Read { file: &parts.name, offset: nonce, max: a },
    };
    let session = if matches!(kind, 0 | 10) { 0 } else { session.max(1) };
    Request {
        session: SessionId(session),
        number: RequestNumber(number),
        attempt: Attempt(attempt),
        after: Attempt(b),
        stamp: Stamp(stamp),
        token: FencingToken(token),
        lock: LockId(lock),
        op,
    }
}

fn any_reply(parts: &Parts, kind: usize) -> Reply<'_> {
    let ([session, number, stamp, token, length], [attempt, a, b, c]) =
        (parts.numbers, parts.small);
    let outcome = match kind {
        0 => Outcome::Connected { client_id: a },
        1 => Outcome::Granted { token: FencingToken(token), lease_ms: a },
        2 => Outcome::Queued { position: a, ask_again_ms: b },
        3 => Outcome::Done { lease_ms: a },
        4 => Outcome::Disconnected,
        5 => Outcome::Data { length, data: &parts.data[..parts.data.len().min(READ_MAX)] },
        6 => {
            let leader = SocketAddrV4::new(b.max(1).into(), (c as u16).max(1));
            Outcome::NotLeader { leader: (a % 2 == 0).then_some(leader) }
        }
        _ => Outcome::Refused {
            status: Status::ALL[1 + a as usize % 13],
            reason: Reason::from_code((c % Reason::ALL.len() as u32) as u8).unwrap(),
        },
    };
    Reply {
        session: SessionId(session),
        number: RequestNumber(number),
        attempt: Attempt(attempt),
        stamp: Stamp(stamp),
        is_consumed: parts.flag,
        outcome,
    }
}

proptest! {
    #[test]
    fn requests_survive_the_round_trip(parts in parts(), kind in 0..13usize) {
        let request = any_request(&parts, kind);
        let bytes = encoded_request(&request);
        prop_assert!(bytes.len() <= DATAGRAM_MAX);
        prop_assert_eq!(decode_request(&bytes), Ok(request));
    }

    #[test]
    fn replies_survive_the_round_trip(parts in parts(), kind in 0..8usize) {
        let reply = any_reply(&parts, kind);
        let bytes = encoded_reply(&reply);
        prop_assert!(bytes.len() <= DATAGRAM_MAX);
        prop_assert_eq!(decode_reply(&bytes), Ok(reply));
    }
}
