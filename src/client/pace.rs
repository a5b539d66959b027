//! Whether an answer is worth looking for without blocking: a call that waits for other clients
//! or for a disk only keeps them from the processor.

use super::call::Call;

/// How long the last call of each kind took, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Pace([u64; 3]);

/// Calls that take about as long as each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Waits for other clients.
    Acquire,
    /// Waits for stable storage.
    Release,
    /// Waits for the server alone.
    Other,
}

impl Kind {
    pub(super) fn of(call: &Call<'_>) -> Kind {
        match call {
            Call::Acquire(_) => Kind::Acquire,
            Call::Release | Call::Close => Kind::Release,
            _ => Kind::Other,
        }
    }
}

impl Pace {
    /// Whether the next answer may well come within `spin_us`. A call that blocked takes longer by
    /// the time of waking up, so twice as much counts.
    pub(super) fn is_quick(&self, kind: Kind, spin_us: u64) -> bool {
        self.0[kind as usize] <= 2 * spin_us
    }

    pub(super) fn note(&mut self, kind: Kind, took_us: u64) {
        self.0[kind as usize] = took_us;
    }
}
