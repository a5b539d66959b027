//! What is measured beside the counts of [`Counters`](crate::protocol::inspect::Counters): plain
//! numbers that are changed where the core's lock is held anyway, and read out under it. Times
//! come from the clock that the change was given, so measuring asks for none of its own.

use crate::protocol::{Op, Reason, Status};
use crate::server::core::Now;
use crate::types::{FencingToken, SessionId};
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets of every histogram, in microseconds: 10 µs to 10 minutes.
pub const BOUNDS_US: [u64; 24] = [
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
];

/// How often each duration came up, by buckets.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// By bucket; the last is for what is longer than every bound.
    pub counts: [u64; BOUNDS_US.len() + 1],
    pub sum_us: u64,
}

/// The same for what is measured outside of the core's lock.
#[derive(Debug, Default)]
pub struct SharedHistogram {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// What a client may ask for, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpKind {
    Init,
    Acquire,
    Cancel,
    Append,
    Release,
    Abort,
    Close,
    Renew,
    Read,
    Inspect,
    Revoke,
    Cluster,
}

/// What an answer is for, and when that was taken up: in microseconds, modulo 2^32, as it is kept
/// with every answer that waits.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    op: OpKind,
    at_us: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Requests, by [`OpKind`].
    pub requests: [u64; OpKind::ALL.len()],
    /// From taking up a request until its answer may leave, by [`OpKind`].
    pub answers: [Histogram; OpKind::ALL.len()],
    /// From asking for the lock until it is granted, or the turn comes.
    pub waits: Histogram,
    /// From grant to giving or taking back.
    pub holds: Histogram,
    /// Refusals, by the numbers of status and reason.
    pub refused: [[u64; Reason::ALL.len()]; Status::ALL.len()],
    now_us: u64,
    asked: Option<(SessionId, Asked)>,
    held: FencingToken,
    held_since_us: u64,
}

impl Meter {
    /// The core is about to do something.
    pub fn tick(&mut self, now: Now) {
        self.now_us = now.steady_us;
    }

    /// A request is taken up.
    pub fn begin(&mut self, session: SessionId, op: &Op<'_>) {
        let op = OpKind::of(op);
        self.requests[op as usize] += 1;
        self.asked = Some((session, Asked { op, at_us: self.now_us as u32 }));
    }

    /// The request has been dealt with; its answer may still have to wait.
    pub fn end(&mut self) {
        self.asked = None;
    }

    /// What a session is told now is the answer to this.
    pub fn asked(&self, session: SessionId) -> Option<Asked> {
        let (by, asked) = self.asked?;
        // Who registers has no session yet.
        (by == session || asked.op == OpKind::Init).then_some(asked)
    }

    /// An answer may leave.
    pub fn answered(&mut self, asked: Asked) {
        let us = (self.now_us as u32).wrapping_sub(asked.at_us);
        self.answers[asked.op as usize].observe(us.into());
    }

    pub fn refused(&mut self, status: Status, reason: Reason) {
        self.refused[status as usize][reason as usize] += 1;
    }

    /// The lock was granted to one who had waited since then; at once without `since_us`.
    pub fn granted(&mut self, since_us: Option<u64>) {
        self.waits.observe(since_us.map_or(0, |since| self.now_us.saturating_sub(since)));
    }

    /// The lock is held under this token now, 0 when it is free.
    pub fn held(&mut self, token: FencingToken) {
        if token == self.held {
            return;
        }
        if self.held.0 > 0 {
            self.holds.observe(self.now_us.saturating_sub(self.held_since_us));
        }
        self.held = token;
        self.held_since_us = self.now_us;
    }
}

impl Histogram {
    #[inline]
    pub fn observe(&mut self, us: u64) {
        self.counts[bucket(us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    pub fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl SharedHistogram {
    pub fn observe(&self, us: u64) {
        self.counts[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What it has by now; an observation under way may be in one part and not yet in the other.
    pub fn read(&self) -> Histogram {
        let mut histogram = Histogram::default();
        for (copy, count) in histogram.counts.iter_mut().zip(&self.counts) {
            *copy = count.load(Ordering::Relaxed);
        }
        histogram.sum_us = self.sum_us.load(Ordering::Relaxed);
        histogram
    }
}

fn bucket(us: u64) -> usize {
    BOUNDS_US.partition_point(|bound| *bound < us)
}

impl OpKind {
    pub const ALL: [OpKind; 12] = [
        OpKind::Init,
        OpKind::Acquire,
        OpKind::Cancel,
        OpKind::Append,
        OpKind::Release,
        OpKind::Abort,
        OpKind::Close,
        OpKind::Renew,
        OpKind::Read,
        OpKind::Inspect,
        OpKind::Revoke,
        OpKind::Cluster,
    ];

    fn of(op: &Op<'_>) -> Self {
        match op {
            Op::Init { .. } => OpKind::Init,
            Op::Acquire { .. } => OpKind::Acquire,
            Op::Cancel => OpKind::Cancel,
            Op::Append { .. } => OpKind::Append,
            Op::Release => OpKind::Release,
            Op::Abort => OpKind::Abort,
            Op::Close => OpKind::Close,
            Op::Renew => OpKind::Renew,
            Op::Read { .. } => OpKind::Read,
            Op::Inspect { .. } => OpKind::Inspect,
            Op::Revoke { .. } => OpKind::Revoke,
            Op::Cluster | Op::Reform(_) => OpKind::Cluster,
        }
    }

    /// The word for it in labels.
    pub fn word(self) -> &'static str {
        match self {
            OpKind::Init => "init",
            OpKind::Acquire => "acquire",
            OpKind::Cancel => "cancel",
            OpKind::Append => "append",
            OpKind::Release => "release",
            OpKind::Abort => "abort",
            OpKind::Close => "close",
            OpKind::Renew => "renew",
            OpKind::Read => "read",
            OpKind::Inspect => "inspect",
            OpKind::Revoke => "revoke",
            OpKind::Cluster => "cluster",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Millis;

    fn at(us: u64) -> Now {
        Now { steady: Millis(us / 1_000), steady_us: us, unix: Millis(0) }
    }

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let (mut histogram, shared) = (Histogram::default(), SharedHistogram::default());
        for us in [0, 10, 11, 600_000_000, 600_000_001] {
            histogram.observe(us);
            shared.observe(us);
        }
        assert_eq!((histogram.counts[0], histogram.counts[1]), (2, 1));
        assert_eq!(histogram.counts[BOUNDS_US.len() - 1..], [1, 1]);
        assert_eq!((histogram.count(), histogram.sum_us), (5, 1_200_000_022));
        assert_eq!(shared.read().counts, histogram.counts);
        assert!(BOUNDS_US.is_sorted());
    }

    #[test]
    fn a_hold_lasts_from_one_token_to_the_next() {
        let mut meter = Meter::default();
        for (us, token) in [(5, 0), (10, 1), (50, 1), (110, 2), (1_110, 0), (9_999, 0)] {
            meter.tick(at(us));
            meter.held(FencingToken(token));
        }
        assert_eq!((meter.holds.count(), meter.holds.sum_us), (2, 1_100));
    }

    #[test]
    fn an_answer_is_timed_only_for_the_session_that_asked() {
        let mut meter = Meter::default();
        meter.tick(at(100));
        meter.begin(SessionId(1), &Op::Release);
        assert!(meter.asked(SessionId(2)).is_none());
        let asked = meter.asked(SessionId(1)).unwrap();
        meter.end();
        assert!(meter.asked(SessionId(1)).is_none());
        meter.tick(at(350));
        meter.answered(asked);
        assert_eq!(meter.answers[OpKind::Release as usize].sum_us, 250);
        assert_eq!(meter.requests[OpKind::Release as usize], 1);
    }

    #[test]
    fn kinds_stand_at_their_numbers() {
        for (number, kind) in OpKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }
}
