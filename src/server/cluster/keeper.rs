//! The threads of a member, and what of their work others do when little is going on.

use super::applier::{Applier, Due, Task};
use super::driver::Input;
use super::fetch::{fetch, fetch_state};
use super::helm::{stand, steer};
use super::try_lock;
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::node::{Committed, What};
use crate::engine::solo::Ending;
use crate::machine::Part;
use crate::server::threads::{Lingers, Scratch, Server, lock};
use crate::types::LogIndex;
use crate::wal::Batch;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// How soon writing is tried again on a full disk, at first and then.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Bytes of commands that are applied, and of files that are published, at most by a thread that is for something else.
const QUICK_BYTES: usize = 64 << 10;
/// Bytes that are staged, at most, for any other thread than its own to apply anything.
const QUICK_STAGED: u64 = 4 << 20;

/// The life of the thread that looks after the member at its deadlines.
pub(in crate::server) fn watch(server: &Arc<Server>) {
    let cluster = server.cluster();
    // Set once: there is one such thread.
    let _ = cluster.watch.set(thread::current());
    let mut scratch = Scratch::new(Lingers::Never);
    while !server.is_stopping() {
        cluster.note();
        steer(server, &mut scratch);
        let due = cluster.next_round_ms.load(Ordering::Relaxed);
        // Another thread may be at the round that was due.
        let wait = due.saturating_sub(server.now().steady.0).max(1);
        thread::park_timeout(Duration::from_millis(wait));
    }
}

pub(super) fn keep(server: &Arc<Server>, place: LogIndex, checkpoint: Box<Checkpoint>) {
    match server.store().keep_checkpoint(place, &checkpoint) {
        Ok(()) => server.cluster().tell(Input::Kept(checkpoint)),
        Err(error) if error.is_full() => {
            warn!(%error, "no room for a checkpoint");
            server.cluster().tell(Input::NotKept);
        }
        Err(error) => {
            error!(%error, "cannot make a checkpoint: this server stops, the others go on; check \
                the disk, then restart");
            std::process::exit(1);
        }
    }
}

/// Keeps it as soon as there is room; false if this server ends before.
pub(super) fn keep_taken(server: &Arc<Server>, place: LogIndex, checkpoint: &Checkpoint) -> bool {
    until_done(server, || match server.store().keep_checkpoint(place, checkpoint) {
        Ok(()) => Ending::Done,
        Err(error) if error.is_full() => Ending::Full,
        Err(error) => {
            error!(%error, "cannot keep the state of another server");
            Ending::Failed
        }
    })
}

/// The life of the journal's thread.
pub(in crate::server) fn keep_journal(server: &Arc<Server>) {
    let cluster = server.cluster();
    let mut scratch = Scratch::new(Lingers::Always);
    while let Some(batches) = cluster.journal.take() {
        for mut batch in batches {
            if !until_done(server, || server.store().save(&mut batch)) {
                return;
            }
            server.look_at_room_if_due();
            cluster.put(Input::Saved(batch));
            steer(server, &mut scratch);
        }
    }
}

/// Writes and syncs these entries on a thread that is for something else; without room for them they
/// are the journal's thread's.
pub(super) fn save_here(server: &Arc<Server>, mut batch: Batch) {
    let cluster = server.cluster();
    let begun = Instant::now();
    match server.store().save(&mut batch) {
        Ending::Done => cluster.put(Input::Saved(batch)),
        Ending::Full => cluster.journal.push(batch),
        Ending::Failed => end_for_disk(),
    }
    cluster.note_disk(begun.elapsed(), server.now().steady);
    server.look_at_room_if_due();
}

fn end_for_disk() -> ! {
    error!("this server stops, the others go on; check the disk, then restart");
    std::process::exit(1);
}

/// Does it again until there is room for it; says whether that came. A disk that fails otherwise
/// ends the process: what this member has promised the others cannot be kept any more.
pub(super) fn until_done(server: &Arc<Server>, mut work: impl FnMut() -> Ending) -> bool {
    let mut pause = RETRY;
    loop {
        match work() {
            Ending::Done => return true,
            Ending::Full if server.is_stopping() => return false,
            Ending::Full => {
                server.look_at_room_if_due();
                thread::sleep(pause);
                pause = (pause * 2).min(RETRY_MAX);
            }
            Ending::Failed => end_for_disk(),
        }
    }
}

/// What is applied, and what of it has yet to be published.
pub struct Applying {
    applier: Applier,
    unpublished: VecDeque<Part>,
}

impl Applying {
    pub fn new(applier: Applier) -> Self {
        Applying { applier, unpublished: VecDeque::new() }
    }
}

/// The life of the thread that applies.
pub(in crate::server) fn apply(server: &Arc<Server>) {
    let cluster = server.cluster();
    let mut scratch = Scratch::new(Lingers::Never);
    while cluster.due.wait() {
        let applying = &mut *lock(&cluster.applying);
        let mut parts = std::mem::take(&mut applying.unpublished);
        if !until_done(server, || server.store().publish(&mut parts)) {
            return;
        }
        for due in cluster.due.take_if(|_| true) {
            applying.applier.add(due);
        }
        while let Some(task) = or_end(applying.applier.poll()) {
            if !perform(server, &mut applying.applier, task, &mut scratch) {
                return;
            }
        }
    }
}

/// Applies on a thread that is for something else what takes no time to speak of, unless another
/// is at it: that one looks again before it leaves. Says whether anything was applied.
pub(super) fn apply_here(server: &Arc<Server>, scratch: &mut Scratch) -> bool {
    let cluster = server.cluster();
    let mut has_applied = false;
    while !cluster.due.is_empty() {
        let may = scratch.lingers != Lingers::Never && !cluster.is_disk_slow(server.now().steady);
        let applying = may.then(|| try_lock(&cluster.applying)).flatten();
        let Some(mut applying) = applying.filter(|one| one.unpublished.is_empty()) else {
            cluster.due.call();
            return has_applied;
        };
        // A release of so much is applied byte by byte, however small it is.
        let is_small = applying.applier.replica().state.machine.staged_bytes() <= QUICK_STAGED;
        let dues = cluster.due.take_if(|due| is_small && is_quick(due));
        if dues.is_empty() {
            cluster.due.call();
            return has_applied;
        }
        has_applied = true;
        for due in dues {
            applying.applier.add(due);
        }
        while let Some(task) = or_end(applying.applier.poll_quick()) {
            let Task::Publish(mut parts) = task else {
                perform(server, &mut applying.applier, task, scratch);
                continue;
            };
            // A release is small, whatever it publishes. Nothing is to wait for that here: neither
            // the journal nor a beat.
            if parts.iter().map(|part| part.data.len()).sum::<usize>() > QUICK_BYTES {
                applying.unpublished = parts;
                cluster.due.call();
                return true;
            }
            let begun = Instant::now();
            let ending = server.store().publish(&mut parts);
            cluster.note_disk(begun.elapsed(), server.now().steady);
            match ending {
                Ending::Done => {}
                Ending::Full => {
                    applying.unpublished = parts;
                    cluster.due.call();
                    return true;
                }
                Ending::Failed => end_for_disk(),
            }
        }
        if applying.applier.is_checkpoint_due() {
            cluster.due.call();
        }
    }
    has_applied
}

/// Neither fetches nor writes much.
fn is_quick(due: &Due) -> bool {
    let bytes = |one: &Committed| match &one.what {
        What::Command(bytes) => bytes.len(),
        _ => 0,
    };
    match due {
        Due::Entries(entries, _) => entries.iter().map(bytes).sum::<usize>() <= QUICK_BYTES,
        _ => false,
    }
}

fn or_end(task: Result<Option<Task>, String>) -> Option<Task> {
    task.unwrap_or_else(|why| end_for(&why))
}

fn end_for(why: &str) -> ! {
    error!(why, "this server stops");
    std::process::exit(1);
}

/// Says whether to go on.
fn perform(server: &Arc<Server>, applier: &mut Applier, task: Task, scratch: &mut Scratch) -> bool {
    match task {
        Task::Publish(mut parts) => {
            return until_done(server, || server.store().publish(&mut parts));
        }
        Task::FetchState { from, index } => {
            let fetched = fetch_state(server, from, index);
            if let Err(error) = &fetched {
                warn!(%error, from, "cannot take over a state");
            }
            if let Err(why) = applier.handle_state(fetched.ok()) {
                end_for(&why);
            }
        }
        Task::Fetch { from, have, want } => {
            let fetched = fetch(server, from, &have, &want);
            if let Err(error) = &fetched {
                warn!(%error, from, "cannot take over a state");
            }
            applier.handle_fetched(fetched.is_ok());
        }
        Task::Rewind(sizes) => {
            if let Err(error) = server.store().rewind(sizes) {
                error!(%error, "cannot go on from the data files as they were");
                std::process::exit(1);
            }
        }
        Task::Core(standing) => stand(server, standing, scratch),
        Task::Tell(input) => {
            server.cluster().put(input);
            steer(server, scratch);
        }
        Task::Backup(session, state) => server.keep_manifest(session, *state),
    }
    true
}
