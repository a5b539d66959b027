//! Seeded numbers: the same seed, the same faults.

/// The SplitMix64 generator (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for one stream of a seed; streams of the same seed are independent.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut random = Random(seed);
        random.0 ^= Random(stream).next();
        random
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits: as many as a float holds exactly.
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low);
        low + if span == u64::MAX { self.next() } else { self.next() % (span + 1) }
    }
}
