//! The threads that keep the journal and apply what is committed.

use super::{CHECKPOINT_BYTES, Due, Input, fetch};
use crate::engine::cluster::journal::Checkpoint;
use crate::engine::cluster::node::{Committed, What};
use crate::engine::cluster::replica::Replica;
use crate::engine::solo::Ending;
use crate::machine::Part;
use crate::server::core::Core;
use crate::server::threads::{Scratch, Server};
use raft::eraftpb::Message;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tracing::{error, info, warn};

/// How often writing is tried again on a full disk.
const RETRY: Duration = Duration::from_millis(100);

/// The life of the journal's thread.
pub(in crate::server) fn keep_journal(server: &Arc<Server>) {
    let cluster = server.cluster();
    while let Some(batches) = cluster.journal.take() {
        for mut batch in batches {
            if !until_done(server, || server.store().save(&mut batch)) {
                return;
            }
            server.look_at_room_if_due();
            cluster.tell(Input::Saved(batch));
        }
    }
}

/// Does it again until there is room for it; says whether that came. A disk that fails otherwise
/// ends the process: what this member has promised the others cannot be kept any more.
pub(super) fn until_done(server: &Arc<Server>, mut work: impl FnMut() -> Ending) -> bool {
    loop {
        match work() {
            Ending::Done => return true,
            Ending::Full if server.is_stopping() => return false,
            Ending::Full => thread::sleep(RETRY),
            Ending::Failed => {
                error!("this server stops, the others go on; check the disk, then restart");
                std::process::exit(1);
            }
        }
    }
}

/// Applies what is committed.
pub(in crate::server) struct Applier {
    server: Arc<Server>,
    replica: Replica,
    files: u32,
    /// The term for which a core was begun, and its commands applied since.
    begun: (u64, u64),
    /// Bytes applied since the last checkpoint.
    bytes: u64,
    scratch: Scratch,
}

impl Applier {
    pub(in crate::server) fn new(server: &Arc<Server>, replica: Replica, files: u32) -> Self {
        let (server, scratch) = (Arc::clone(server), Scratch::new());
        Applier { server, replica, files, begun: (0, 0), bytes: 0, scratch }
    }

    /// The life of the thread.
    pub(in crate::server) fn run(mut self) {
        let server = Arc::clone(&self.server);
        while let Some(due) = server.cluster().due.take() {
            for due in due {
                let goes_on = match due {
                    Due::Entries(entries, term) => self.apply(&entries, term),
                    Due::State(message, checkpoint) => self.take_over(message, checkpoint),
                };
                if !goes_on {
                    return;
                }
            }
            self.cut_if_due();
        }
    }

    /// Says whether to go on.
    fn apply(&mut self, entries: &[Committed], term: u64) -> bool {
        let server = Arc::clone(&self.server);
        let mut parts: Vec<Part> = Vec::new();
        for entry in entries {
            if let Err(why) = self.replica.apply(entry, &mut parts) {
                error!(index = entry.index, why, "a committed entry cannot be applied");
                std::process::abort();
            }
            match &entry.what {
                What::Command(bytes) => {
                    self.bytes += bytes.len() as u64 + 64;
                    if self.begun.0 == entry.term {
                        self.begun.1 += 1;
                    }
                }
                What::Start if entry.term == term && self.begun.0 != term => {
                    self.begin_to_lead(term);
                }
                _ => {}
            }
        }
        if self.replica.machine.files() > self.files {
            error!(
                files = self.replica.machine.files(),
                "the leader has more data files than --files gives here: start all servers of a \
                 cluster with the same number"
            );
            std::process::exit(1);
        }
        let mut parts = VecDeque::from(parts);
        if !until_done(&server, || server.store().publish(&mut parts)) {
            return false;
        }
        let (begun, count) = self.begun;
        if count > 0 {
            server.change_core(&mut self.scratch, |core, now, actions| {
                core.handle_applied(begun, count, now, actions);
            });
        }
        server.cluster().tell(Input::Applied(self.replica.index));
        true
    }

    /// Takes over the state of another member, and what it lacks of the data files. Says whether to
    /// go on.
    fn take_over(&mut self, message: Message, checkpoint: Box<Checkpoint>) -> bool {
        let server = Arc::clone(&self.server);
        let cluster = server.cluster();
        // An older checkpoint must not be written after this one.
        while cluster.is_cutting.swap(true, Ordering::AcqRel) {
            if server.is_stopping() {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        match fetch::fetch(&server, message.from, &self.replica.files, &checkpoint.files) {
            Ok(()) => {
                self.replica = Replica::new((*checkpoint).clone());
                (self.begun, self.bytes) = ((0, 0), 0);
                cluster.tell(Input::Fetched(message, checkpoint));
            }
            Err(error) => {
                // The leader offers its state again.
                warn!(%error, from = message.from, "cannot take over a state");
                let sizes = self.replica.files.iter().map(|mark| mark.size).collect();
                if let Err(error) = server.store().cut_back(sizes) {
                    error!(%error, "cannot cut the data files back");
                    std::process::exit(1);
                }
                cluster.is_cutting.store(false, Ordering::Release);
                cluster.is_taking_over.store(false, Ordering::Release);
            }
        }
        true
    }

    /// All that others have committed is applied: this member serves clients from here on.
    fn begin_to_lead(&mut self, term: u64) {
        let server = Arc::clone(&self.server);
        self.begun = (term, 0);
        let machine = self.replica.machine.clone();
        let published = self.replica.files.iter().map(|mark| mark.size).sum();
        let files = self.files;
        let mut old = None;
        server.change_core(&mut self.scratch, |core, now, actions| {
            // It may lead no more.
            if server.cluster().leading.load(Ordering::Acquire) == term {
                let mut leading = Core::leading(*core.settings(), machine, term, now);
                leading.handle_published(published);
                old = Some(core.replace(leading));
                core.boot(files, now, actions);
            }
        });
        info!(term, index = self.replica.index, "serves clients");
    }

    /// Has a checkpoint made when enough has been applied since the last.
    fn cut_if_due(&mut self) {
        let cluster = self.server.cluster();
        if self.bytes >= CHECKPOINT_BYTES && !cluster.is_cutting.swap(true, Ordering::AcqRel) {
            self.bytes = 0;
            cluster.tell(Input::Cut(Box::new(self.replica.checkpoint())));
        }
    }
}
