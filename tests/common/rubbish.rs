//! Datagrams that are no messages, and some that are: random bytes, and mutations of valid
//! messages, half of them with the checksum made right again, so that they come past it.

use baton::protocol::{ClientInfo, Op, Outcome, Reason, Reform, Reply, Request, Status};
use baton::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use baton::wire::{encode_reply, encode_request};

/// A session that no server has given: mutants must not speak for a test's own session.
const NO_SESSION: u64 = 0x5A5A_5A5A_5A5A_5A5A;

/// How many datagrams: `BATON_RUBBISH`, or as many as the test does by itself.
pub fn count(usual: u64) -> u64 {
    std::env::var("BATON_RUBBISH").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Makes datagrams from a seed.
pub struct Mutator {
    state: u64,
    messages: Vec<Vec<u8>>,
    datagram: Vec<u8>,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Mutator { state: seed, messages: messages(), datagram: Vec::new() }
    }

    /// The next datagram.
    pub fn datagram(&mut self) -> &[u8] {
        if self.below(4) == 0 {
            let length = self.below(1400);
            self.datagram = (0..length).map(|_| self.next() as u8).collect();
            return &self.datagram;
        }
        let pick = self.below(self.messages.len());
        self.datagram = self.messages[pick].clone();
        for _ in 0..=self.below(3) {
            self.mutate();
        }
        if self.below(2) == 0 && self.datagram.len() >= 8 {
            let sum =
                crc32c::crc32c_append(crc32c::crc32c(&self.datagram[..4]), &self.datagram[8..]);
            self.datagram[4..8].copy_from_slice(&sum.to_le_bytes());
        }
        &self.datagram
    }

    fn mutate(&mut self) {
        let length = self.datagram.len();
        if length == 0 {
            return;
        }
        let at = self.below(length);
        match self.below(6) {
            0 => self.datagram[at] ^= 1 << self.below(8),
            1 => self.datagram[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][self.below(6)],
            2 => self.datagram.truncate(at),
            3 => self.datagram.insert(at, self.state as u8),
            4 => self.datagram.extend_from_within(at..),
            _ => self.datagram[at] = self.next() as u8,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): small, and every seed is a good one.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// A valid message of every kind.
fn messages() -> Vec<Vec<u8>> {
    let client = ClientInfo { host: "h".into(), user: "u".into(), program: "p".into(), pid: 1 };
    let file = b"file_0";
    let requests = [
        Op::Init { nonce: 1, client },
        Op::Acquire { try_only: false },
        Op::Cancel,
        Op::Append { file, total: 3, offset: 0, window: 0, data: b"abc" },
        Op::Release,
        Op::Abort,
        Op::Close,
        Op::Renew,
        Op::Read { file, offset: 0, max: 100 },
        Op::Inspect { what: 1, from: 0 },
        Op::Revoke { token: FencingToken(1), reason: "why" },
        Op::Inspect { what: 3, from: 1 },
        Op::Inspect { what: 4, from: 1024 },
        Op::Revoke { token: FencingToken(1), reason: "stuck" },
        Op::Cluster,
        Op::Reform(Reform::Add { server: 4, addr: "db4:10001".into() }),
    ];
    let replies = [
        Outcome::Connected { client_id: 1 },
        Outcome::Granted { token: FencingToken(1), lease_ms: 500 },
        Outcome::Queued { position: 1, ask_again_ms: 100 },
        Outcome::Done { lease_ms: 0 },
        Outcome::Disconnected,
        Outcome::Data { length: 3, data: b"abc" },
        Outcome::Refused { status: Status::NotHolder, reason: Reason::None },
    ];
    requests.into_iter().map(request).chain(replies.into_iter().map(reply)).collect()
}

fn request(op: Op<'_>) -> Vec<u8> {
    let is_new = matches!(op, Op::Init { .. } | Op::Cluster);
    let mut bytes = Vec::new();
    let request = Request {
        session: SessionId(if is_new { 0 } else { NO_SESSION }),
        number: RequestNumber(1),
        attempt: Attempt(1),
        after: Attempt(0),
        stamp: Stamp(1),
        token: FencingToken(0),
        lock: LockId(0),
        op,
    };
    encode_request(&request, &mut bytes);
    bytes
}

fn reply(outcome: Outcome<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reply = Reply {
        session: SessionId(NO_SESSION),
        number: RequestNumber(1),
        attempt: Attempt(1),
        stamp: Stamp(1),
        is_consumed: true,
        outcome,
    };
    encode_reply(&reply, &mut bytes);
    bytes
}
