//! Clusters in one thread from a seed: members, their disks and the network between them, all of
//! which fail. What must hold is checked at every step ([`world`]).

mod hostile;
mod world;

use world::{Faults, World};

/// Runs a cluster of `size` through faults, then lets it heal; says what it committed.
fn run(size: u64, seed: u64, faults: Faults) -> Vec<u64> {
    run_and_count(size, seed, faults).0
}

/// The same, with how many snapshots were taken over.
fn run_and_count(size: u64, seed: u64, faults: Faults) -> (Vec<u64>, u64) {
    let mut world = World::new(size, seed, faults);
    world.run(3_000);
    world.heal();
    world.run(2_000);
    world.calm();
    world.check_agreement();
    (world.history(), world.taken_over)
}

/// The same with members that come and go.
fn run_with_reforms(seed: u64) -> World {
    let mut world = World::new(3, seed, Faults::with_reforms());
    world.run(4_000);
    world.heal();
    world.run(2_500);
    world.calm();
    world.check_agreement();
    world
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("BATON_CLUSTER_SEEDS").ok().and_then(|text| text.parse().ok());
    let first = std::env::var("BATON_TEST_SEED").ok().and_then(|text| text.parse().ok());
    match first {
        Some(seed) => seed..seed + 1,
        None => 0..count.unwrap_or(10),
    }
}

#[test]
fn three_members_agree_whatever_fails() {
    for seed in seeds() {
        println!("seed {seed}; again with: BATON_TEST_SEED={seed}");
        run(3, seed, Faults::all());
    }
}

#[test]
fn five_members_agree_whatever_fails() {
    for seed in seeds() {
        println!("seed {seed}; again with: BATON_TEST_SEED={seed}");
        run(5, seed, Faults::all());
    }
}

#[test]
fn members_that_lack_entries_take_over_a_state() {
    let seeds = seeds().filter(|seed| seed.is_multiple_of(2)).take(8);
    let taken: u64 = seeds.map(|seed| run_and_count(3, seed, Faults::all()).1).sum();
    assert!(taken > 0, "no snapshot was ever needed");
}

#[test]
fn a_leader_that_others_have_replaced_does_not_count_on_being_the_only_one() {
    let mut rivals = 0;
    for seed in seeds().map(|seed| seed + 1_000) {
        let mut world = World::new(3, seed, Faults::rare());
        world.run(6_000);
        world.heal();
        world.run(2_000);
        world.calm();
        world.check_agreement();
        rivals += world.rivals;
    }
    assert!(rivals > 0, "there never were two that took themselves for leaders");
}

/// In this run a state comes to a member that has its entry by then, and has acknowledged more:
/// taken over, it made the member forget them.
#[test]
fn a_state_that_comes_too_late_takes_nothing_away() {
    run(3, 194, Faults::all());
}

#[test]
fn one_member_is_a_cluster_too() {
    for seed in seeds().take(5) {
        run(1, seed, Faults::all());
    }
}

/// Members are let in and removed, and have each other lead, while everything fails.
#[test]
fn members_that_come_and_go_agree_whatever_fails() {
    let (mut let_in, mut removed) = (0, 0);
    for seed in seeds() {
        println!("seed {seed}; again with: BATON_TEST_SEED={seed}");
        let world = run_with_reforms(seed);
        let_in += world.let_in;
        removed += world.removed;
    }
    println!("{let_in} were let in, {removed} removed");
    assert!(let_in > 0 && removed > 0, "{let_in} were let in, {removed} removed");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3] {
        assert_eq!(run(3, seed, Faults::all()), run(3, seed, Faults::all()));
    }
}

#[test]
fn without_faults_a_leader_is_there_soon_and_stays() {
    for seed in seeds() {
        let mut world = World::new(3, seed, Faults::default());
        world.run(1_000);
        let term = world.leader_term().expect("a leader within a second");
        world.run(3_000);
        assert_eq!(world.leader_term(), Some(term), "seed {seed}: the lead changed");
        world.calm();
        world.check_agreement();
    }
}

/// Bugs planted in the node are found within these seeds.
#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_are_found() {
    for name in ["leader_trusted_long", "promise_unsaved"] {
        crate::mutant::plant(name);
        let found = (0..60)
            .find(|seed| std::panic::catch_unwind(|| run(3, *seed, Faults::rare())).is_err());
        crate::mutant::plant("");
        println!("{name}: found by seed {found:?}");
        assert!(found.is_some(), "{name} was not found");
    }
}
