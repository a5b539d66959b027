//! The threads that write and read the disk: the journal's, and the one that applies.

use super::super::server::DIR;
use super::super::{MemberStep, Verdict, World};
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::solo::Ending;
use crate::machine::Part;
use crate::server::cluster::applier::Task;
use crate::server::cluster::driver::Input;
use crate::server::cluster::fetch::Fetching;
use crate::sim::observe::Cause;
use crate::sim::server::Crash;
use crate::sim::story::What;
use crate::sim::vouch;
use crate::types::{FileId, LogIndex};
use raft::eraftpb::Message;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

impl World {
    /// The thread that applies keeps a checkpoint, its own or one that was taken over.
    pub(super) fn keep(
        &mut self,
        at: usize,
        place: LogIndex,
        checkpoint: Box<Checkpoint>,
        message: Option<Message>,
    ) -> Verdict {
        let crash = self.threaten(at, KEEP_CRASHES, 10);
        if crash.is_none() {
            vouch::spoil(&self.servers[at].disk, &mut self.context);
        }
        let Some(process) = self.process(at) else { return Ok(()) };
        let kept = process.store.keep_checkpoint(place, &checkpoint);
        if self.has_fallen(at, crash)? {
            return Ok(());
        }
        let files_of = |bytes: &[u8]| Ok(Checkpoint::read(&bytes.to_vec().into())?.state()?.files);
        vouch::check(&self.servers[at].disk, Path::new(DIR), files_of)
            .map_err(|why| format!("server {at}: {why}"))?;
        match (kept, message) {
            (Ok(()), Some(message)) => self.tell(at, Input::TakenOver(message, checkpoint)),
            (Ok(()), None) => self.tell(at, Input::Kept(checkpoint)),
            (Err(error), None) if error.is_full() => self.tell(at, Input::NotKept),
            (Err(error), message) if error.is_full() => {
                self.later(at, RETRY_US, MemberStep::Keep(place, checkpoint, message));
            }
            (Err(error), _) => return self.fail(at, &error.to_string()),
        }
        Ok(())
    }

    /// The journal's thread writes and syncs a batch.
    pub(super) fn keep_journal(&mut self, at: usize) -> Verdict {
        let crash = self.threaten(at, SAVE_CRASHES, 4);
        let Some(process) = self.process(at) else { return Ok(()) };
        let Some(mut batch) = process.journal.pop_front() else { return Ok(()) };
        let ending = process.store.save(&mut batch);
        if self.has_fallen(at, crash)? {
            return Ok(());
        }
        let Some(process) = self.process(at) else { return Ok(()) };
        match ending {
            Ending::Done => {
                process.is_saving = !process.journal.is_empty();
                if process.is_saving {
                    let wait = self.latency(1_500);
                    self.later(at, wait, MemberStep::Journal);
                }
                self.look_at_room(at);
                self.tell(at, Input::Saved(batch));
            }
            Ending::Full => {
                process.journal.push_front(batch);
                self.look_at_room(at);
                self.later(at, RETRY_US, MemberStep::Journal);
            }
            Ending::Failed => return self.fail(at, "cannot keep the journal"),
        }
        Ok(())
    }

    /// The disk is broken: the process ends.
    pub(super) fn fail(&mut self, at: usize, why: &str) -> Verdict {
        if !self.context.plan.faults.spoils_disk() {
            return Err(format!("server {at} ends: {why}"));
        }
        self.failed_at = self.context.now;
        self.fall(at, Crash::Kill)
    }

    /// The thread that applies.
    pub(super) fn apply(&mut self, at: usize) -> Verdict {
        while let Some(process) = self.process(at) {
            let polled = process.applier.poll().map_err(|why| format!("server {at}: {why}"))?;
            match polled {
                None => {
                    process.is_applying = false;
                    return Ok(());
                }
                Some(Task::Publish(parts)) => {
                    let wait = self.latency(100);
                    self.later(at, wait, MemberStep::Task(parts));
                    return Ok(());
                }
                Some(Task::FetchState { from, index }) => {
                    let fetched = self.fetch_state(at, from as usize - 1, index);
                    let Some(process) = self.process(at) else { return Ok(()) };
                    process.applier.handle_state(fetched)?;
                }
                Some(Task::Fetch { from, have, want }) => {
                    let fetching = Fetching::new(have, want, PIECE);
                    process.fetching = Some((from as usize - 1, fetching));
                    let what = format!("fetches from server {}", from - 1);
                    self.context.story.tell(self.context.now, || What::Member { server: at, what });
                    return self.fetch(at);
                }
                Some(Task::Rewind(sizes)) => {
                    if let Err(error) = process.store.rewind(sizes) {
                        return self.fail(at, &error.to_string());
                    }
                    self.check_files(at)?;
                }
                Some(Task::Core(standing)) => {
                    self.work(at, Cause::Other, |core, now, actions| {
                        core.stand(standing, now, actions);
                    })?;
                }
                Some(Task::Tell(input)) => self.tell(at, input),
                // No simulated client makes one.
                Some(Task::Backup(..)) => {}
            }
            if self.is_preempting(0.05) {
                let wait = self.latency(5_000);
                self.later(at, wait, MemberStep::Apply);
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn perform_task(&mut self, at: usize, mut parts: VecDeque<Part>) -> Verdict {
        let crash = self.threaten(at, SAVE_CRASHES, 4);
        let Some(process) = self.process(at) else { return Ok(()) };
        let ending = process.store.publish(&mut parts);
        if self.has_fallen(at, crash)? {
            return Ok(());
        }
        match ending {
            Ending::Done => {
                self.check_files(at)?;
                self.apply(at)
            }
            Ending::Full => {
                self.later(at, RETRY_US, MemberStep::Task(parts));
                Ok(())
            }
            Ending::Failed => self.fail(at, "cannot write a data file"),
        }
    }

    /// Fetches the next piece, or asks for it.
    pub(super) fn fetch(&mut self, at: usize) -> Verdict {
        let Some(process) = self.servers[at].process.as_mut() else { return Ok(()) };
        let Some((from, mut fetching)) = process.fetching.take() else { return Ok(()) };
        let is_done = match fetching.next(process.store.data()) {
            Ok(None) => true,
            Ok(Some((file, offset, len))) => {
                let fetched = self.fetch_piece(at, from, &mut fetching, (file, offset, len));
                let Some(process) = self.process(at) else { return Ok(()) };
                if fetched {
                    process.fetching = Some((from, fetching));
                    let wait = self.context.random.between(100, 20_000);
                    self.later(at, wait, MemberStep::Fetch);
                    return Ok(());
                }
                false
            }
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                return Err(format!("server {at}: {why}"));
            }
            Err(_) => false,
        };
        let Some(process) = self.process(at) else { return Ok(()) };
        process.applier.handle_fetched(is_done);
        self.taken_over += u64::from(is_done);
        self.apply(at)
    }

    fn fetch_state(&self, at: usize, from: usize, index: u64) -> Option<Checkpoint> {
        if !self.reaches_awake(at, from) {
            return None;
        }
        let offered = &self.servers[from].process.as_ref()?.offered;
        (offered.head.index == index).then(|| offered.clone())
    }

    pub(in super::super) fn reaches_awake(&self, at: usize, other: usize) -> bool {
        self.servers[other].asleep_until <= self.context.now
            && self.network.reaches(at, other, self.context.now)
    }

    fn fetch_piece(
        &mut self,
        at: usize,
        from: usize,
        fetching: &mut Fetching,
        (file, offset, len): (FileId, u64, usize),
    ) -> bool {
        if !self.reaches_awake(at, from) {
            return false;
        }
        let mut data = vec![0; len];
        let Some(source) = &self.servers[from].process else { return false };
        let read = source.store.read(file, offset, &mut data);
        if !matches!(read, Ok((read, _)) if read == len) {
            return false;
        }
        let Some(process) = self.process(at) else { return false };
        fetching.take(process.store.data(), &data).is_ok()
    }

    pub(in super::super) fn look_at_room(&mut self, at: usize) {
        if let Some(process) = self.process(at) {
            let room = process.store.room();
            process.core.handle_room(room);
        }
    }
}

/// How often writing is tried again on a full disk.
const RETRY_US: u64 = 100_000;
/// Bytes of the data files that are fetched at once.
const PIECE: usize = 3_000;
/// How many steps of the disk crash on their way.
const SAVE_CRASHES: f64 = 0.002;
const KEEP_CRASHES: f64 = 0.05;
