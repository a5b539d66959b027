//! Whose turn it is to take datagrams from the socket.
//!
//! One thread at a time has the turn, serves what it takes, and keeps the turn: it is awake, and looks
//! for the next datagram already. What is slow by nature, such as a sync, it gives to one that stands
//! by, unless a single client has been heard lately, which waits for just that. The others
//! stand by rather than block in `recv`, where the kernel would wake one for every datagram, which
//! costs more than serving it. One of them looks from time to time whether the thread with the
//! turn is stuck, and then takes the turn from it.

use super::inbox::Inbox;
use super::threads::lock;
use crate::engine::solo::Flush;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrIn};
use std::os::fd::RawFd;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A thread that is in one request at two looks of this distance is stuck.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A thread that stood by for this long ends, unless it is the last one.
const SURPLUS_AFTER: Duration = Duration::from_secs(30);
/// What was waited for no longer than this makes it worth looking for the next without blocking.
pub(super) const DENSE: Duration = Duration::from_micros(200);
/// A client is on its own when no other was heard for this long.
const LONE: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub struct Reception {
    state: Mutex<State>,
    /// For those who stand by, ...
    changed: Condvar,
    /// ... and the one among them that looks now and then.
    watching: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Who has the turn, by a number that is given once.
    turn: Option<u64>,
    last_turn: u64,
    /// Requests that were begun, and whether the last one is still under way.
    served: u64,
    is_serving: bool,
    /// Threads that stand by, and those that will as soon as they have started.
    standing_by: usize,
    starting: usize,
    watch: Watch,
    /// For one who stands by.
    flush: Option<Flush>,
    is_closed: bool,
}

/// Whether one of those who stand by looks at `served` now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watch {
    #[default]
    Asleep,
    /// Somebody was woken for it.
    Called,
    Awake,
}

/// What a thread is to do that stood by.
#[derive(Debug)]
pub enum Duty {
    Receive(Turn),
    Flush(Flush),
}

/// The turn of one thread.
#[derive(Debug)]
pub struct Turn {
    number: u64,
    /// The last datagram was not long in coming.
    is_dense: bool,
    /// Who sent it, and the first of those that came from there in a row.
    client: Option<(SockaddrIn, Instant)>,
    is_lone: bool,
}

impl Reception {
    /// Stands by until there is something to do; None when this thread is to end.
    pub fn stand_by(&self) -> Option<Duty> {
        let mut state = lock(&self.state);
        state.standing_by += 1;
        let mut is_watching = false;
        let mut is_surplus = false;
        while !state.is_closed && state.turn.is_some() && state.flush.is_none() {
            if state.watch == Watch::Called {
                (state.watch, is_watching) = (Watch::Awake, true);
            }
            let served = state.served;
            let (bell, time) = match is_watching {
                true => (&self.watching, LOOK_EVERY),
                false => (&self.changed, SURPLUS_AFTER),
            };
            let waited = bell.wait_timeout(state, time);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = next;
            if !timeout.timed_out() || state.flush.is_some() {
                continue;
            }
            is_surplus = !is_watching && state.standing_by > 1;
            let is_still = is_watching && state.served == served;
            if is_surplus || (is_still && state.is_serving) {
                break;
            }
            if is_still {
                (state.watch, is_watching) = (Watch::Asleep, false);
            }
        }
        state.standing_by -= 1;
        if is_watching || state.watch == Watch::Called {
            self.leave_watch(&mut state);
        }
        // Also when there is to be no turn any more: nobody else knows of it.
        if let Some(flush) = state.flush.take() {
            return Some(Duty::Flush(flush));
        }
        if state.is_closed || is_surplus {
            return None;
        }
        state.last_turn += 1;
        state.turn = Some(state.last_turn);
        (state.is_serving, state.watch) = (false, Watch::Asleep);
        let number = state.last_turn;
        Some(Duty::Receive(Turn { number, is_dense: false, client: None, is_lone: false }))
    }

    /// Somebody else has to look after a request that is under way, one who stands by or the next one
    /// that comes to; if there is none under way, the next request calls somebody.
    fn leave_watch(&self, state: &mut State) {
        state.watch = Watch::Asleep;
        if state.is_serving {
            state.watch = Watch::Called;
            self.changed.notify_one();
        }
    }

    /// Has somebody who stands by do this, so that `turn` goes on. Gives it back if nobody does, or
    /// if only the client is served that waits for it: then waking others only takes time.
    pub fn offer(&self, turn: &Turn, flush: Flush) -> Option<Flush> {
        let mut state = lock(&self.state);
        let is_free = state.standing_by > 0 && state.flush.is_none();
        if turn.is_lone || !is_free {
            return Some(flush);
        }
        state.flush = Some(flush);
        let watching = usize::from(state.watch == Watch::Awake);
        let bell = if state.standing_by > watching { &self.changed } else { &self.watching };
        drop(state);
        bell.notify_one();
        None
    }

    /// A request is taken up. Returns whether a thread is to be started, so that one stands by;
    /// it says [`Reception::has_started`].
    #[must_use]
    pub fn begin(&self, turn: &Turn) -> bool {
        let mut state = lock(&self.state);
        if state.turn == Some(turn.number) {
            state.served += 1;
            state.is_serving = true;
            if state.watch == Watch::Asleep {
                // If nobody stands by, the next one that comes to sees it.
                state.watch = Watch::Called;
                if state.standing_by > 0 {
                    self.changed.notify_one();
                }
            }
        }
        let is_alone = state.standing_by + state.starting == 0;
        state.starting += usize::from(is_alone);
        is_alone
    }

    /// The first thread is about to be started.
    pub fn starts(&self) {
        lock(&self.state).starting += 1;
    }

    /// The thread that was to be started is there, or could not be.
    pub fn has_started(&self) {
        lock(&self.state).starting -= 1;
    }

    /// The request is done. Returns whether this is still the thread's turn.
    pub fn end(&self, turn: &Turn) -> bool {
        let mut state = lock(&self.state);
        let is_mine = state.turn == Some(turn.number);
        if is_mine {
            state.is_serving = false;
        }
        is_mine
    }

    /// Nobody gets a turn any more.
    pub fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
        self.watching.notify_all();
    }
}

impl Turn {
    /// A single client has been heard lately.
    pub fn is_lone(&self) -> bool {
        self.is_lone
    }

    /// Waits for a datagram: while they come densely, for up to `spin` without blocking, because
    /// waking a thread takes longer than a round trip; yielding all the while, so that whoever
    /// would send one can run.
    pub fn receive(
        &mut self,
        socket: RawFd,
        inbox: &mut Inbox,
        spin: Duration,
    ) -> nix::Result<Option<SockaddrIn>> {
        let begun = Instant::now();
        let mut received = Err(Errno::EAGAIN);
        if self.is_dense && !spin.is_zero() {
            received = inbox.receive(socket, MsgFlags::MSG_DONTWAIT);
            while received == Err(Errno::EAGAIN) && begun.elapsed() < spin {
                thread::yield_now();
                received = inbox.receive(socket, MsgFlags::MSG_DONTWAIT);
            }
        }
        if received == Err(Errno::EAGAIN) {
            received = inbox.receive(socket, MsgFlags::empty());
        }
        let now = Instant::now();
        self.is_dense = now - begun < DENSE;
        if let Ok(Some(from)) = &received {
            self.heard(*from, now);
        }
        received
    }

    fn heard(&mut self, from: SockaddrIn, now: Instant) {
        match &self.client {
            Some((client, since)) if *client == from => self.is_lone = now - *since >= LONE,
            _ => (self.client, self.is_lone) = (Some((from, now)), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogIndex;
    use std::collections::VecDeque;
    use std::net::SocketAddrV4;
    use std::sync::Arc;
    use std::thread::JoinHandle;

    /// A reception whose turn is taken, and a thread that stands by for its number.
    fn one_stands_by() -> (Arc<Reception>, Turn, JoinHandle<Option<u64>>) {
        let reception = Arc::new(Reception::default());
        let turn = first_turn(&reception);
        assert!(reception.begin(&turn), "nobody stands by");
        assert!(!reception.begin(&turn), "one is on its way");
        assert!(reception.end(&turn));
        let other = Arc::clone(&reception);
        let standing_by = thread::spawn(move || {
            other.has_started();
            loop {
                match other.stand_by()? {
                    Duty::Receive(turn) => return Some(turn.number),
                    Duty::Flush(flush) => assert_eq!(flush.through, LogIndex(7)),
                }
            }
        });
        while lock(&reception.state).standing_by == 0 {
            thread::yield_now();
        }
        (reception, turn, standing_by)
    }

    fn first_turn(reception: &Reception) -> Turn {
        match reception.stand_by() {
            Some(Duty::Receive(turn)) => turn,
            other => panic!("no turn but {other:?}"),
        }
    }

    fn flush() -> Flush {
        Flush { through: LogIndex(7), needs_sync: true, parts: VecDeque::new() }
    }

    fn is_taken(reception: &Reception) -> bool {
        lock(&reception.state).flush.is_none()
    }

    #[test]
    fn who_stands_by_flushes_while_the_turn_goes_on() {
        for is_watched in [false, true] {
            let (reception, turn, other) = one_stands_by();
            if is_watched {
                assert!(!reception.begin(&turn));
                assert!(reception.end(&turn));
            }
            assert!(reception.offer(&turn, flush()).is_none());
            while !is_taken(&reception) {
                thread::yield_now();
            }
            assert!(reception.end(&turn), "it is still this thread's turn");
            reception.close();
            assert_eq!(other.join().unwrap(), None);
        }
    }

    #[test]
    fn a_flush_comes_back_when_nobody_stands_by() {
        let reception = Reception::default();
        let turn = first_turn(&reception);
        assert!(reception.offer(&turn, flush()).is_some());
    }

    #[test]
    fn a_flush_comes_back_while_a_single_client_is_heard() {
        let (reception, mut turn, other) = one_stands_by();
        let (begun, one, two) = (Instant::now(), address(1), address(2));
        turn.heard(one, begun);
        turn.heard(one, begun + LONE);
        assert!(reception.offer(&turn, flush()).is_some());
        turn.heard(two, begun + LONE);
        turn.heard(one, begun + LONE);
        assert!(reception.offer(&turn, flush()).is_none(), "another may wait to be heard");
        reception.close();
        assert_eq!(other.join().unwrap(), None);
        assert!(is_taken(&reception), "it was lost by closing");
    }

    fn address(port: u16) -> SockaddrIn {
        SocketAddrV4::new([127, 0, 0, 1].into(), port).into()
    }

    #[test]
    fn who_is_stuck_in_a_request_loses_the_turn() {
        let (reception, turn, other) = one_stands_by();
        assert!(!reception.begin(&turn));
        assert_eq!(other.join().unwrap(), Some(2));
        assert!(!reception.end(&turn));
    }

    #[test]
    fn who_is_stuck_in_the_first_request_loses_the_turn() {
        let reception = Reception::default();
        let turn = first_turn(&reception);
        assert!(reception.begin(&turn), "nobody stands by");
        reception.has_started();
        assert_eq!(first_turn(&reception).number, 2);
    }

    #[test]
    fn who_is_stuck_loses_the_turn_also_when_the_one_that_looks_was_given_a_flush() {
        let (reception, turn, other) = one_stands_by();
        assert!(!reception.begin(&turn));
        while lock(&reception.state).watch != Watch::Awake {
            thread::yield_now();
        }
        let mut state = lock(&reception.state);
        state.flush = Some(flush());
        state.is_serving = true;
        drop(state);
        reception.watching.notify_one();
        assert_eq!(other.join().unwrap(), Some(2));
        assert!(is_taken(&reception));
    }

    #[test]
    fn who_waits_for_requests_keeps_the_turn() {
        let (reception, turn, other) = one_stands_by();
        assert!(!reception.begin(&turn));
        assert!(reception.end(&turn));
        while lock(&reception.state).watch != Watch::Asleep {
            thread::yield_now();
        }
        assert!(reception.end(&turn), "only one who is stuck loses it");
        reception.close();
        assert_eq!(other.join().unwrap(), None);
    }
}
