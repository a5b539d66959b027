//! The server's process: the real [`Core`] and [`Store`] on a disk in memory, driven step by step
//! as `server::threads` drives them, with jobs that take time and crashes between any two steps.

use super::context::{Context, Event};
use super::ledger::Ledger;
use super::network::Direction;
use super::observe::{Cause, Handover, Observer};
use super::story::What;
use crate::disk::mem::{Fault, MemDisk};
use crate::engine::solo::{Ending, Job};
use crate::limits::READ_MAX;
use crate::machine::Machine;
use crate::protocol::{Outcome, Reply};
use crate::server::Store;
use crate::server::core::{Action, Core, Limits, Now, Settings};
use crate::types::{FileId, LogIndex, Millis};
use crate::{wal, wire};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

/// A machine that a server runs on, or not.
#[derive(Default)]
pub struct Server {
    pub disk: MemDisk,
    process: Option<Process>,
    /// Counts starts; what was meant for an earlier one is dropped.
    life: u64,
    pub observer: Observer,
    /// Arrived while the server starts.
    backlog: Vec<(SocketAddrV4, Vec<u8>)>,
    /// The log must not end before this after the next start.
    floor: LogIndex,
    /// The state at a crash and its place in the log.
    last_words: Option<(LogIndex, Machine)>,
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

    pub fn machine(&self) -> Option<&Machine> {
        self.process.as_ref().map(|process| process.core.machine())
    }

    /// The wall clock goes forth or back.
    pub fn jump(&mut self, ms: i64) {
        self.jumped_ms += ms;
    }

    /// Starts the process, as `server::run` does.
    pub fn start(&mut self, context: &mut Context, ledger: &mut Ledger) -> Step {
        if self.process.is_some() {
            return Ok(None);
        }
        self.life += 1;
        let files = context.plan.files;
        let options = wal::Options { segment_max: context.plan.segment_max, salt: self.life };
        let (store, found) = match Store::open(self.disk.clone(), Path::new(DIR), files, &options) {
            Ok(opened) => opened,
            Err(error) => return self.fail_to_start(&error.to_string(), context),
        };
        if found.last < self.floor {
            return Err(format!("the log had {} entries, now {}", self.floor, found.last));
        }
        if let Some((last, machine)) = self.last_words.take()
            && last == found.last
            && machine != found.machine
        {
            return Err("recovery found another state than there was".into());
        }
        context.story.tell(context.now, || What::Server(format!("starts, log at {}", found.last)));
        let settings = Settings {
            lease_ms: context.plan.lease_ms,
            session_ttl_ms: context.plan.session_ttl_ms,
            section_limit: context.plan.section_limit,
            syncs: context.plan.syncs,
            limits: Limits::default(),
        };
        self.observer.restart(&found.machine);
        let now = self.clock(context.now, context.now);
        self.process = Some(Process {
            core: Core::new(settings, found.machine, found.last, now),
            store,
            is_up: false,
            born: context.now,
            tick_at: u64::MAX,
            jobs: 0,
            room_seen: 0,
            room_is_low: false,
        });
        self.see_files(true, ledger)?;
        self.look_at_room(context);
        self.work(context, Cause::Other, |core, now, actions| core.boot(files, now, actions))
    }

    fn fail_to_start(&mut self, why: &str, context: &mut Context) -> Step {
        let faults = &context.plan.faults;
        if !faults.disk_errors && !faults.disk_full {
            return Err(format!("the server does not start: {why}"));
        }
        context.story.tell(context.now, || What::Server(format!("cannot start: {why}")));
        self.disk.set_fault(None);
        let pause = context.random.between(10_000, 300_000);
        context.at(context.now + pause, Event::ServerStarts);
        Ok(None)
    }

    /// Ends the process now; it starts again later.
    pub fn crash(&mut self, crash: Crash, context: &mut Context) {
        let Some(process) = self.process.take() else { return };
        context.story.tell(context.now, || What::Server(format!("crashes: {crash:?}")));
        let engine = process.core.engine();
        let floor = match crash {
            Crash::Kill => engine.marks().written,
            Crash::Power => engine.marks().stable,
        };
        self.floor = self.floor.max(floor);
        self.last_words = Some((engine.last(), process.core.machine().clone()));
        self.backlog.clear();
        self.disk.set_fault(None);
        if crash == Crash::Power {
            // What was only written is gone, and may be written again as something else.
            self.floor = floor;
            context.power_losses += 1;
            self.disk = self.disk.after_power_loss(context.random.next());
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
            let (job, ending) = run(&process.store, job);
            finish(&mut process.core, job, ending, now, &mut actions);
            process.core.settle();
        }
        let engine = process.core.engine();
        if !engine.is_settled() {
            return Ok(false);
        }
        if let Err(error) = process.store.checkpoint(engine.marks().published)
            && !context.plan.faults.disk_errors
            && !context.plan.faults.disk_full
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

    /// A datagram arrives at the socket.
    pub fn receive(&mut self, from: SocketAddrV4, bytes: Vec<u8>, context: &mut Context) -> Step {
        let taken = self.now(context);
        let Some(process) = &mut self.process else {
            let (client, direction) = (client_at(from), Direction::ToServer);
            context.story.tell(context.now, || What::Unheard { client, direction });
            return Ok(None);
        };
        if !process.is_up {
            if self.backlog.len() < BACKLOG_MAX {
                self.backlog.push((from, bytes));
            }
            return Ok(None);
        }
        if context.plan.faults.preemption && !context.is_ending && context.random.chance(0.05) {
            let at = context.now + context.random.between(0, 5_000);
            context.at(at, Event::Serve { life: self.life, from, bytes, taken });
            return Ok(None);
        }
        self.serve(self.life, from, &bytes, taken, context)
    }

    /// The datagram's thread has the lock.
    pub fn serve(
        &mut self,
        life: u64,
        from: SocketAddrV4,
        bytes: &[u8],
        taken: Now,
        context: &mut Context,
    ) -> Step {
        if life != self.life || !self.is_running() {
            return Ok(None);
        }
        let Ok(request) = wire::decode_request(bytes) else { return Ok(None) };
        if self.process.as_ref().is_some_and(|process| process.room_is_low) {
            self.look_at_room(context);
        }
        let cause = Cause::Request(request.session);
        self.work_at(taken, context, cause, |core, now, actions| {
            core.handle_request(SocketAddr::V4(from), &request, now, actions);
        })
    }

    /// A deadline has come.
    pub fn tick(&mut self, life: u64, at: u64, context: &mut Context) -> Step {
        match &mut self.process {
            Some(process) if life == self.life && process.tick_at == at && process.is_up => {
                process.tick_at = u64::MAX;
            }
            _ => return Ok(None),
        }
        self.work(context, Cause::Time, |core, now, actions| core.handle_timeout(now, actions))
    }

    /// A job reaches the disk. Some crashes happen right then.
    pub fn run(&mut self, life: u64, job: Job, context: &mut Context, ledger: &mut Ledger) -> Step {
        let Some(process) = self.process.as_ref().filter(|_| life == self.life) else {
            return Ok(None);
        };
        let faults = &context.plan.faults;
        let may_crash = !context.is_ending && (faults.kills || faults.power);
        let crash = (may_crash && context.random.chance(0.01)).then(|| {
            let is_power = faults.power && (!faults.kills || context.random.chance(0.5));
            self.disk.set_fault(Some(Fault::PowerOff(
                self.disk.operations() + context.random.between(0, 3),
            )));
            if is_power { Crash::Power } else { Crash::Kill }
        });
        let (job, ending) = run(&process.store, job);
        if let Some(crash) = crash {
            if !self.disk.has_power() {
                self.disk.set_fault(None);
                self.see_files(false, ledger)?;
                self.crash(crash, context);
                return Ok(None);
            }
            self.disk.set_fault(None);
        }
        context.story.tell(context.now, || What::Disk(format!("{} {ending:?}", describe(&job))));
        self.see_files(false, ledger)?;
        let wait = context.random.between(1, 100);
        context.at(context.now + wait, Event::Ran { life, job, ending });
        Ok(None)
    }

    /// The server learns how a job ended.
    pub fn ran(&mut self, life: u64, job: Job, ending: Ending, context: &mut Context) -> Step {
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else {
            return Ok(None);
        };
        process.jobs -= 1;
        let is_flush = matches!(job, Job::Flush(_));
        if !is_flush && context.now >= process.room_seen + ROOM_EVERY_US {
            self.look_at_room(context);
        }
        let step = self.work(context, Cause::Other, |core, now, actions| {
            finish(core, job, ending, now, actions);
        })?;
        let Some(process) = &mut self.process else { return Ok(step) };
        if process.is_up {
            if is_flush {
                self.checkpoint_if_due(context);
            }
            return Ok(step);
        }
        self.go_on_starting(context)?;
        Ok(step)
    }

    /// Serving begins when the start itself is stable.
    fn go_on_starting(&mut self, context: &mut Context) -> Step {
        let Some(process) = &mut self.process else { return Ok(None) };
        let engine = process.core.engine();
        if engine.has_failed() || engine.is_full() {
            self.crash(Crash::Kill, context);
            return Ok(None);
        }
        if !engine.is_settled() {
            if process.jobs > 0 {
                return Ok(None);
            }
            return self.work(context, Cause::Other, |core, _, _| core.settle());
        }
        process.is_up = true;
        process.tick_at = context.now;
        let (life, at) = (self.life, context.now);
        context.story.tell(at, || What::Server("serves".into()));
        context.at(at, Event::Tick { life, at });
        for (from, bytes) in std::mem::take(&mut self.backlog) {
            context.at(at, Event::ToServer { from, bytes });
        }
        Ok(None)
    }

    /// Bytes of a file are read and sent.
    pub fn read(
        &mut self,
        life: u64,
        to: SocketAddrV4,
        reply: &Reply<'static>,
        (file, offset, max): (FileId, u64, u32),
        context: &mut Context,
    ) {
        let Some(process) = self.process.as_ref().filter(|_| life == self.life) else { return };
        let mut buffer = [0; READ_MAX];
        let wanted = &mut buffer[..READ_MAX.min(max as usize)];
        if let Ok((read, length)) = process.store.read(file, offset, wanted) {
            let outcome = Outcome::Data { length, data: &buffer[..read] };
            send(to, &Reply { outcome, ..reply.clone() }, context);
        }
    }

    /// The thread that makes checkpoints does so.
    pub fn checkpoint(&mut self, life: u64, context: &mut Context) {
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else { return };
        let published = process.core.engine().marks().published;
        let result = process.store.checkpoint(published);
        context.story.tell(context.now, || What::Disk(format!("checkpoint at {published}")));
        if let Err(error) = result
            && !error.is_full()
        {
            process.core.fail();
        }
        process.store.end_checkpoint();
    }

    fn checkpoint_if_due(&mut self, context: &mut Context) {
        let Some(process) = &self.process else { return };
        let published = process.core.engine().marks().published;
        if process.store.begin_checkpoint(published, process.room_is_low).is_some() {
            let at = context.now + context.random.between(0, 20_000);
            context.at(at, Event::Checkpoint { life: self.life });
        }
    }

    fn look_at_room(&mut self, context: &mut Context) {
        let Some(process) = &mut self.process else { return };
        process.room_seen = context.now;
        let room = process.store.room();
        process.room_is_low = room < ROOM_LOW;
        process.core.handle_room(room);
        if process.room_is_low && process.is_up {
            self.checkpoint_if_due(context);
        }
    }

    fn work(
        &mut self,
        context: &mut Context,
        cause: Cause,
        change: impl FnOnce(&mut Core, Now, &mut Vec<Action>),
    ) -> Step {
        self.work_at(self.now(context), context, cause, change)
    }

    /// Changes the core as a thread does under the lock, then does what that leads to.
    fn work_at(
        &mut self,
        now: Now,
        context: &mut Context,
        cause: Cause,
        change: impl FnOnce(&mut Core, Now, &mut Vec<Action>),
    ) -> Step {
        let Some(process) = &mut self.process else { return Ok(None) };
        let mut actions = Vec::new();
        change(&mut process.core, now, &mut actions);
        if let Some(job) = process.core.poll_job() {
            process.jobs += 1;
            let at = context.now + latency(&job, context);
            context.at(at, Event::Run { life: self.life, job });
        }
        if let Some(deadline) = process.core.next_deadline() {
            let due = process.born + deadline.0 * 1000;
            if due < process.tick_at {
                let late = if context.random.chance(0.1) { 3_000 } else { 100 };
                process.tick_at = due.max(context.now) + context.random.between(0, late);
                context.at(process.tick_at, Event::Tick { life: self.life, at: process.tick_at });
            }
        }
        let limit = context.plan.section_limit;
        let handover = self.observer.look(process.core.machine(), limit, cause)?;
        for action in actions {
            self.perform(action, context);
        }
        Ok(handover)
    }

    fn perform(&mut self, action: Action, context: &mut Context) {
        match action {
            Action::Send { to: SocketAddr::V4(to), reply } => send(to, &reply, context),
            Action::Read { to: SocketAddr::V4(to), reply, file, offset, max } => {
                let at = context.now + context.random.between(0, 300);
                context.at(at, Event::Read { life: self.life, to, reply, file, offset, max });
            }
            // Nobody asks from elsewhere, or to see what operators see.
            Action::Send { .. } | Action::Read { .. } | Action::Inspect { .. } => {}
        }
    }

    /// Shows the ledger what anybody can see in the files.
    pub fn see_files(&self, is_all: bool, ledger: &mut Ledger) -> Result<(), String> {
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

    fn clock(&self, born: u64, now: u64) -> Now {
        let unix = EPOCH_MS + (now / 1000) as i64 + self.jumped_ms;
        Now { steady: Millis((now - born) / 1000), unix: Millis(unix as u64) }
    }

    fn now(&self, context: &Context) -> Now {
        self.clock(self.process.as_ref().map_or(0, |process| process.born), context.now)
    }
}

fn send(to: SocketAddrV4, reply: &Reply<'_>, context: &mut Context) {
    let mut bytes = Vec::new();
    wire::encode_reply(reply, &mut bytes);
    context.send(client_at(to), Direction::ToClient, to, bytes);
}

/// The client that has this address.
pub fn client_at(addr: SocketAddrV4) -> usize {
    usize::from(addr.ip().octets()[3]).saturating_sub(1)
}

fn run(store: &Store<MemDisk>, job: Job) -> (Job, Ending) {
    match job {
        Job::Write(mut batch) => {
            let ending = store.write(&mut batch);
            (Job::Write(batch), ending)
        }
        Job::Flush(mut flush) => {
            let ending = store.flush(&mut flush);
            (Job::Flush(flush), ending)
        }
    }
}

fn finish(core: &mut Core, job: Job, ending: Ending, now: Now, actions: &mut Vec<Action>) {
    match job {
        Job::Write(batch) => core.handle_written(batch, ending, now, actions),
        Job::Flush(flush) => core.handle_flushed(flush, ending, now, actions),
    }
}

fn latency(job: &Job, context: &mut Context) -> u64 {
    let slow = context.plan.faults.slow_disk && !context.is_ending;
    let longest = match job {
        _ if slow && context.random.chance(0.1) => 1_500 * context.plan.lease_ms,
        Job::Write(_) => 50,
        Job::Flush(_) => 1_000,
    };
    context.random.between(1, longest)
}

fn describe(job: &Job) -> String {
    match job {
        Job::Write(batch) => format!("writes entries {} to {}", batch.first, batch.last),
        Job::Flush(flush) => format!("syncs and publishes to {}", flush.through),
    }
}

const DIR: &str = "/data";
/// As in `server::threads`.
const ROOM_EVERY_US: u64 = 500_000;
const ROOM_LOW: u64 = 64 << 20;
/// The wall clock at virtual time 0.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// Datagrams that the kernel keeps for a server that starts.
const BACKLOG_MAX: usize = 50;
