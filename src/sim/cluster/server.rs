//! A server of a cluster: the real [`Driver`], [`Applier`], [`Core`] and [`Store`] on a disk in
//! memory. Here it starts and ends; `threads` has what its threads do, step by step.

use super::faith::Faith;
use super::leading::Leading;
use super::promises::Promises;
use super::{MemberStep, World, plan};
use crate::disk::mem::{Fault, MemDisk};
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::members::Members;
use crate::engine::cluster::node::{Node, Tuning};
use crate::server::Store;
use crate::server::cluster::applier::Applier;
use crate::server::cluster::driver::{Driver, Input, Order};
use crate::server::cluster::fetch::Fetching;
use crate::server::core::{Core, Now};
use crate::sim::context::Event;
use crate::sim::ledger::{Sight, View};
use crate::sim::server::Crash;
use crate::sim::story::What;
use crate::types::Millis;
use crate::wal::{self, Batch};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// A machine that a server runs on, or not.
pub struct Server {
    pub disk: MemDisk,
    pub process: Option<Process>,
    /// Counts starts and ends; what was meant for an earlier life is dropped.
    pub life: u64,
    /// How fast its clock runs, in parts per million more than the world's.
    pub drift_ppm: i64,
    /// The process stands still until then.
    pub asleep_until: u64,
    /// It asks to be let in.
    pub is_waiting: bool,
    /// It was removed, or its disk is lost.
    pub is_gone: bool,
    /// What it owes to others, whether it runs or not.
    pub faith: Faith,
    pub promises: Promises,
}

pub struct Process {
    pub core: Core,
    pub store: Store<MemDisk>,
    /// Its checkpoint, for servers that have to take over a state.
    pub offered: Checkpoint,
    pub driver: Driver,
    pub applier: Applier,
    pub born: u64,
    /// Of the thread that drives: what it is told, what it has to do, when it looks next.
    pub inbox: Vec<Input>,
    pub orders: VecDeque<Order>,
    pub round_at: u64,
    pub leading: Leading,
    /// How long leases last by its settings.
    pub lease_ms: u64,
    /// Of the thread that keeps the journal.
    pub journal: VecDeque<Batch>,
    pub is_saving: bool,
    /// Of the thread that applies.
    pub is_applying: bool,
    pub fetching: Option<(usize, Fetching)>,
    /// Of the thread that keeps the deadlines.
    pub tick_at: u64,
    /// Members of which it knows where clients find them.
    pub known: BTreeSet<u64>,
    /// Those that it speaks to.
    pub links: BTreeSet<u64>,
    /// When something came last from each of the others.
    pub heard: BTreeMap<u64, u64>,
}

impl Server {
    pub fn new(drift_ppm: i64) -> Server {
        let disk = MemDisk::new();
        Server {
            disk,
            process: None,
            life: 0,
            drift_ppm,
            asleep_until: 0,
            is_waiting: false,
            is_gone: false,
            faith: Faith::default(),
            promises: Promises::default(),
        }
    }

    /// What the process's clocks show.
    pub fn clock(&self, now: u64) -> Now {
        let born = self.process.as_ref().map_or(now, |process| process.born);
        let passed = now - born;
        let steady_us = passed.saturating_add_signed(passed as i64 * self.drift_ppm / 1_000_000);
        let unix = Millis(EPOCH_MS + now / 1000);
        Now { steady: Millis(steady_us / 1000), steady_us, unix }
    }

    /// When the process's clock shows this, or a moment later.
    pub fn when(&self, local: Millis) -> u64 {
        let born = self.process.as_ref().map_or(0, |process| process.born);
        let scaled = u128::from(local.0) * 1_000_000_000 / (1_000_000 + self.drift_ppm) as u128;
        born + scaled as u64 + 1
    }

    /// It answers clients now.
    pub fn is_serving(&self, now: u64) -> bool {
        let steady = self.clock(now).steady;
        self.process.as_ref().is_some_and(|process| process.core.engine().is_serving(steady))
    }
}

impl World {
    /// Starts the process. It may fail, and crash, on the way.
    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        let server = &self.servers[at];
        if server.process.is_some() || server.is_gone {
            return Ok(());
        }
        if server.is_waiting {
            return self.join(at);
        }
        let crash = self.threaten(at, START_CRASHES, START_STEPS);
        let (context, server) = (&mut self.context, &mut self.servers[at]);
        server.life += 1;
        context.restart();
        let options = wal::Options {
            segment_max: context.plan.segment_max,
            salt: server.life,
            ..wal::Options::default()
        };
        let files = context.plan.files;
        let founders = founders(context.servers);
        let (disk, dir) = (server.disk.clone(), Path::new(DIR));
        let opened = Store::open_member(disk, dir, files, &options, &founders);
        if let Some(crash) = crash.filter(|_| !server.disk.has_power()) {
            return self.fall(at, crash);
        }
        server.disk.set_fault(None);
        let (store, found) = match opened {
            Ok(opened) => opened,
            Err(error) if context.plan.faults.spoils_disk() => {
                let what = format!("cannot start: {error}");
                context.story.tell(context.now, || What::Member { server: at, what });
                let wait = context.random.between(10_000, 300_000);
                let (life, step) = (server.life, MemberStep::Start);
                context.at(context.now + wait, Event::Member { server: at, life, step });
                return Ok(());
            }
            Err(error) => return Err(format!("server {at} does not start: {error}")),
        };
        let seed = context.random.next();
        let plan::Limits { tail_bytes, uncommitted_max, .. } = self.limits;
        let tuning = Tuning { tail_bytes, uncommitted_max, ..Tuning::default() };
        let (id, now) = (at as u64 + 1, Millis(0));
        let replica = found.replica;
        let node = Node::new(id, found.log, replica.index, found.journal, tuning, seed, now);
        let mut node = node.map_err(|error| format!("server {at} does not start: {error}"))?;
        let hard = node.raw().raft.hard_state();
        if hard.term < node.raw().raft.raft_log.last_term() {
            return Err(format!("server {at} starts in a term before its last entry's"));
        }
        server.promises.check(&hard).map_err(|why| format!("server {at} {why}"))?;
        node.offer(&found.checkpoint.head);
        node.handle_introduction(id, life_of(at), now);
        let settings = context.plan.settings();
        let links = node.members().servers.keys().copied().collect();
        context.story.tell(context.now, || What::Member {
            server: at,
            what: format!("starts, applied to {}", replica.index),
        });
        let zero = Now { steady: now, steady_us: 0, unix: Millis(EPOCH_MS) };
        server.process = Some(Process {
            core: Core::following(settings, zero),
            store,
            offered: found.checkpoint,
            driver: Driver::new(node),
            applier: Applier::new(replica, files, self.limits.checkpoint_bytes),
            born: context.now,
            inbox: Vec::new(),
            orders: VecDeque::new(),
            round_at: u64::MAX,
            leading: Leading::default(),
            lease_ms: settings.lease_ms,
            journal: VecDeque::new(),
            is_saving: false,
            is_applying: false,
            fetching: None,
            tick_at: u64::MAX,
            known: BTreeSet::new(),
            links,
            heard: BTreeMap::new(),
        });
        self.check_files(at)?;
        self.look_at_room(at);
        self.wake(at);
        Ok(())
    }

    /// With some probability has the power fail, or the process be killed, at one of the next steps
    /// of the disk; says which of the two. The caller takes the threat back.
    pub(super) fn threaten(&mut self, at: usize, chance: f64, steps: u64) -> Option<Crash> {
        let context = &mut self.context;
        let faults = context.plan.faults;
        let may_crash = !context.is_ending && (faults.kills || faults.power);
        if !may_crash || !context.random.chance(chance) {
            return None;
        }
        let is_power = faults.power && (!faults.kills || context.random.chance(0.5));
        let disk = &self.servers[at].disk;
        let fault = Fault::PowerOff(disk.operations() + context.random.between(0, steps));
        disk.set_fault(Some(fault));
        Some(if is_power { Crash::Power } else { Crash::Kill })
    }

    /// The step that was threatened is over: the crash has come, or does not.
    pub(super) fn has_fallen(&mut self, at: usize, crash: Option<Crash>) -> Result<bool, String> {
        let Some(crash) = crash else { return Ok(false) };
        if self.servers[at].disk.has_power() {
            self.servers[at].disk.set_fault(None);
            return Ok(false);
        }
        self.fall(at, crash).map(|()| true)
    }

    /// Ends the process now; it starts again later.
    pub fn fall(&mut self, at: usize, crash: Crash) -> Result<(), String> {
        self.end(at, crash);
        let longest = match self.context.random.chance(0.8) {
            _ if self.context.is_ending => 100_000,
            true => 500_000,
            false => 4_000_000,
        };
        let wait = self.context.random.between(1_000, longest);
        self.later(at, wait, MemberStep::Start);
        Ok(())
    }

    /// Ends the process now.
    pub fn end(&mut self, at: usize, crash: Crash) {
        let (context, server) = (&mut self.context, &mut self.servers[at]);
        let what = format!("crashes: {crash:?}");
        context.story.tell(context.now, || What::Member { server: at, what });
        server.process = None;
        server.life += 1;
        server.disk.set_fault(None);
        // What nobody sees nobody was told of.
        let _ = self.ledger.note(View::Leader(at), Sight::default(), context.now);
        if crash == Crash::Power {
            server.disk = server.disk.after_power_loss(context.random.next());
        }
    }
}

/// The members that a cluster begins with.
pub fn founders(servers: usize) -> Members {
    Members::of(&(1..=servers as u64).collect::<Vec<_>>())
}

/// Tells a server's data directory from others.
pub fn life_of(server: usize) -> u64 {
    1_000 + server as u64
}

pub const DIR: &str = "/data";
/// The wall clock at virtual time 0.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// How many starts crash on their way, within how many steps of the disk.
const START_CRASHES: f64 = 0.1;
const START_STEPS: u64 = 15;
