//! How a member is set up.

use crate::mutant;

/// How long things take, a tick being the unit, and how much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub tick_ms: u64,
    pub heartbeat_ticks: usize,
    /// A follower that hears nothing stands for election after this many ticks, or up to twice
    /// as many.
    pub election_ticks: usize,
    /// Bytes of applied entries kept for members that lag.
    pub tail_bytes: usize,
    /// Bytes of commands that may be on their way to a quorum.
    pub uncommitted_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            tick_ms: 10,
            heartbeat_ticks: 3,
            election_ticks: 15,
            tail_bytes: 16 << 20,
            uncommitted_max: 64 << 20,
        }
    }
}

impl Tuning {
    /// No member that heard a leader helps to elect another for this long, in milliseconds.
    pub(in super::super) fn election_ms(&self) -> u64 {
        self.tick_ms * self.election_ticks as u64
    }

    /// How long after asking the others a leader may count on being the only one: a tenth less,
    /// for clocks that do not run alike.
    pub(super) fn trust_ms(&self) -> u64 {
        if mutant::is("leader_trusted_long") {
            return self.election_ms() * 6;
        }
        self.election_ms() * 9 / 10
    }
}
