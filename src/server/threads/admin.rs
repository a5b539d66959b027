//! What the server does for its operator, beside serving: settings that change while it runs, and
//! looks at itself. A look takes the core's lock for microseconds, however much there is to see.

use super::{Lingers, Scratch, Server, lock};
use crate::json::View;
use crate::protocol::inspect::{Record, ServerStatus};
use crate::server::cluster::{Cluster, Membership};
use crate::server::core::{Limits, Settings};
use crate::server::meter::{Histogram, Meter};
use crate::types::{FileId, LogIndex};
use crate::wire::Malformed;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// The part of a document, in bytes, that is made in one critical section.
const PART: usize = 4 << 10;
/// How often, and how far apart, it is looked whether the history is stable by now.
const LOOKS: u32 = 50;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Everything that is measured or counted, at one moment.
pub struct Snapshot {
    pub addr: Option<SocketAddr>,
    pub status: ServerStatus,
    pub limits: Limits,
    /// Records that the history keeps; in a cluster what its leader has set.
    pub records_limit: u32,
    pub meter: Meter,
    pub syncs: Histogram,
    /// By the numbers of [`Malformed`].
    pub malformed: [u64; Malformed::ALL.len()],
    pub unsent: u64,
    pub threads: usize,
    pub checkpointed: u64,
    /// In a cluster.
    pub cluster: Option<Membership>,
    pub health: Health,
}

/// Whether the server can do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// It refuses what needs room on the disk.
    Full,
    /// It is a member of a cluster that has no leader, as far as it knows.
    Leaderless,
    /// It acknowledges nothing any more.
    Failed,
    Stopping,
}

/// The newest record at some moment, and the log's end and epoch then.
#[derive(Clone, Copy, Debug)]
struct Seen {
    newest: u64,
    index: LogIndex,
    epoch: u64,
}

/// What is remembered of looks at the history.
#[derive(Debug, Default)]
pub(super) struct Shown {
    stable: Option<Seen>,
    /// Stable as soon as the log is up to there.
    later: Option<Seen>,
}

/// A part of the history.
pub struct Records {
    pub oldest: u64,
    pub newest: u64,
    pub records: Vec<Record>,
}

/// The end of a data file.
pub struct Tail {
    pub size: u64,
    pub bytes: Vec<u8>,
}

impl Server {
    /// Puts other settings into force.
    pub fn apply(self: &Arc<Self>, settings: Settings) {
        let mut actions = Vec::new();
        let now = {
            let mut core = self.core.lock();
            let now = self.clock.now();
            core.handle_settings(settings, now, &mut actions);
            now
        };
        let mut bytes = Vec::new();
        actions.into_iter().for_each(|action| self.perform(action, &mut bytes));
        // What is to be written for it is for the thread that keeps the deadlines: this one answers to
        // the service manager, and does not wait for the disk.
        self.alarm.arm(now.steady);
        self.disk_floor.store(settings.limits.disk_floor, Ordering::Relaxed);
        self.look_at_room();
    }

    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        // Nobody has looked while nobody asked for anything.
        self.look_at_room_if_due();
        let cluster = self.cluster.as_ref().map(Cluster::membership);
        let is_leaderless = cluster.as_ref().is_some_and(|one| one.role.leader == 0);
        let (status, limits, records_limit, meter, health) = {
            let core = self.core.lock();
            let now = self.clock.now();
            let health = match () {
                () if core.engine().has_failed() => Health::Failed,
                () if self.is_stopping.load(Ordering::Relaxed) => Health::Stopping,
                () if core.is_short_of_room() => Health::Full,
                () if is_leaderless => Health::Leaderless,
                () => Health::Good,
            };
            let records = core.machine().history().limit();
            (core.status(now), *core.limits(), records, core.meter().clone(), health)
        };
        Snapshot {
            addr: self.socket.local_addr().ok(),
            status: self.complete(status),
            limits,
            records_limit,
            meter,
            syncs: self.store.syncs(),
            malformed: std::array::from_fn(|at| self.malformed[at].load(Ordering::Relaxed)),
            unsent: self.unsent.load(Ordering::Relaxed),
            threads: *lock(&self.running),
            checkpointed: self.store.checkpointed(),
            cluster,
            health,
        }
    }

    /// Who holds the lock, the first of those who wait, and how many wait in all.
    pub fn view(&self, most: usize) -> (View, u64) {
        let look = |from| {
            let core = self.core.lock();
            core.lock_view(from, self.clock.now(), PART)
        };
        let (first, mut next) = look(0);
        let waiting = first.waiting;
        let mut view = View { now_ms: first.now_ms, holder: first.holder, waiters: first.waiters };
        while next > 0 && view.waiters.len() < most {
            let (more, after) = look(next);
            view.waiters.extend(more.waiters);
            next = after;
        }
        view.waiters.truncate(most);
        (view, waiting)
    }

    /// Records from this number on, or the last ones, as far as they are stable: what was shown, no
    /// crash may take back. None while it is not known of any.
    pub fn records(self: &Arc<Self>, from: Option<u64>, most: usize) -> Option<Records> {
        let look = |from| {
            let core = self.core.lock();
            (core.history_view(from, PART), core.engine().last(), core.machine().epoch())
        };
        let ((page, _), index, epoch) = look(u64::MAX);
        // What is recorded while this looks is for the next time.
        let newest = self.stable_record(Seen { newest: page.newest, index, epoch })?;
        let last = (newest + 1).saturating_sub(most as u64);
        let mut next = from.unwrap_or(last).max(page.oldest).max(1);
        let mut records = Vec::new();
        while next <= newest && records.len() < most {
            let ((page, after), _, now) = look(next);
            if now != epoch {
                return None;
            }
            records.extend(page.records.into_iter().filter(|record| record.number <= newest));
            next = after;
        }
        records.truncate(most);
        Some(Records { oldest: page.oldest, newest, records })
    }

    /// The newest record that is known to be stable. While sections end on a slow disk that is never
    /// the newest there is, but one that was seen earlier.
    fn stable_record(self: &Arc<Self>, now: Seen) -> Option<u64> {
        let is_stable = self.is_stable(now.index);
        let published = self.core.lock().engine().marks().published;
        let mut shown = lock(&self.shown);
        // Another leader may have other records under these numbers.
        shown.stable = shown.stable.filter(|one| one.epoch == now.epoch);
        shown.later = shown.later.filter(|one| one.epoch == now.epoch);
        if is_stable {
            *shown = Shown { stable: Some(now), later: None };
        } else {
            if shown.later.is_some_and(|one| one.index <= published) {
                shown.stable = shown.later.take();
            }
            shown.later.get_or_insert(now);
        }
        shown.stable.map(|one| one.newest)
    }

    /// Waits a little until the log is stable up to there. Others see to it as long as sections
    /// end; otherwise this does.
    fn is_stable(self: &Arc<Self>, index: LogIndex) -> bool {
        let published = || self.core.lock().engine().marks().published >= index;
        for look in 0..LOOKS {
            if published() {
                return true;
            }
            if look == LOOKS / 2 {
                self.work(&mut Scratch::new(Lingers::Never), |core, _, _| core.settle());
            }
            thread::sleep(LOOK_EVERY);
        }
        published()
    }

    /// Names and published lengths of the data files.
    pub fn files(&self) -> Vec<(String, u64)> {
        (0..).map(|id| FileId(id).name()).zip(self.store.sizes()).collect()
    }

    /// The last published bytes of a file, at most so many; none where there is no such file.
    pub fn tail(&self, name: &str, most: usize) -> io::Result<Option<Tail>> {
        let files = self.store.sizes().len() as u32;
        let Some(file) = FileId::from_name(name.as_bytes(), files) else { return Ok(None) };
        let mut bytes = vec![0; most];
        let size = self.store.read(file, 0, &mut [])?.1;
        let (read, _) = self.store.read(file, size.saturating_sub(most as u64), &mut bytes)?;
        bytes.truncate(read.min(size as usize));
        Ok(Some(Tail { size, bytes }))
    }
}
