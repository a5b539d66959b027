//! Deterministic simulation: clients, network, server, disk and clock in one thread, everything
//! from one 64-bit seed. Two runs of a seed are the same to the last byte.
//!
//! What runs is the real code: every datagram goes through [`crate::wire`], the server is
//! [`crate::server::core::Core`] over [`crate::server::Store`], clients are
//! [`crate::client::exchange::Exchange`]. Only sockets, disk, clock and threads are replaced.
//!
//! ```text
//! program ─ client ──────── network ──────── server ─── disk      what runs
//!    │                                        │   │
//!  ledger: what clients were told,       observer │               who judges
//!  against what is in the files ◄─────────────────┘
//! ```
//!
//! `plan` draws what a seed is about, `context` has time and events, `world` runs them.

mod client;
mod cluster;
mod context;
mod history;
mod ledger;
mod linear;
mod mutants;
mod network;
mod observe;
mod plan;
mod program;
mod replica;
mod server;
mod stage;
mod stories;
mod story;
mod svg;
mod vouch;
mod world;

#[cfg(feature = "mutants")]
pub use mutants::hunt;
pub use mutants::{MUTANTS, Mutant};
pub use stories::{TALES, Tale};
pub use story::{Note, Story, What};
pub use svg::draw;

use context::Context;
use stage::{Stage, Theatre};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use stories::Play;
use world::World;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    /// Members of the cluster; 0: one server that is in none.
    pub servers: usize,
    /// Calls that programs make before they come to their end.
    pub calls: u64,
    /// The run is cut off after this many steps.
    pub steps: u64,
    /// Keep the story.
    pub is_told: bool,
}

impl Default for Options {
    /// A standard run of seed 0.
    fn default() -> Self {
        Options { seed: 0, servers: 0, calls: CALLS, steps: u64::MAX, is_told: false }
    }
}

/// Calls of a standard run.
pub const CALLS: u64 = 300;

/// How a run went.
#[derive(Debug)]
pub struct Report {
    pub options: Options,
    /// Steps that were run.
    pub steps: u64,
    /// Calls that programs made.
    pub calls: u64,
    /// Virtual time that passed, in microseconds.
    pub passed_us: u64,
    /// What is wrong.
    pub failure: Option<String>,
    pub story: Story,
}

/// Runs one seed.
pub fn run(options: Options) -> Report {
    let Options { seed, servers, calls, steps, is_told } = options;
    if servers > 0 {
        let mut world = cluster::World::new(seed, servers, calls, Story::new(is_told));
        let result = catch_unwind(AssertUnwindSafe(|| world.run(steps)));
        return report(options, &mut world.context, world.steps, result);
    }
    let mut world = World::new(options.seed, options.calls, Story::new(options.is_told));
    let result = catch_unwind(AssertUnwindSafe(|| world.run(options.steps)));
    report(options, &mut world.context, world.steps, result)
}

/// Plays a story with one seed.
pub fn play(tale: &Tale, options: Options) -> Report {
    let story = Story::new(options.is_told);
    match tale.play {
        Play::One(play) => perform(options, Stage::new(options.seed, story), play),
        Play::Cluster(servers, play) => {
            perform(options, Stage::of_cluster(options.seed, servers, story), play)
        }
    }
}

fn perform<W: Theatre>(
    options: Options,
    mut stage: Stage<W>,
    play: fn(&mut Stage<W>) -> Result<(), String>,
) -> Report {
    let result = catch_unwind(AssertUnwindSafe(|| {
        play(&mut stage)?;
        stage.close()
    }));
    let steps = stage.context().story.step;
    report(options, stage.context(), steps, result)
}

fn report(
    options: Options,
    context: &mut Context,
    steps: u64,
    result: thread::Result<Result<(), String>>,
) -> Report {
    let failure = match result {
        Ok(verdict) => verdict.err(),
        Err(panic) => Some(format!("panic: {}", text_of(&*panic))),
    };
    Report {
        options,
        steps,
        calls: context.calls,
        passed_us: context.now,
        failure,
        story: std::mem::take(&mut context.story),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "of unknown cause",
    }
}
