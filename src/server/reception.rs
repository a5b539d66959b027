//! Whose turn it is to take datagrams from the socket.
//!
//! One thread at a time has the turn, serves what it takes, and keeps the turn while that goes
//! quickly; before it does what is slow by nature, such as a sync, it passes the turn on. The others
//! stand by rather than block in `recv`, where the kernel would wake one for every datagram, which
//! costs more than serving it. One of them looks from time to time whether the thread with the
//! turn is stuck in something that ought to have been quick, and then takes the turn from it.

use super::threads::lock;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrIn, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::RawFd;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A thread that is in one request at two looks of this distance is stuck.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A thread that stood by for this long ends, unless it is the last one.
const SURPLUS_AFTER: Duration = Duration::from_secs(30);
/// Datagrams that follow each other within this make it worth looking for more without blocking.
const DENSE: Duration = Duration::from_micros(200);

#[derive(Debug, Default)]
pub struct Reception {
    state: Mutex<State>,
    changed: Condvar,
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
    pace: Pace,
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

/// How datagrams come.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    heard: Option<Instant>,
    is_dense: bool,
}

/// The turn of one thread.
#[derive(Debug)]
pub struct Turn {
    number: u64,
    pace: Pace,
}

impl Reception {
    /// Stands by until the turn comes; None when this thread is to end.
    pub fn stand_by(&self) -> Option<Turn> {
        let mut state = lock(&self.state);
        state.standing_by += 1;
        let mut is_watching = false;
        let mut is_surplus = false;
        while !state.is_closed && state.turn.is_some() {
            if state.watch == Watch::Called {
                (state.watch, is_watching) = (Watch::Awake, true);
            }
            let served = state.served;
            let time = if is_watching { LOOK_EVERY } else { SURPLUS_AFTER };
            let waited = self.changed.wait_timeout(state, time);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = next;
            if !timeout.timed_out() {
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
        if is_watching || state.watch == Watch::Called {
            // The next request calls another one.
            state.watch = Watch::Asleep;
        }
        state.standing_by -= 1;
        if state.is_closed || is_surplus {
            return None;
        }
        state.last_turn += 1;
        state.turn = Some(state.last_turn);
        state.is_serving = false;
        Some(Turn { number: state.last_turn, pace: state.pace })
    }

    /// A request is taken up. Returns whether a thread is to be started, so that one stands by;
    /// it says [`Reception::has_started`].
    #[must_use]
    pub fn begin(&self, turn: &Turn) -> bool {
        let mut state = lock(&self.state);
        if state.turn == Some(turn.number) {
            state.served += 1;
            state.is_serving = true;
            if state.standing_by > 0 && state.watch == Watch::Asleep {
                state.watch = Watch::Called;
                self.changed.notify_one();
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

    /// Ends the turn, if it is this thread's still.
    pub fn pass_on(&self, turn: &Turn) {
        let mut state = lock(&self.state);
        if state.turn == Some(turn.number) {
            state.turn = None;
            state.pace = turn.pace;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Nobody gets a turn any more.
    pub fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }
}

impl Turn {
    /// Waits for a datagram: while they come densely, for up to `spin` without blocking, because
    /// waking a thread takes longer than a round trip; yielding all the while, so that whoever
    /// would send one can run.
    pub fn receive(
        &mut self,
        socket: RawFd,
        buffer: &mut [u8],
        spin: Duration,
    ) -> nix::Result<(usize, Option<SockaddrIn>)> {
        let mut received = Err(Errno::EAGAIN);
        if self.pace.is_dense && !spin.is_zero() {
            let begun = Instant::now();
            received = receive(socket, buffer, MsgFlags::MSG_DONTWAIT);
            while received == Err(Errno::EAGAIN) && begun.elapsed() < spin {
                thread::yield_now();
                received = receive(socket, buffer, MsgFlags::MSG_DONTWAIT);
            }
        }
        if received == Err(Errno::EAGAIN) {
            received = receive(socket, buffer, MsgFlags::empty());
        }
        let now = Instant::now();
        let is_dense = self.pace.heard.is_some_and(|heard| now - heard < DENSE);
        self.pace = Pace { heard: Some(now), is_dense };
        received
    }
}

fn receive(
    socket: RawFd,
    buffer: &mut [u8],
    flags: MsgFlags,
) -> nix::Result<(usize, Option<SockaddrIn>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn>(socket, &mut parts, None, flags)?;
    Ok((message.bytes, message.address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread::JoinHandle;

    /// A reception whose turn is taken, and a thread that stands by for it.
    fn one_stands_by() -> (Arc<Reception>, Turn, JoinHandle<Option<u64>>) {
        let reception = Arc::new(Reception::default());
        let turn = reception.stand_by().unwrap();
        assert!(reception.begin(&turn), "nobody stands by");
        assert!(!reception.begin(&turn), "one is on its way");
        assert!(reception.end(&turn));
        let other = Arc::clone(&reception);
        let standing_by = thread::spawn(move || {
            other.has_started();
            other.stand_by().map(|turn| turn.number)
        });
        while lock(&reception.state).standing_by == 0 {
            thread::yield_now();
        }
        (reception, turn, standing_by)
    }

    #[test]
    fn the_turn_passes_to_who_stands_by() {
        let (reception, turn, other) = one_stands_by();
        assert!(!reception.begin(&turn));
        reception.pass_on(&turn);
        assert_eq!(other.join().unwrap(), Some(2));
        assert!(!reception.end(&turn), "it is another's turn");
    }

    #[test]
    fn who_is_stuck_in_a_request_loses_the_turn() {
        let (reception, turn, other) = one_stands_by();
        assert!(!reception.begin(&turn));
        assert_eq!(other.join().unwrap(), Some(2));
        assert!(!reception.end(&turn));
        reception.pass_on(&turn);
        assert_eq!(lock(&reception.state).turn, Some(2), "it was not this thread's to pass on");
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
