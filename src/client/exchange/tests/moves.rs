//! Single situations, datagram by datagram.

use super::table::{Asked, SESSION, TOKEN, Table, append, is_acquire};
use super::world::{SERVER, TIMEOUT_US};
use crate::client::call::{Answer, Call, Patience};
use crate::client::error::Error;
use crate::protocol::{Op, Outcome, Status};
use crate::types::{Attempt, FencingToken, SessionId, Stamp};

const DONE: Outcome<'static> = Outcome::Done { lease_ms: 500 };
const QUEUED: Outcome<'static> = Outcome::Queued { position: 3, ask_again_ms: 300 };

#[test]
fn repeated_registrations_and_their_answers_are_one_session() {
    let mut table = Table::new();
    table.begin(Call::Connect);
    let first = table.asked(|op| matches!(op, Op::Init { nonce: 1, .. }));
    let second = table.asked_later(|op| matches!(op, Op::Init { nonce: 1, .. }));
    assert_eq!((first.number, first.attempt), (second.number, second.attempt));
    table.answer(first, true, Outcome::Connected { client_id: 9 });
    table.answer(second, true, Outcome::Connected { client_id: 9 });
    assert!(table.outcome().is_ok() && table.exchange.poll_outcome().is_none());
    table.begin(Call::Release);
    table.answer(second, true, Outcome::Connected { client_id: 9 });
    assert!(table.exchange.poll_outcome().is_none());
    assert_eq!(table.asked(|op| *op == Op::Release).number, 2);
}

#[test]
fn only_the_answer_to_this_call_from_a_server_counts() {
    let mut table = Table::connected();
    table.begin(Call::Acquire(Patience::Try));
    let asked = table.asked(|op| *op == Op::Acquire { try_only: true });
    let granted = Outcome::Granted { token: TOKEN, lease_ms: 500 };
    let stranger = "10.0.0.9:10000".parse().unwrap();
    table.answer_from(stranger, SESSION, asked, true, granted.clone());
    table.answer_from(SERVER, SessionId(78), asked, true, granted.clone());
    for other in [
        Asked { number: asked.number - 1, ..asked },
        Asked { number: asked.number + 1, ..asked },
        Asked { attempt: Attempt(asked.attempt.0 - 1), ..asked },
        Asked { stamp: Stamp(asked.stamp.0 - 1), ..asked },
        Asked { stamp: Stamp(asked.stamp.0 + 1), ..asked },
    ] {
        table.answer(other, true, granted.clone());
    }
    table.answer(asked, true, DONE);
    table.answer(asked, true, Outcome::Granted { token: FencingToken(0), lease_ms: 500 });
    assert!(table.exchange.poll_outcome().is_none());
    table.answer(asked, true, granted);
    assert!(matches!(table.outcome(), Ok(Answer::Granted(TOKEN))));
}

#[test]
fn a_number_that_was_not_taken_is_used_again_with_a_new_attempt() {
    let mut table = Table::holding();
    table.begin(Call::Append { file: b"nowhere", data: b"x" });
    let refused = table.asked(|op| matches!(op, Op::Append { .. }));
    table.refuse(refused, false, Status::FileNotFound);
    assert!(matches!(table.outcome(), Err(Error::FileNotFound)));
    table.begin(append(b"x"));
    let asked = table.asked(|op| matches!(op, Op::Append { .. }));
    assert_eq!(asked.number, refused.number);
    assert_eq!(asked.attempt.0, refused.attempt.0 + 1);
    table.refuse(refused, false, Status::FileNotFound);
    table.answer(asked, true, DONE);
    assert!(table.outcome().is_ok());
}

#[test]
fn a_waiting_client_is_silent_until_it_was_told_to_ask() {
    let mut table = Table::connected();
    table.begin(Call::Acquire(Patience::Forever));
    let first = table.asked(is_acquire);
    table.answer(first, true, QUEUED);
    let told_at = table.now;
    let second = table.asked_later(is_acquire);
    assert_eq!(table.now, told_at + 300_000);
    assert_eq!((first.number, first.attempt), (second.number, second.attempt));
    assert!(second.stamp > first.stamp);
    // The turn comes: it asks at once.
    table.answer(second, true, Outcome::Queued { position: 0, ask_again_ms: 0 });
    let third = table.asked(is_acquire);
    table.answer(third, true, Outcome::Granted { token: TOKEN, lease_ms: 500 });
    assert!(table.outcome().is_ok());
}

#[test]
fn an_answer_to_an_earlier_transmission_leaves_the_newest_unanswered() {
    let mut table = Table::connected();
    table.begin(Call::Acquire(Patience::Forever));
    let first = table.asked(is_acquire);
    let _lost = table.asked_later(is_acquire);
    table.answer(first, true, QUEUED);
    let before = table.now;
    table.asked_later(is_acquire);
    assert!(table.now < before + 290_000);
}

#[test]
fn a_wait_in_the_queue_is_not_taken_for_a_round_trip() {
    let mut table = Table::connected();
    table.begin(Call::Acquire(Patience::Forever));
    let first = table.asked(is_acquire);
    // Its answer is lost, and so is all that follows; what arrives is the announced turn.
    for _ in 0..4 {
        table.asked_later(is_acquire);
    }
    table.answer(first, true, Outcome::Queued { position: 0, ask_again_ms: 0 });
    let asked = table.asked(is_acquire);
    table.answer(asked, true, Outcome::Granted { token: TOKEN, lease_ms: 60_000 });
    assert!(table.outcome().is_ok());
    let before = table.now;
    table.begin(append(b"x"));
    table.asked(|op| matches!(op, Op::Append { .. }));
    table.asked_later(|op| matches!(op, Op::Append { .. }));
    assert!(table.now - before < 30_000, "asked again only after {} µs", table.now - before);
}

#[test]
fn waiting_goes_on_as_long_as_the_server_answers() {
    let mut table = Table::connected();
    table.begin(Call::Acquire(Patience::Forever));
    let began = table.now;
    while table.now < began + 3 * TIMEOUT_US {
        let asked = table.asked_later(is_acquire);
        table.answer(asked, true, QUEUED);
    }
    let silent_from = table.now;
    assert!(matches!(table.run_out(), Err(Error::TimedOut)));
    assert_eq!(table.now, silent_from + 300_000 + TIMEOUT_US);
}

#[test]
fn a_lost_place_in_the_queue_is_taken_anew() {
    let mut table = Table::connected();
    table.begin(Call::Acquire(Patience::Forever));
    let asked = table.asked(is_acquire);
    table.answer(asked, true, QUEUED);
    let asked = table.asked_later(is_acquire);
    table.refuse(asked, true, Status::LeaseExpired);
    let anew = table.asked(is_acquire);
    assert_eq!(anew.number, asked.number + 1);
    table.answer(anew, true, Outcome::Granted { token: TOKEN, lease_ms: 500 });
    assert!(matches!(table.outcome(), Ok(Answer::Granted(TOKEN))));
}

#[test]
fn a_grant_that_crosses_the_cancel_is_given_back_by_it() {
    let mut table = Table::connected();
    let until = table.now + 200_000;
    table.begin(Call::Acquire(Patience::Until(until)));
    let asked = table.asked(is_acquire);
    table.answer(asked, true, QUEUED);
    let cancel = table.asked_later(|op| *op == Op::Cancel);
    assert_eq!((table.now, cancel.number), (until, asked.number + 1));
    table.answer(asked, true, Outcome::Granted { token: TOKEN, lease_ms: 500 });
    assert_eq!((table.exchange.token(), table.exchange.poll_outcome().is_none()), (None, true));
    table.answer(cancel, true, Outcome::Done { lease_ms: 0 });
    assert!(matches!(table.outcome(), Err(Error::WouldBlock)));
    table.begin(Call::Renew);
    assert_eq!(table.asked(|op| *op == Op::Renew).number, cancel.number + 1);
}

#[test]
fn what_timed_out_is_settled_before_the_next_call() {
    let mut table = Table::holding();
    table.begin(append(b"x"));
    assert!(matches!(table.run_out(), Err(Error::TimedOut)));
    table.begin(Call::Release);
    let pending = table.asked(|op| matches!(op, Op::Append { data: b"x", .. }));
    table.answer(pending, true, DONE);
    let release = table.asked(|op| *op == Op::Release);
    assert_eq!(release.number, pending.number + 1);
    table.answer(release, true, Outcome::Done { lease_ms: 0 });
    assert!(table.outcome().is_ok());
}

#[test]
fn an_answer_between_calls_settles_too() {
    let mut table = Table::holding();
    table.begin(Call::Release);
    let release = table.asked(|op| *op == Op::Release);
    assert!(matches!(table.run_out(), Err(Error::TimedOut)));
    table.answer(release, true, Outcome::Done { lease_ms: 0 });
    assert_eq!(table.exchange.token(), None);
    table.begin(Call::Abort);
    assert_eq!(table.asked(|op| *op == Op::Abort).number, release.number + 1);
}

#[test]
fn an_acquire_that_timed_out_is_gone_on_with_or_cancelled() {
    for goes_on in [true, false] {
        let mut table = Table::connected();
        table.begin(Call::Acquire(Patience::Forever));
        let first = table.asked(is_acquire);
        assert!(matches!(table.run_out(), Err(Error::TimedOut)));
        table.begin(if goes_on { Call::Acquire(Patience::Forever) } else { Call::Release });
        let again = table.asked(is_acquire);
        assert_eq!((again.number, again.attempt), (first.number, first.attempt));
        table.answer(again, true, QUEUED);
        if goes_on {
            table.answer(again, true, Outcome::Granted { token: TOKEN, lease_ms: 500 });
            assert!(matches!(table.outcome(), Ok(Answer::Granted(TOKEN))));
        } else {
            let cancel = table.asked(|op| *op == Op::Cancel);
            table.answer(cancel, true, Outcome::Done { lease_ms: 0 });
            let release = table.asked(|op| *op == Op::Release);
            table.refuse(release, false, Status::NotHolder);
            assert!(matches!(table.outcome(), Err(Error::NotHolder)));
        }
    }
}

#[test]
fn a_refused_piece_ends_the_append_and_gives_its_number_back() {
    let mut table = Table::holding();
    let data = vec![b'x'; 20_000];
    table.begin(append(&data));
    let mut pieces = Vec::new();
    while let Some(piece) = table.sends(|op| matches!(op, Op::Append { total: 20_000, .. })) {
        pieces.push(piece);
    }
    assert!(pieces.len() > 10);
    table.answer(pieces[2], true, DONE);
    table.refuse(pieces[5], false, Status::TooLarge);
    assert!(matches!(table.outcome(), Err(Error::TooLarge)));
    table.begin(append(b""));
    let next = table.asked(|op| matches!(op, Op::Append { total: 0, data: b"", .. }));
    assert_eq!(next.number, pieces[5].number);
}

#[test]
fn losing_acknowledged_appends_is_told_once() {
    for news in [QUEUED, Outcome::Granted { token: FencingToken(8), lease_ms: 500 }] {
        let mut table = Table::holding();
        table.begin(append(b"x"));
        let asked = table.asked(|op| matches!(op, Op::Append { .. }));
        table.answer(asked, true, DONE);
        assert!(table.outcome().is_ok());
        table.begin(Call::Acquire(Patience::Forever));
        let asked = table.asked(is_acquire);
        assert_eq!(asked.token, TOKEN);
        table.answer(asked, true, news);
        let undo = table.asked(|op| matches!(op, Op::Cancel | Op::Abort));
        table.answer(undo, true, Outcome::Done { lease_ms: 0 });
        assert!(matches!(table.outcome(), Err(Error::LeaseExpired)));
        table.begin(Call::Acquire(Patience::Forever));
        assert_eq!(table.asked(is_acquire).token, FencingToken(0));
    }
}

#[test]
fn losing_nothing_acquires_anew_without_a_word() {
    let mut table = Table::holding();
    table.begin(Call::Acquire(Patience::Forever));
    let asked = table.asked(is_acquire);
    table.answer(asked, true, QUEUED);
    table.answer(asked, true, Outcome::Granted { token: FencingToken(8), lease_ms: 500 });
    assert!(matches!(table.outcome(), Ok(Answer::Granted(FencingToken(8)))));
}

#[test]
fn the_lease_counts_from_before_the_answered_transmission() {
    let mut table = Table::connected();
    table.begin(Call::Acquire(Patience::Forever));
    let first = table.asked(is_acquire);
    table.asked_later(is_acquire);
    table.answer(first, true, Outcome::Granted { token: TOKEN, lease_ms: 500 });
    let lease = table.exchange.lease().clone();
    assert_eq!(lease.deadline_us(TOKEN), Some(first.stamp.0 + 500_000));
    assert!(table.outcome().is_ok());
    table.begin(Call::Renew);
    let asked = table.asked(|op| *op == Op::Renew);
    table.answer(asked, false, DONE);
    assert_eq!(lease.deadline_us(TOKEN), Some(asked.stamp.0 + 500_000));
    assert!(table.outcome().is_ok());
    table.begin(Call::Renew);
    let asked = table.asked(|op| *op == Op::Renew);
    table.refuse(asked, false, Status::LeaseExpired);
    assert_eq!((lease.token(), lease.remaining_us(table.now)), (None, 0));
}
