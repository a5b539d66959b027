//! The connection's clock: microseconds that go on while the machine is suspended, as the
//! server's do, so that a lease never looks longer after a suspend than it is.

use super::lease::LeaseView;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Now, in microseconds since the machine started.
pub fn now_us() -> u64 {
    // The call fails only for a clock that the kernel does not have; Linux has this one since
    // 2.6.39, before any kernel that this library's other calls run on.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1000
}

impl LeaseView {
    /// How much of the lease is left now; zero when nothing is held.
    pub fn remaining(&self) -> Duration {
        Duration::from_micros(self.remaining_us(now_us()))
    }
}
