//! Ending the session, losing it, and servers that do not answer.

use super::table::{Asked, TOKEN, Table, append};
use super::world::{SERVER, TIMEOUT_US, config};
use crate::client::call::{Answer, Call, Patience};
use crate::client::error::Error;
use crate::client::exchange::Exchange;
use crate::protocol::{Op, Outcome, Status};
use crate::types::FencingToken;
use std::net::SocketAddrV4;

#[test]
fn closing_while_holding_releases_first_and_says_what_became_of_it() {
    for (status, expected) in
        [(Status::Ok, Status::Ok), (Status::LeaseExpired, Status::LeaseExpired)]
    {
        let mut table = Table::holding();
        table.begin(Call::Close);
        let release = table.asked(|op| *op == Op::Release);
        if status == Status::Ok {
            table.answer(release, true, Outcome::Done { lease_ms: 0 });
        } else {
            table.refuse(release, false, status);
        }
        let close = table.asked(|op| *op == Op::Close);
        assert_eq!(close.token, FencingToken(0));
        table.answer(close, true, Outcome::Disconnected);
        let told = table.outcome().map_or_else(|error| error.status(), |_| Status::Ok);
        assert_eq!(told, expected);
        table.exchange.begin(Call::Renew, table.now);
        assert!(matches!(table.outcome(), Err(Error::NotOpen)));
    }
}

#[test]
fn closing_waits_two_seconds_for_nothing_and_longer_for_a_section() {
    let mut config = config(1);
    config.timeout_us = 10_000_000;
    let mut table = Table { exchange: Exchange::new(config), ..Table::connected() };
    table.begin(Call::Connect);
    let asked = table.asked(|op| matches!(op, Op::Init { .. }));
    table.answer(asked, true, Outcome::Connected { client_id: 9 });
    assert!(table.outcome().is_ok());
    table.begin(Call::Close);
    let began = table.now;
    assert!(matches!(table.run_out(), Err(Error::TimedOut)));
    assert_eq!(table.now, began + 2_000_000);

    let mut table = Table::holding();
    table.begin(Call::Close);
    let began = table.now;
    assert!(matches!(table.run_out(), Err(Error::TimedOut)));
    assert_eq!(table.now, began + TIMEOUT_US);
}

#[test]
fn a_lost_session_stays_lost_until_it_is_closed() {
    let mut table = Table::holding();
    table.begin(Call::Release);
    let asked = table.asked(|op| *op == Op::Release);
    table.refuse(asked, false, Status::SessionLost);
    assert!(matches!(table.outcome(), Err(Error::SessionLost)));
    table.begin(Call::Acquire(Patience::Forever));
    assert!(matches!(table.outcome(), Err(Error::SessionLost)));
    table.begin(Call::Close);
    assert!(matches!(table.outcome(), Ok(Answer::Done)));
}

#[test]
fn silence_moves_on_to_the_next_server() {
    let other: SocketAddrV4 = "10.0.0.2:10000".parse().unwrap();
    let mut config = config(1);
    config.servers.push(other);
    let mut exchange = Exchange::new(config);
    let (mut now, mut bytes, mut to) = (0, Vec::new(), Vec::new());
    exchange.begin(Call::Connect, now);
    loop {
        to.extend(exchange.poll_transmit(now, &mut bytes));
        let Some(at) = exchange.poll_timeout() else { break };
        now = at;
        exchange.handle_timeout(now);
    }
    assert_eq!(to[..2], [SERVER; 2]);
    to.dedup();
    assert_eq!(to[..3], [SERVER, other, SERVER]);
}

#[test]
fn a_server_that_cannot_decide_is_no_answer() {
    let mut table = Table::holding();
    table.begin(Call::Release);
    let asked = table.asked(|op| *op == Op::Release);
    table.refuse(asked, false, Status::Unavailable);
    assert!(table.exchange.poll_outcome().is_none());
    let again = table.asked_later(|op| *op == Op::Release);
    assert_eq!((again.number, again.attempt), (asked.number, asked.attempt));
}

/// A close that finds, as it settles an acquire without an answer, that what was appended before is lost:
/// what it asks next.
fn closing_what_is_lost() -> (Table, Asked) {
    let mut table = Table::holding();
    table.begin(append(b"x"));
    let asked = table.asked(|op| matches!(op, Op::Append { .. }));
    table.answer(asked, true, Outcome::Done { lease_ms: 500 });
    assert!(table.outcome().is_ok());
    table.begin(Call::Acquire(Patience::Forever));
    assert!(matches!(table.run_out(), Err(Error::TimedOut)));
    table.begin(Call::Close);
    let asked = table.asked(|op| matches!(op, Op::Acquire { .. }));
    assert_eq!(asked.token, TOKEN);
    table.answer(asked, true, Outcome::Granted { token: FencingToken(8), lease_ms: 500 });
    let close = table.asked(|op| *op == Op::Close);
    assert_eq!(close.token, FencingToken(0));
    (table, close)
}

#[test]
fn a_close_that_settles_a_lost_section_says_so() {
    let (mut table, close) = closing_what_is_lost();
    table.answer(close, true, Outcome::Disconnected);
    assert!(matches!(table.outcome(), Err(Error::LeaseExpired)));
    // Also where the session is lost on top of that.
    let (mut table, close) = closing_what_is_lost();
    table.refuse(close, false, Status::SessionLost);
    assert!(matches!(table.outcome(), Err(Error::SessionLost)));
}
