//! What the server does with its disk: writes, flushes and checkpoints, step by step, each step at
//! a time of its own, so that anything may come between two of them.

use super::{DIR, Server, Step};
use crate::disk::mem::MemDisk;
use crate::engine::State;
use crate::engine::solo::{Ending, Job};
use crate::server::core::{Action, Core, Now};
use crate::server::{Checkpointing, Due, Store};
use crate::sim::context::{Context, Event};
use crate::sim::ledger::Ledger;
use crate::sim::observe::Cause;
use crate::sim::replica::Replica;
use crate::sim::story::What;
use crate::sim::vouch;
use crate::types::FileId;
use std::path::Path;

impl Server {
    /// A step of a job reaches the disk. Some crashes happen right then.
    pub fn run(
        &mut self,
        life: u64,
        mut job: Job,
        context: &mut Context,
        ledger: &mut Ledger,
    ) -> Step {
        if life != self.life || self.process.is_none() {
            return Ok(None);
        }
        if let (Job::Flush(flush), Some(process)) = (&mut job, &mut self.process) {
            process.core.widen(flush);
        }
        note(&mut self.replica, &job);
        let crash = self.threaten(JOB_CRASHES, 3, context);
        let Some(process) = &self.process else { return Ok(None) };
        let step = match &mut job {
            Job::Write(batch) => Some(process.store.write(batch)),
            Job::Flush(flush) => process.store.flush_step(flush),
        };
        if let Some(crash) = crash {
            if !self.disk.has_power() {
                self.disk.set_fault(None);
                self.see_files(false, ledger)?;
                self.crash(crash, context);
                return Ok(None);
            }
            self.disk.set_fault(None);
        }
        self.see_files(false, ledger)?;
        let Some(ending) = step else {
            let longest = if context.random.chance(0.1) { 2_000 } else { 50 };
            let wait = context.random.between(1, longest);
            context.at(context.now + wait, Event::Run { life, job });
            return Ok(None);
        };
        let may_cut = !context.plan.faults.disk_errors;
        if ending == Ending::Full && may_cut && matches!(job, Job::Flush(_)) {
            self.check_ends()?;
        }
        context.story.tell(context.now, || What::Disk(describe(&job, ending)));
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
        match &job {
            Job::Write(batch) if ending == Ending::Done => self.replica.wrote(batch.last),
            // Also when there was no space for what it publishes: that comes after the sync.
            Job::Flush(flush) if ending != Ending::Failed && context.plan.syncs => {
                self.replica.settle(flush.through)?;
            }
            _ => {}
        }
        let is_to_look = !is_flush && context.now >= process.room_seen + ROOM_EVERY_US;
        let has_sealed = !is_flush && process.is_up && process.store.has_sealed();
        if is_to_look {
            self.look_at_room(context);
        }
        if has_sealed {
            self.checkpoint_if_due(context);
        }
        let step = self.work(context, Cause::Other, |core, now, actions| {
            finish(core, job, ending, now, actions);
        })?;
        self.check_marks(context)?;
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

    /// Where there was no room, readers of the files see no half of a section either, if the disk allows.
    fn check_ends(&self) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        let fault = self.disk.set_fault(None);
        let sizes = process.store.data().sizes();
        let ends = sizes.into_iter().enumerate().map(|(id, size)| {
            let bytes = self.disk.read_file(&Path::new(DIR).join(FileId(id as u32).name()));
            (id, size, bytes.map_or(0, |bytes| bytes.len() as u64))
        });
        let longer = ends.into_iter().find(|(_, size, length)| length > size);
        self.disk.set_fault(fault);
        match longer {
            None => Ok(()),
            Some((id, size, length)) => {
                Err(format!("file_{id} has {length} bytes, of which {size} are published"))
            }
        }
    }

    /// The server must not think that the log is further than it is.
    fn check_marks(&self, context: &Context) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        let marks = process.core.engine().marks();
        let stable = marks.stable.max(marks.published);
        if context.plan.syncs && stable > self.replica.at() {
            return Err(format!("stable through {}, but taken for {stable}", self.replica.at()));
        }
        Ok(())
    }

    /// Serving begins when the start itself is stable.
    fn go_on_starting(&mut self, context: &mut Context) -> Step {
        let Some(process) = &mut self.process else { return Ok(None) };
        let engine = process.core.engine();
        if engine.has_failed() || engine.is_full() {
            self.crash(super::Crash::Kill, context);
            return Ok(None);
        }
        if !engine.is_settled() {
            if process.jobs > 0 {
                return Ok(None);
            }
            return self.work(context, Cause::Other, |core, _, _| core.settle());
        }
        let now = self.now(context);
        let Some(process) = &mut self.process else { return Ok(None) };
        process.core.open(now);
        process.is_up = true;
        self.serves_since = context.now;
        process.tick_at = context.now;
        let (life, at) = (self.life, context.now);
        context.story.tell(at, || What::Server("serves".into()));
        context.at(at, Event::Tick { life, at });
        for (from, bytes) in std::mem::take(&mut self.backlog) {
            context.at(at, Event::ToServer { server: 0, from, bytes });
        }
        Ok(None)
    }

    /// The thread that makes checkpoints makes a step.
    pub fn checkpoint(&mut self, life: u64, context: &mut Context) -> Step {
        if life != self.life || self.process.is_none() {
            return Ok(None);
        }
        let crash = self.threaten(CHECKPOINT_CRASHES, 7, context);
        if crash.is_none() {
            vouch::spoil(&self.disk, context);
        }
        let Some(process) = &mut self.process else { return Ok(None) };
        let published = process.core.engine().marks().published;
        let mut checkpointing = process.checkpointing.take().unwrap_or_else(|| {
            context.story.tell(context.now, || What::Disk(format!("checkpoint at {published}")));
            Checkpointing::new(published)
        });
        let result = process.store.go_on(&mut checkpointing);
        if let Some(crash) = crash {
            if !self.disk.has_power() {
                self.crash(crash, context);
                return Ok(None);
            }
            self.disk.set_fault(None);
        }
        match &result {
            Ok(true) => {
                process.checkpointing = Some(checkpointing);
                let longest = if context.random.chance(0.2) { 50_000 } else { 2_000 };
                let at = context.now + context.random.between(1, longest);
                context.at(at, Event::Checkpoint { life });
                return Ok(None);
            }
            Err(error) if !context.plan.faults.spoils_disk() => {
                return Err(format!("cannot make a checkpoint: {error}"));
            }
            Err(error) if !error.is_full() => process.core.fail(),
            Ok(false) | Err(_) => {}
        }
        let is_made = result.is_ok();
        process.store.end_checkpoint();
        if is_made {
            self.check_log_is_cut()?;
        }
        vouch::check(&self.disk, Path::new(DIR), |state| {
            postcard::from_bytes::<State>(state).map(|state| state.files)
        })?;
        Ok(None)
    }

    fn checkpoint_if_due(&mut self, context: &mut Context) {
        let Some(process) = &mut self.process else { return };
        let published = process.core.engine().marks().published;
        match process.store.begin_checkpoint(published, process.room_is_low) {
            Due::Not => {}
            Due::OncePublished => process.core.settle(),
            Due::Now => {
                let at = context.now + context.random.between(0, 20_000);
                context.at(at, Event::Checkpoint { life: self.life });
            }
        }
    }

    pub(super) fn look_at_room(&mut self, context: &mut Context) {
        let Some(process) = &mut self.process else { return };
        process.room_seen = context.now;
        let room = process.store.room();
        process.room_is_low = room < ROOM_LOW;
        process.core.handle_room(room);
        if process.room_is_low && process.is_up {
            self.checkpoint_if_due(context);
        }
    }
}

/// Tells the judge what is being written.
pub(super) fn note(replica: &mut Replica, job: &Job) {
    if let Job::Write(batch) = job {
        replica.note(batch);
    }
}

/// Does all steps of a job.
pub(super) fn run_whole(store: &Store<MemDisk>, job: Job) -> (Job, Ending) {
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

pub(super) fn finish(
    core: &mut Core,
    job: Job,
    ending: Ending,
    now: Now,
    actions: &mut Vec<Action>,
) {
    match job {
        Job::Write(batch) => core.handle_written(batch, ending, now, actions),
        Job::Flush(flush) => core.handle_flushed(flush, ending, now, actions),
    }
}

/// How long a job takes before it reaches the disk.
pub(super) fn latency(job: &Job, context: &mut Context) -> u64 {
    let slow = context.plan.faults.slow_disk && !context.is_ending;
    let longest = match job {
        _ if slow && context.random.chance(0.1) => 1_500 * context.plan.lease_ms,
        Job::Write(_) => 50,
        Job::Flush(_) => 1_000,
    };
    context.random.between(1, longest)
}

fn describe(job: &Job, ending: Ending) -> String {
    let what = match job {
        Job::Write(batch) if batch.first == batch.last => format!("writes entry {}", batch.first),
        Job::Write(batch) => format!("writes entries {} to {}", batch.first, batch.last),
        Job::Flush(flush) => format!("syncs and publishes to {}", flush.through),
    };
    match ending {
        Ending::Done => what,
        Ending::Full => format!("{what}: no space"),
        Ending::Failed => format!("{what}: fails"),
    }
}

/// As in `server::threads`.
const ROOM_EVERY_US: u64 = 500_000;
const ROOM_LOW: u64 = 64 << 20;
/// How many jobs, and steps of checkpoints, crash on their way.
const JOB_CRASHES: f64 = 0.01;
const CHECKPOINT_CRASHES: f64 = 0.1;
