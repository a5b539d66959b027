//! What request threads do for the disk now and then: they look at the room on it, and have
//! checkpoints made.

use super::Server;
use crate::engine::solo::Flush;
use crate::server::store::Due;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tracing::{error, warn};

/// The disk is looked at this often while it has plenty of room, in milliseconds, ...
const ROOM_EVERY_MS: u64 = 500;
/// ... and with every request when it has less than this, in bytes.
const ROOM_LOW: u64 = 64 << 20;
/// While it has, a checkpoint is begun this often at most, ...
const CHECKPOINT_EVERY_MS: u64 = 500;
/// ... and this long after one for which there was no room. Want of room is told this often, too.
const SHORTAGE_EVERY_MS: u64 = 10_000;
/// A sync rests for twice the time that the last one took, but no longer than this.
const REST_MAX: Duration = Duration::from_micros(500);

impl Server {
    pub(in crate::server) fn look_at_room_if_due(&self) {
        let now = self.clock.now().steady.0;
        if now.saturating_sub(self.room_seen_ms.load(Ordering::Relaxed)) >= ROOM_EVERY_MS {
            self.look_at_room();
        }
    }

    /// There is less room on the disk than is to be left there.
    pub(in crate::server) fn is_short_of_room(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    pub(super) fn look_at_room(&self) {
        self.room_seen_ms.store(self.clock.now().steady.0, Ordering::Relaxed);
        let room = self.store.room();
        let low = ROOM_LOW.saturating_add(self.disk_floor.load(Ordering::Relaxed));
        self.room_low.store(room < low, Ordering::Relaxed);
        self.core.lock().handle_room(room);
        self.is_short.store(room < self.disk_floor.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Lets a sync that is about to begin cover more. While many wait for the lock it also rests a
    /// little: each sync costs the processor about as much as a section, and whoever is answered
    /// later would only have waited in the queue instead.
    pub(super) fn gather(&self, flush: &mut Flush) {
        if !flush.needs_sync {
            return;
        }
        if self.core.lock().is_crowded() {
            thread::sleep((self.store.last_sync() * 2).min(REST_MAX));
        }
        self.core.lock().widen(flush);
    }

    /// Says, now and then, that requests are refused for want of room.
    pub(super) fn tell_shortage(&self) {
        // Ahead of the clock, so that the first time is told however early it is.
        let now = self.clock.now().steady.0 + SHORTAGE_EVERY_MS;
        let told = self.shortage_told_ms.load(Ordering::Relaxed);
        if now.saturating_sub(told) >= SHORTAGE_EVERY_MS {
            self.shortage_told_ms.store(now, Ordering::Relaxed);
            warn!(free = self.store.room(), "the disk is full: refusing what needs room on it");
        }
    }

    /// Has a checkpoint made on a thread of its own, while requests go on.
    pub(super) fn checkpoint_if_due(self: &Arc<Self>) {
        let now = self.clock.now().steady.0;
        if self.cluster.is_some() || now < self.checkpoint_from_ms.load(Ordering::Relaxed) {
            return;
        }
        let published = self.core.lock().engine().marks().published;
        let is_low = self.room_low.load(Ordering::Relaxed);
        if is_low {
            self.checkpoint_from_ms.store(now + CHECKPOINT_EVERY_MS, Ordering::Relaxed);
        }
        match self.store.begin_checkpoint(published, is_low) {
            Due::Not => return,
            Due::OncePublished => return self.core.lock().settle(),
            Due::Now => {}
        }
        if let Err(error) = self.spawn("checkpoint", Self::checkpoint) {
            self.store.end_checkpoint();
            warn!(%error, "cannot start a thread for a checkpoint: the log grows");
        }
    }

    fn checkpoint(self: &Arc<Self>) {
        let published = self.core.lock().engine().marks().published;
        match self.store.checkpoint(published) {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                let again = self.clock.now().steady.0 + SHORTAGE_EVERY_MS;
                self.checkpoint_from_ms.store(again, Ordering::Relaxed);
                warn!(%error, "no room for a checkpoint");
            }
            Err(error) => {
                error!(%error, "cannot make a checkpoint: nothing is acknowledged any more; \
                    check the disk, then restart");
                self.core.lock().fail();
            }
        }
        self.store.end_checkpoint();
    }
}
