//! `baton sim`: runs simulated systems from seeds, tells their stories, draws them.

use super::exit::{Exit, Failure};
use crate::sim::{self, Options, Report};
use anyhow::Context;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Run whole simulated systems, clients and faults included, from a seed.
///
/// The same seed is the same run, to the last datagram, on every machine. What is wrong ends the
/// command with code 1, and is shown with the shortest command that shows it again.
#[derive(clap::Args, Clone, Debug)]
pub struct SimArgs {
    /// The first seed; a random one, which is printed, when it is not given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many seeds to run, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,
    /// Run seeds for this many seconds instead
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seconds: Option<u64>,
    /// Simulate a cluster of this many servers instead of one server that is in none
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    servers: usize,
    /// Cut a run off after this many steps
    #[arg(long, value_name = "M", default_value_t = u64::MAX, hide_default_value = true)]
    steps: u64,
    /// Calls that the programs of a run make before they end
    #[arg(long, value_name = "N", default_value_t = sim::CALLS)]
    calls: u64,
    /// Play this story, which has one right ending, instead of random programs; `list` lists them
    #[arg(long, value_name = "NAME")]
    story: Option<String>,
    /// Print the story of each run as JSON lines
    #[arg(long)]
    trace: bool,
    /// Draw the run as a message sequence chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The part of the run to draw, in milliseconds of its time: FROM..TO
    #[arg(long, value_name = "RANGE", value_parser = range, requires = "svg")]
    range: Option<(u64, u64)>,
    /// Show that each planted bug is found, or each of these; with --story, by that story
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "NAMES", num_args = 0.., value_delimiter = ',')]
    mutants: Option<Vec<String>>,
}

pub fn run(args: SimArgs) -> anyhow::Result<()> {
    // Short enough to be typed.
    let first = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let tale = match args.story.as_deref() {
        None => None,
        Some("list") => return list_stories(),
        Some(name) => Some(
            sim::TALES
                .iter()
                .find(|tale| tale.name == name)
                .with_context(|| format!("there is no story {name}: `--story list` lists them"))?,
        ),
    };
    #[cfg(feature = "mutants")]
    if let Some(names) = &args.mutants {
        return hunt_mutants(names, args.servers, first, tale);
    }
    let run_one = |options| match tale {
        Some(tale) => sim::play(tale, options),
        None => sim::run(options),
    };
    let begin = Instant::now();
    let (mut steps, mut calls, mut failed) = (0, 0, 0);
    if let Some(seconds) = args.seconds {
        eprintln!("seeds from {first} for {seconds} seconds");
    }
    let most = args.seconds.map(Duration::from_secs);
    let mut seeds = 0;
    while most.map_or(seeds < args.seeds, |most| begin.elapsed() < most) {
        let seed = first.wrapping_add(seeds);
        seeds += 1;
        let is_told = args.trace || args.svg.is_some();
        let report = run_one(Options {
            seed,
            servers: args.servers,
            calls: args.calls,
            steps: args.steps,
            is_told,
        });
        if args.trace {
            print!("{}", report.story.to_json());
        }
        if let Some(path) = &args.svg {
            let end = report.story.faults_end().filter(|_| tale.is_some());
            let (from, to) = match args.range {
                Some((from, to)) => (from * 1000, to * 1000),
                // What comes after a story is the same after all of them.
                None => (0, end.map_or(u64::MAX, |end| end - 1)),
            };
            let title = match tale {
                Some(tale) => format!("{}: {} (seed {seed})", tale.name, tale.what),
                None => format!("seed {seed}"),
            };
            fs::write(path, sim::draw(&report.story.notes, &title, from, to))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        steps += report.steps;
        calls += report.calls;
        if report.failure.is_some() {
            failed += 1;
            match tale {
                Some(tale) => explain_story(tale, &report),
                None => explain(&report),
            }
        }
    }
    eprintln!(
        "{seeds} seeds from {first}: {failed} failed; {calls} calls, {steps} steps, {:.0} seeds a \
         second",
        seeds as f64 / begin.elapsed().as_secs_f64()
    );
    if failed > 0 {
        return Err(Failure::new(Exit::Failed, format!("{failed} seeds failed")).into());
    }
    Ok(())
}

fn list_stories() -> anyhow::Result<()> {
    for tale in sim::TALES {
        println!("{:14} {}", tale.name, tale.what);
    }
    Ok(())
}

fn explain_story(tale: &sim::Tale, report: &Report) {
    let Some(why) = &report.failure else { return };
    let seed = report.options.seed;
    eprintln!("story {} with seed {seed}, step {}: {why}", tale.name, report.steps);
    eprintln!("  replay: baton sim --story {} --seed {seed} --trace", tale.name);
    let told = sim::play(tale, Options { is_told: true, ..report.options });
    tell_last(&told);
}

/// Says what is wrong, how to see it again, and what happened last.
fn explain(report: &Report) {
    let Some(why) = &report.failure else { return };
    let shortest = shorten(report.options);
    let Options { seed, calls, .. } = shortest;
    eprintln!("seed {seed}, step {}: {why}", report.steps);
    let told = sim::run(Options { is_told: true, ..shortest });
    let calls = if calls == sim::CALLS { String::new() } else { format!(" --calls {calls}") };
    let servers = match shortest.servers {
        0 => String::new(),
        servers => format!(" --servers {servers}"),
    };
    eprintln!("  replay: baton sim{servers} --seed {seed}{calls} --steps {} --trace", told.steps);
    if report.options.is_told {
        return;
    }
    tell_last(&told);
}

fn tell_last(told: &Report) {
    let notes = &told.story.notes;
    for note in &notes[notes.len().saturating_sub(LAST)..] {
        eprintln!("  {}", note.to_json());
    }
}

/// The run of the same seed with the fewest calls that fails, as far as halving finds it.
fn shorten(options: Options) -> Options {
    let mut shortest = options;
    let (mut good, mut bad) = (0, options.calls);
    while good + 1 < bad {
        let calls = good + (bad - good) / 2;
        let shorter = Options { calls, is_told: false, ..options };
        if sim::run(shorter).failure.is_some() {
            (bad, shortest) = (calls, shorter);
        } else {
            good = calls;
        }
    }
    shortest
}

#[cfg(feature = "mutants")]
fn hunt_mutants(
    names: &[String],
    servers: usize,
    first: u64,
    tale: Option<&sim::Tale>,
) -> anyhow::Result<()> {
    // Many of them end in an assertion of the code that they spoil.
    std::panic::set_hook(Box::new(|_| {}));
    let is_meant =
        |mutant: &&sim::Mutant| names.is_empty() || names.iter().any(|name| name == mutant.name);
    let (mut hunted, mut missed) = (0, 0);
    for mutant in sim::MUTANTS.iter().filter(is_meant) {
        hunted += 1;
        // In servers of its own or in members of a cluster, where it is not said otherwise.
        let servers = if servers > 0 { servers } else { mutant.servers };
        match sim::hunt(sim::Mutant { servers, ..*mutant }, first, tale) {
            Some((by, why)) => println!("found   {:26} by {by}: {why}", mutant.name),
            None => {
                missed += 1;
                println!("MISSED  {:26} in {} seeds: {}", mutant.name, mutant.seeds, mutant.what);
            }
        }
    }
    println!("{hunted} planted bugs, {missed} missed, seeds from {first}");
    if missed > 0 {
        return Err(Failure::new(Exit::Failed, format!("{missed} planted bugs missed")).into());
    }
    Ok(())
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let parse = |part: &str| part.parse::<u64>().ok();
    let both = text.split_once("..").and_then(|(from, to)| Some((parse(from)?, parse(to)?)));
    both.filter(|(from, to)| from < to).ok_or_else(|| "expected FROM..TO, as in 200..400".into())
}

/// Events shown of a run that failed.
const LAST: usize = 30;
