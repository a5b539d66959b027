//! Simulated systems: a few seeds on every run of the tests (`make sim` runs thousands), and the
//! promise that a seed is the same run everywhere.

use baton::sim::{self, Options};
use std::process::Command;

fn trace(seed: &str) -> Vec<u8> {
    let baton = env!("CARGO_BIN_EXE_baton");
    let output = Command::new(baton).args(["sim", "--trace", "--seed", seed]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn nothing_goes_wrong_in_the_first_seeds() {
    for seed in 0..50 {
        let report = sim::run(Options { seed, ..Options::default() });
        assert_eq!(report.failure, None, "replay: baton sim --seed {seed}");
        assert!(report.calls >= sim::CALLS);
    }
}

#[test]
fn a_seed_is_the_same_run_in_every_process() {
    for seed in ["3", "52"] {
        let story = trace(seed);
        assert!(story.len() > 100_000);
        assert!(story == trace(seed), "seed {seed} has two stories");
    }
    assert!(trace("3") != trace("4"));
}

#[test]
fn a_run_can_be_cut_off_and_drawn() {
    let options = Options { seed: 52, steps: 1_000, is_told: true, ..Options::default() };
    let report = sim::run(options);
    assert_eq!((report.steps, report.failure), (1_000, None));
    let picture = sim::draw(&report.story.notes, 0, u64::MAX);
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("granted") && picture.contains("crashes"));
}

#[test]
fn planted_bugs_have_names_of_their_own() {
    let mut names: Vec<_> = sim::MUTANTS.iter().map(|mutant| mutant.name).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() == sim::MUTANTS.len() && names.len() >= 20);
}
