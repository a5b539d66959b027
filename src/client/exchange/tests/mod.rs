//! The exchange against a model server: at random over a bad network, and move by move.

mod endings;
mod journal;
mod leaders;
mod moves;
mod table;
mod world;

use proptest::prelude::*;
use world::{Faults, World};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_clients_are_told_is_what_the_server_did(
        seed in any::<u64>(),
        clients in 1u64..4,
        loss_percent in 0u64..45,
        dup_percent in 0u64..30,
        delay_us in prop_oneof![Just(0u64), Just(5_000), Just(150_000)],
        has_blackouts in any::<bool>(),
        forgets in any::<bool>(),
    ) {
        let faults = Faults { loss_percent, dup_percent, delay_us, has_blackouts, forgets };
        World::new(seed, clients, 120, faults).run();
    }
}
