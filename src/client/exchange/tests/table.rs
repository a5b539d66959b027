//! One client, with the test as its server.

use super::world::{SERVER, config};
use crate::client::call::{Answer, Call, Patience};
use crate::client::error::Error;
use crate::client::exchange::Exchange;
use crate::protocol::{Op, Outcome, Reason, Reply, Request, Status};
use crate::types::{Attempt, FencingToken, RequestNumber, SessionId, Stamp};
use crate::wire;
use std::net::SocketAddrV4;

pub(super) const SESSION: SessionId = SessionId(77);
pub(super) const TOKEN: FencingToken = FencingToken(5);

pub(super) struct Table {
    pub(super) exchange: Exchange,
    pub(super) now: u64,
}

/// What the server has to remember of a request to answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) attempt: Attempt,
    pub(super) stamp: Stamp,
    pub(super) token: FencingToken,
}

impl Table {
    /// Not yet registered.
    pub(super) fn new() -> Table {
        Table { exchange: Exchange::new(config(1)), now: 1_000 }
    }

    pub(super) fn connected() -> Table {
        let mut table = Table::new();
        table.begin(Call::Connect);
        let asked = table.asked(|op| matches!(op, Op::Init { .. }));
        table.answer(asked, true, Outcome::Connected { client_id: 9 });
        assert!(matches!(table.outcome(), Ok(Answer::Done)));
        table
    }

    pub(super) fn holding() -> Table {
        let mut table = Table::connected();
        table.begin(Call::Acquire(Patience::Forever));
        let asked = table.asked(is_acquire);
        table.answer(asked, true, Outcome::Granted { token: TOKEN, lease_ms: 500 });
        assert!(matches!(table.outcome(), Ok(Answer::Granted(TOKEN))));
        table
    }

    pub(super) fn begin(&mut self, call: Call<'_>) {
        self.now += 10;
        self.exchange.begin(call, self.now);
    }

    /// The next request that the client sends, if it sends one now.
    pub(super) fn sends(&mut self, is_expected: impl Fn(&Op<'_>) -> bool) -> Option<Asked> {
        let mut bytes = Vec::new();
        assert_eq!(self.exchange.poll_transmit(self.now, &mut bytes)?, SERVER);
        let Request { number, attempt, stamp, token, op, .. } =
            wire::decode_request(&bytes).expect("it is well-formed");
        assert!(is_expected(&op), "{op:?}");
        Some(Asked { number: number.0, attempt, stamp, token })
    }

    pub(super) fn asked(&mut self, is_expected: impl Fn(&Op<'_>) -> bool) -> Asked {
        self.sends(is_expected).expect("the client asks")
    }

    /// Lets time pass until the client sends.
    pub(super) fn asked_later(&mut self, is_expected: impl Fn(&Op<'_>) -> bool + Copy) -> Asked {
        for _ in 0..100 {
            if let Some(asked) = self.sends(is_expected) {
                return asked;
            }
            self.now = self.now.max(self.exchange.poll_timeout().expect("a call is under way"));
            self.exchange.handle_timeout(self.now);
        }
        panic!("the client sends nothing");
    }

    pub(super) fn answer(&mut self, asked: Asked, is_consumed: bool, outcome: Outcome<'_>) {
        self.answer_from(SERVER, SESSION, asked, is_consumed, outcome);
    }

    pub(super) fn answer_from(
        &mut self,
        from: SocketAddrV4,
        session: SessionId,
        asked: Asked,
        is_consumed: bool,
        outcome: Outcome<'_>,
    ) {
        let Asked { number, attempt, stamp, .. } = asked;
        let number = RequestNumber(number);
        let reply = Reply { session, number, attempt, stamp, is_consumed, outcome };
        let mut bytes = Vec::new();
        wire::encode_reply(&reply, &mut bytes);
        self.now += 20;
        self.exchange.handle_datagram(self.now, from, &bytes);
    }

    pub(super) fn refuse(&mut self, asked: Asked, is_consumed: bool, status: Status) {
        self.answer(asked, is_consumed, Outcome::Refused { status, reason: Reason::None });
    }

    pub(super) fn outcome(&mut self) -> Result<Answer, Error> {
        self.exchange.poll_outcome().expect("the call has ended")
    }

    /// Lets the call run out of time without any answer.
    pub(super) fn run_out(&mut self) -> Result<Answer, Error> {
        let mut bytes = Vec::new();
        loop {
            while self.exchange.poll_transmit(self.now, &mut bytes).is_some() {}
            if let Some(outcome) = self.exchange.poll_outcome() {
                return outcome;
            }
            self.now = self.exchange.poll_timeout().expect("a call is under way");
            self.exchange.handle_timeout(self.now);
        }
    }
}

pub(super) fn is_acquire(op: &Op<'_>) -> bool {
    matches!(op, Op::Acquire { try_only: false })
}

pub(super) fn append(data: &[u8]) -> Call<'_> {
    Call::Append { file: b"file_0", data }
}
