//! `baton sim`: runs simulated systems from seeds, and tells their story.

use super::exit::{Exit, Failure};
use crate::sim::{self, Options, Report};
use anyhow::Context;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// Run whole simulated systems, clients and faults included, from a seed.
///
/// The same seed is the same run, to the last datagram, on every machine.
#[derive(clap::Args, Clone, Debug)]
pub struct SimArgs {
    /// The first seed; a random one, which is printed, when it is not given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many seeds to run, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,
    /// Cut a run off after this many steps
    #[arg(long, value_name = "M", default_value_t = u64::MAX, hide_default_value = true)]
    steps: u64,
    /// Calls that the programs of a run make before they end
    #[arg(long, value_name = "N", default_value_t = sim::CALLS)]
    calls: u64,
    /// Print the story of the run as JSON lines
    #[arg(long)]
    trace: bool,
}

pub fn run(args: SimArgs) -> anyhow::Result<()> {
    let first = match args.seed {
        Some(seed) => seed,
        None => random_seed().context("cannot draw a seed")?,
    };
    let begin = Instant::now();
    let (mut steps, mut calls, mut failed) = (0, 0, 0);
    for seed in (0..args.seeds).map(|n| first.wrapping_add(n)) {
        let options = Options { seed, calls: args.calls, steps: args.steps, is_told: args.trace };
        let report = sim::run(options);
        if args.trace {
            print!("{}", report.story.to_json());
        }
        steps += report.steps;
        calls += report.calls;
        if report.failure.is_some() {
            failed += 1;
            explain(&report);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!(
        "{} seeds from {first}: {failed} failed; {calls} calls, {steps} steps; {:.0} seeds a second",
        args.seeds,
        args.seeds as f64 / seconds
    );
    if failed > 0 {
        return Err(Failure::new(Exit::Failed, format!("{failed} seeds failed")).into());
    }
    Ok(())
}

/// Says what is wrong, how to see it again, and what happened last.
fn explain(report: &Report) {
    let Some(why) = &report.failure else { return };
    let Options { seed, calls, .. } = report.options;
    eprintln!("seed {seed}, step {}: {why}", report.steps);
    eprintln!("  replay: baton sim --seed {seed} --calls {calls} --steps {}", report.steps);
    if report.options.is_told {
        return;
    }
    let told = sim::run(Options { is_told: true, ..report.options });
    let notes = &told.story.notes;
    for note in &notes[notes.len().saturating_sub(LAST)..] {
        eprintln!("  {}", note.to_json());
    }
}

fn random_seed() -> std::io::Result<u64> {
    let mut bytes = [0; 4];
    let mut file = fs::File::open(PathBuf::from("/dev/urandom"))?;
    std::io::Read::read_exact(&mut file, &mut bytes)?;
    // Short enough to be typed.
    Ok(u32::from_le_bytes(bytes).into())
}

/// Events shown of a run that failed.
const LAST: usize = 30;
