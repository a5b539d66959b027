//! The server's process: the real [`Core`] and [`Store`] on a disk in memory, driven step by step
//! as `server::threads` drives them. `serve` has what it does with datagrams and deadlines, `jobs`
//! what it does with the disk; here it starts, stops and crashes.

mod jobs;
mod serve;

use super::context::{Context, Event};
use super::ledger::Ledger;
use super::observe::{Cause, Handover, Observer};
use super::replica::Replica;
use super::story::What;
use crate::disk::Disk;
use crate::disk::mem::{Fault, MemDisk};
use crate::machine::Machine;
use crate::server::core::{Core, Now, Settings};
use crate::server::{Checkpointing, PRIVATE_DIR, Store};
use crate::types::{FileId, LogIndex, Millis, SessionId, Stamp};
use crate::wal;
pub use serve::{client_at, document};
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::Path;

/// A machine that a server runs on, or not.
#[derive(Default)]
pub struct Server {
    pub disk: MemDisk,
    process: Option<Process>,
    /// Counts starts; what was meant for an earlier one is dropped.
    life: u64,
    pub observer: Observer,
    replica: Replica,
    /// Since when it serves, and the newest datagram of each session that it has got since.
    serves_since: u64,
    heard: BTreeMap<SessionId, (Stamp, u64)>,
    /// When each session has asked (again) for what it waits for.
    asked: BTreeMap<SessionId, u64>,
    /// Since when sessions are closed.
    closed: BTreeMap<SessionId, u64>,
    /// Arrived while the server starts.
    backlog: Vec<(SocketAddrV4, Vec<u8>)>,
    /// The log must not end before this after the next start.
    floor: LogIndex,
    /// The power failed under `--durability os`: the next start may find an earlier state.
    may_have_lost: bool,
    /// The state at a crash and its place in the log.
    last_words: Option<(LogIndex, Machine)>,
    /// Its memory may have changed since somebody looked.
    has_worked: bool,
    /// Milliseconds by which the wall clock has jumped.
    jumped_ms: i64,
}

struct Process {
    core: Core,
    store: Store<MemDisk>,
    /// Serving has begun.
    is_up: bool,
    born: u64,
    tick_at: u64,
    /// Jobs under way.
    jobs: u32,
    checkpointing: Option<Checkpointing>,
    room_seen: u64,
    room_is_low: bool,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The disk has all that was handed to the kernel.
    Kill,
    /// The disk has what was synced, and any part of the rest.
    Power,
    /// The disk has what was synced, and nothing else.
    Worst,
}

/// What a step of the server led to.
pub type Step = Result<Option<Handover>, String>;

impl Server {
    /// The process is there, whether or not it serves yet.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// It is there, and acknowledges nothing any more.
    pub fn has_failed(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.core.engine().has_failed())
    }

    /// It serves, and somebody waits for the lock.
    pub fn is_watching(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            let core = &process.core;
            process.is_up && core.machine().lock().is_waited_for() && !core.engine().has_failed()
        })
    }

    /// Since when the server has been able to hear anybody.
    pub fn serves_since(&self) -> u64 {
        self.serves_since
    }

    /// When the server, since it serves, has got a datagram of this session that was newer than all
    /// before.
    pub fn heard(&self, session: SessionId) -> Option<u64> {
        self.heard.get(&session).map(|(_, at)| *at)
    }

    /// When this waiter, since the server serves, has shown last that it waits.
    pub fn asked(&self, session: SessionId) -> Option<u64> {
        self.asked.get(&session).copied()
    }

    /// Its memory, if that may have changed since the last time.
    pub fn take_work(&mut self) -> Option<&Machine> {
        let has_worked = std::mem::take(&mut self.has_worked);
        self.machine().filter(|_| has_worked)
    }

    pub fn machine(&self) -> Option<&Machine> {
        self.process.as_ref().map(|process| process.core.machine())
    }

    /// Sessions and requests of which something is remembered beside the machine.
    pub fn remembered(&self) -> usize {
        self.process.as_ref().map_or(0, |process| process.core.remembered())
    }

    /// The wall clock goes forth or back.
    pub fn jump(&mut self, ms: i64) {
        self.jumped_ms += ms;
    }

    /// Operators have changed settings.
    pub fn reload(&mut self, context: &mut Context) -> Step {
        // A server that starts learns of it when it serves.
        if self.process.as_ref().is_some_and(|process| !process.is_up) {
            return Ok(None);
        }
        context.reload();
        self.put(context.plan.settings(), context)
    }

    /// These settings are in force from now on.
    pub fn put(&mut self, settings: Settings, context: &mut Context) -> Step {
        self.work(context, Cause::Other, |core, now, actions| {
            core.handle_settings(settings, now, actions);
        })
    }

    /// Starts the process, as `server::run` does. It may fail, and crash, on the way.
    pub fn start(&mut self, context: &mut Context, ledger: &mut Ledger) -> Step {
        if self.process.is_some() {
            return Ok(None);
        }
        self.life += 1;
        let crash = self.threaten(START_CRASHES, START_STEPS, context);
        if crash.is_none() && context.plan.faults.read_errors && context.random.chance(0.3) {
            self.spoil_read(START_STEPS, context);
        }
        context.restart();
        let files = context.plan.files;
        let options = wal::Options {
            segment_max: context.plan.segment_max,
            salt: self.life,
            gathered: context.plan.gathered,
        };
        let opened = Store::open(self.disk.clone(), Path::new(DIR), files, &options);
        if let Some(crash) = crash.filter(|_| !self.disk.has_power()) {
            self.fall(crash, context);
            return Ok(None);
        }
        self.disk.set_fault(None);
        let (store, found) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.fail_to_start(&error.to_string(), context),
        };
        self.check_log()?;
        if found.last < self.floor {
            return Err(format!("the log had {} entries, now {}", self.floor, found.last));
        }
        self.floor = found.last;
        if let Some((last, machine)) = self.last_words.take()
            && last == found.last
            && machine != found.machine
        {
            return Err("recovery found another state than there was".into());
        }
        self.replica.restart(found.last, &found.machine)?;
        if std::mem::take(&mut self.may_have_lost) {
            let (through, history) = (self.observer.newest_token(), found.machine.history());
            ledger.take_back(through, self.replica.sizes(), history, context.now)?;
        }
        context.story.tell(context.now, || What::Server(format!("starts, log at {}", found.last)));
        context.started_at = context.now;
        self.observer.restart(&found.machine);
        self.heard.clear();
        self.asked.clear();
        self.closed.clear();
        let now = self.clock(context.now, context.now);
        let mut core = Core::new(context.plan.settings(), found.machine, found.last, now);
        core.handle_published(store.published_bytes());
        self.process = Some(Process {
            core,
            store,
            is_up: false,
            born: context.now,
            tick_at: u64::MAX,
            jobs: 0,
            checkpointing: None,
            room_seen: 0,
            room_is_low: false,
        });
        self.check_sizes()?;
        self.see_files(true, ledger)?;
        self.look_at_room(context);
        self.work(context, Cause::Other, |core, now, actions| core.boot(files, now, actions))
    }

    fn fail_to_start(&mut self, why: &str, context: &mut Context) -> Step {
        if !context.plan.faults.spoils_disk() {
            return Err(format!("the server does not start: {why}"));
        }
        context.story.tell(context.now, || What::Server(format!("cannot start: {why}")));
        let pause = context.random.between(10_000, 300_000);
        context.at(context.now + pause, Event::ServerStarts);
        Ok(None)
    }

    /// Has one of the next reads fail.
    pub fn spoil_read(&mut self, soon: u64, context: &mut Context) {
        let at = self.disk.reads() + context.random.between(0, soon);
        self.disk.set_fault(Some(Fault::Read(at)));
    }

    /// With some probability has the power fail, or the process be killed, at one of the next
    /// steps of the disk; says which of the two. The caller takes the threat back.
    fn threaten(&mut self, chance: f64, steps: u64, context: &mut Context) -> Option<Crash> {
        let faults = context.plan.faults;
        let may_crash = !context.is_ending && (faults.kills || faults.power);
        if !may_crash || !context.random.chance(chance) {
            return None;
        }
        let is_power = faults.power && (!faults.kills || context.random.chance(0.5));
        let at = self.disk.operations() + context.random.between(0, steps);
        self.disk.set_fault(Some(Fault::PowerOff(at)));
        Some(if is_power { Crash::Power } else { Crash::Kill })
    }

    /// Ends the process now; it starts again later.
    pub fn crash(&mut self, crash: Crash, context: &mut Context) {
        let Some(process) = self.process.take() else { return };
        let engine = process.core.engine();
        self.floor = self.floor.max(engine.marks().written);
        self.last_words = Some((engine.last(), process.core.machine().clone()));
        self.fall(crash, context);
    }

    /// The machine is down, with or without its power.
    fn fall(&mut self, crash: Crash, context: &mut Context) {
        context.story.tell(context.now, || What::Server(format!("crashes: {crash:?}")));
        self.backlog.clear();
        self.disk.set_fault(None);
        if crash != Crash::Kill {
            context.power_losses += 1;
            self.may_have_lost |= !context.plan.syncs;
            // What was only written may be gone, and be written again as something else.
            self.floor = self.replica.at();
            self.disk = match crash {
                Crash::Worst => self.disk.after_worst_power_loss(),
                _ => self.disk.after_power_loss(context.random.next()),
            };
        }
        let pause = context.random.between(1_000, 2_000 * context.plan.lease_ms);
        context.at(context.now + pause, Event::ServerStarts);
    }

    /// Ends the process as SIGTERM does, if it has nothing under way.
    pub fn stop(&mut self, context: &mut Context, ledger: &mut Ledger) -> Result<bool, String> {
        let now = self.now(context);
        let Some(process) = &mut self.process else { return Ok(false) };
        if process.jobs > 0 || !process.is_up || process.core.engine().is_full() {
            return Ok(false);
        }
        let mut actions = Vec::new();
        process.core.settle();
        while let Some(job) = process.core.poll_job() {
            jobs::note(&mut self.replica, &job);
            let (job, ending) = jobs::run_whole(&process.store, job);
            jobs::finish(&mut process.core, job, ending, now, &mut actions);
            process.core.settle();
        }
        let engine = process.core.engine();
        if !engine.is_settled() {
            return Ok(false);
        }
        if let Err(error) = process.store.checkpoint(engine.marks().published)
            && !context.plan.faults.spoils_disk()
        {
            return Err(format!("cannot make a checkpoint: {error}"));
        }
        for action in actions {
            self.perform(action, context);
        }
        context.story.tell(context.now, || What::Server("stops".into()));
        self.see_files(false, ledger)?;
        self.crash(Crash::Kill, context);
        Ok(true)
    }

    /// Shows the ledger what anybody can see in the files.
    pub fn see_files(&self, is_all: bool, ledger: &mut Ledger) -> Result<(), String> {
        let fault = self.disk.set_fault(None);
        let result = self.look_into_files(is_all, ledger);
        self.disk.set_fault(fault);
        result
    }

    fn look_into_files(&self, is_all: bool, ledger: &mut Ledger) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        for id in 0..process.core.machine().files() {
            let file = FileId(id);
            let size = process.store.read(file, 0, &mut []).map_or(0, |(_, size)| size);
            let known = if is_all { 0 } else { ledger.length(id as usize) };
            if size == known {
                continue;
            }
            let mut bytes = vec![0; size.saturating_sub(known) as usize];
            let read = process.store.read(file, known, &mut bytes);
            read.map_err(|error| format!("file_{id} cannot be read: {error}"))?;
            ledger.see(id as usize, known, &bytes)?;
        }
        Ok(())
    }

    /// Right after a start nothing follows the end of the log: it might be taken for a part of it
    /// some day.
    fn check_log(&self) -> Result<(), String> {
        let found = wal::check(&self.disk, &Path::new(DIR).join(PRIVATE_DIR), &mut |_, _| Ok(()));
        match found.map_err(|error| error.to_string())?.torn {
            None => Ok(()),
            Some(torn) => Err(format!("{} bytes follow the end of the log", torn.bytes)),
        }
    }

    /// A checkpoint was made: no segment of the log is left all of whose entries it covers. The last
    /// one may be there without having been begun, if there was no room.
    fn check_log_is_cut(&self) -> Result<(), String> {
        let (through, begins) = self.log_and_checkpoint()?;
        match begins.get(1..begins.len() - 1) {
            Some([second, ..]) if *second <= through + 1 => {
                Err(format!("a checkpoint covers entry {through}, segments begin at {begins:?}"))
            }
            _ => Ok(()),
        }
    }

    /// All of the log is in the checkpoint but its end.
    pub fn check_log_is_short(&self) -> Result<(), String> {
        let (through, begins) = self.log_and_checkpoint()?;
        let later = begins.iter().filter(|first| **first > through + 1).count();
        if later > SEGMENTS_LATER {
            return Err(format!(
                "the checkpoint covers entry {through}, segments begin at {begins:?}"
            ));
        }
        Ok(())
    }

    /// What the checkpoint covers, and with which entries the segments of the log begin.
    fn log_and_checkpoint(&self) -> Result<(u64, Vec<u64>), String> {
        let dir = Path::new(DIR).join(PRIVATE_DIR);
        let disk = self.disk.after_worst_power_loss();
        let checkpoint = wal::read_checkpoint(&disk, &dir).map_err(|error| error.to_string())?;
        let names = self.disk.list(&dir).map_err(|error| error.to_string())?;
        let first = |name: &String| name.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok();
        let begins = names.iter().filter_map(first).collect();
        Ok((checkpoint.map_or(0, |checkpoint| checkpoint.index.0), begins))
    }

    /// Right after a start the files have what the log publishes, no more and no less.
    fn check_sizes(&self) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        for (id, expected) in self.replica.sizes().iter().enumerate() {
            let size = process.store.read(FileId(id as u32), 0, &mut []);
            let size = size.map_or(0, |(_, size)| size);
            if size != *expected {
                return Err(format!("recovery left {size} of {expected} bytes in file_{id}"));
            }
        }
        Ok(())
    }

    fn clock(&self, born: u64, now: u64) -> Now {
        let unix = EPOCH_MS + (now / 1000) as i64 + self.jumped_ms;
        let steady_us = now - born;
        Now { steady: Millis(steady_us / 1000), steady_us, unix: Millis(unix as u64) }
    }

    fn now(&self, context: &Context) -> Now {
        self.clock(self.process.as_ref().map_or(0, |process| process.born), context.now)
    }
}

const DIR: &str = "/data";
/// The wall clock at virtual time 0.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// How many starts crash on their way, within how many steps of the disk.
const START_CRASHES: f64 = 0.2;
const START_STEPS: u64 = 15;
/// So many segments of the log may begin behind the checkpoint when nothing goes on.
const SEGMENTS_LATER: usize = 1;
