//! What a seed decides about a cluster besides what it decides about every system.

use crate::engine::cluster::node::Tuning;
use crate::proxy::random::Random;
use crate::sim::plan::Plan;

/// How much the servers keep, and how bad their clocks and connections are.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of applied entries kept for members that lag.
    pub tail_bytes: usize,
    /// Bytes applied from one checkpoint to the next.
    pub checkpoint_bytes: u64,
    pub drift_ppm: u64,
    /// Messages between servers are lost, doubled and overtake each other.
    pub is_harsh: bool,
    /// Servers come and go.
    pub is_changing: bool,
    /// Bytes of commands that may be on their way to a quorum.
    pub uncommitted_max: u64,
}

impl Limits {
    /// What goes wrong is up to the story.
    pub fn of_story() -> Limits {
        Limits {
            tail_bytes: 1 << 20,
            checkpoint_bytes: 100_000,
            drift_ppm: 0,
            is_harsh: false,
            is_changing: false,
            uncommitted_max: Tuning::default().uncommitted_max,
        }
    }
}

pub fn draw(random: &mut Random, more: &mut Random, latest: &mut Random) -> (Plan, Limits) {
    let mut plan = Plan::new(random, more);
    // Comes from `latest`.
    plan.limits = Default::default();
    // What only a server of its own is tried with.
    plan.faults.read_errors = false;
    plan.lease_ms = random.between(200, 2_000);
    plan.session_ttl_ms = random.between(5_000, 20_000);
    // A member syncs always; clocks of the wall do not matter for it.
    plan.syncs = true;
    plan.faults.clock_jumps = false;
    let is_small = random.chance(0.6);
    let limits = Limits {
        tail_bytes: if is_small { random.between(500, 4_000) as usize } else { 1 << 20 },
        checkpoint_bytes: if is_small { random.between(1_000, 10_000) } else { 100_000 },
        drift_ppm: if plan.is_calm() || random.chance(0.7) { 100 } else { 30_000 },
        is_harsh: !plan.is_calm() && random.chance(0.25),
        is_changing: more.chance(0.4),
        uncommitted_max: match latest.chance(0.2) {
            true => latest.between(2_000, 20_000),
            false => Tuning::default().uncommitted_max,
        },
    };
    if latest.chance(0.2) {
        plan.limits = plan.draw_limits(latest);
    }
    // All members of a cluster have as many files.
    let session_ttl_ms = plan.session_ttl_ms;
    (Plan { grows: false, session_ttl_ms, ..plan.with_settings(latest) }, limits)
}
