//! A client's own clock, which may run off, and what it believes by it.

use super::Client;
use crate::sim::context::Context;

impl Client {
    /// Until when the client believes that it holds the lock under this token, in virtual time,
    /// erring on the side of the server by what clocks may run apart.
    pub fn believes_until(&self, token: u64) -> u64 {
        let Some(exchange) = &self.exchange else { return 0 };
        let deadline = exchange.lease().deadline_us(crate::types::FencingToken(token));
        let until = deadline.map_or(0, |local| self.to_virtual(local));
        until.saturating_sub(if self.drift_ppm == 0 { 0 } else { DRIFT_SLACK_US })
    }

    /// What its clock shows now.
    pub fn now(&self, context: &Context) -> u64 {
        self.clock(context.now)
    }

    pub(super) fn clock(&self, now: u64) -> u64 {
        (self.offset_us + now).saturating_add_signed(now as i64 * self.drift_ppm / 1_000_000)
    }

    /// When the clock shows this, or a moment later.
    pub(super) fn to_virtual(&self, local: u64) -> u64 {
        let passed = local.saturating_sub(self.offset_us);
        if self.drift_ppm == 0 {
            return passed;
        }
        let scaled = u128::from(passed) * 1_000_000 / (1_000_000 + self.drift_ppm) as u128;
        (scaled as u64).saturating_add(1)
    }
}

/// By how much a lease is longer for a client whose clock is slow: leases have at most 5 s.
const DRIFT_SLACK_US: u64 = 3_000;
