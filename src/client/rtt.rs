//! How long to wait for an answer before sending again: RFC 6298 with three differences. Every
//! reply names the transmission that it answers, so retransmitted requests are measured too (no
//! Karn's rule). Repetitions are jittered, so that clients which lost the same server at once do
//! not come back at once. And doubling begins only after a few repetitions, as Linux does for
//! thin TCP streams: a client with one datagram in flight congests nothing, and under heavy loss
//! most of the time would go into waiting.

use crate::limits::{RTO_INITIAL_US, RTO_MAX_US, RTO_MIN_US};

/// Repetitions before the timeout doubles.
const LINEAR_TRIES: u32 = 4;

/// Round trip estimate and the retransmission timeout that follows from it, in microseconds.
#[derive(Debug)]
pub(crate) struct Rtt {
    /// Smoothed round trip and its mean deviation; none before the first sample.
    estimate: Option<(u64, u64)>,
    /// Without backing off.
    base_us: u64,
    /// With backing off: what counts now.
    timeout_us: u64,
    /// Repetitions since the last answer.
    tries: u32,
    random: SplitMix,
}

impl Rtt {
    pub(crate) fn new(seed: u64) -> Self {
        Rtt {
            estimate: None,
            base_us: RTO_INITIAL_US,
            timeout_us: RTO_INITIAL_US,
            tries: 0,
            random: SplitMix(seed),
        }
    }

    /// How long the newest transmission may go unanswered.
    pub(crate) fn timeout_us(&self) -> u64 {
        self.timeout_us
    }

    /// How far apart answers that belong together arrive: a quarter of a round trip.
    pub(crate) fn spread_us(&self) -> u64 {
        self.estimate.map_or(RTO_MIN_US, |(smoothed, _)| smoothed / 4).clamp(200, RTO_MIN_US)
    }

    /// One transmission was answered after this long.
    pub(crate) fn sample(&mut self, round_trip_us: u64) {
        let (smoothed, deviation) = match self.estimate {
            None => (round_trip_us, round_trip_us / 2),
            Some((smoothed, deviation)) => {
                let off = smoothed.abs_diff(round_trip_us);
                ((7 * smoothed + round_trip_us) / 8, (3 * deviation + off) / 4)
            }
        };
        self.estimate = Some((smoothed, deviation));
        self.base_us = (smoothed + 4 * deviation).clamp(RTO_MIN_US, RTO_MAX_US);
    }

    /// The server answers: what comes next is new, and waits for as long as the estimate says.
    pub(crate) fn reset(&mut self) {
        self.timeout_us = self.base_us;
        self.tries = 0;
    }

    /// The timeout passed without an answer: lengthens it, give or take an eighth.
    pub(crate) fn back_off(&mut self) {
        self.tries += 1;
        let doublings = self.tries.saturating_sub(LINEAR_TRIES).min(63);
        let lengthened = (u128::from(self.base_us) << doublings).min(RTO_MAX_US.into()) as u64;
        let eighth = lengthened / 8;
        self.timeout_us = lengthened - eighth + self.random.next() % (2 * eighth + 1);
    }
}

/// Sebastiano Vigna's SplitMix64: enough randomness for jitter, from a seed.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_formulas_of_rfc_6298() {
        let mut rtt = Rtt::new(1);
        assert_eq!(rtt.timeout_us(), RTO_INITIAL_US);
        rtt.sample(40_000);
        rtt.reset();
        assert_eq!(rtt.timeout_us(), 40_000 + 4 * 20_000);
        rtt.sample(48_000);
        rtt.reset();
        assert_eq!(rtt.timeout_us(), 41_000 + 4 * 17_000);
    }

    #[test]
    fn stays_between_its_bounds() {
        let mut rtt = Rtt::new(1);
        for _ in 0..50 {
            rtt.sample(30);
        }
        rtt.reset();
        assert_eq!(rtt.timeout_us(), RTO_MIN_US);
        for _ in 0..50 {
            rtt.sample(u64::from(u32::MAX));
        }
        rtt.reset();
        assert_eq!(rtt.timeout_us(), RTO_MAX_US);
    }

    #[test]
    fn backs_off_with_jitter_to_the_cap_and_recovers() {
        let (mut one, mut other) = (Rtt::new(1), Rtt::new(2));
        for expected in [1, 1, 1, 1, 2, 4].map(|times| times * RTO_INITIAL_US) {
            one.back_off();
            other.back_off();
            assert!(one.timeout_us().abs_diff(expected) <= expected / 8);
            assert_ne!(one.timeout_us(), other.timeout_us());
        }
        for _ in 0..20 {
            one.back_off();
            assert!(one.timeout_us() <= RTO_MAX_US * 9 / 8);
        }
        assert!(one.timeout_us() >= RTO_MAX_US * 7 / 8);
        one.reset();
        assert_eq!(one.timeout_us(), RTO_INITIAL_US);
    }
}
