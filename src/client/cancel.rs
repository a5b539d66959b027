//! Ending another thread's wait for the lock.

use super::socket::Socket;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

/// No acquire is under way.
const IDLE: u8 = 0;
/// An acquire is under way.
const WAITING: u8 = 1;
/// An acquire is under way, and shall end.
const CANCELLED: u8 = 2;
/// The connection is about to be closed: no acquire shall wait any more, now or later.
const CLOSING: u8 = 3;

/// Ends a wait for the lock from another thread: see
/// [`Connection::canceller`](crate::Connection::canceller).
#[derive(Clone, Debug)]
pub struct Canceller {
    wait: Arc<Wait>,
    socket: Weak<Socket>,
}

impl Canceller {
    /// Has the acquire that is under way leave the queue and end with
    /// [`Error::WouldBlock`](crate::Error::WouldBlock), unless the lock is granted first. Returns
    /// whether one is under way; if not, nothing happens.
    pub fn cancel(&self) -> bool {
        let order = Ordering::AcqRel;
        let is_first =
            self.wait.0.compare_exchange(WAITING, CANCELLED, order, Ordering::Acquire).is_ok();
        if is_first && let Some(socket) = self.socket.upgrade() {
            socket.wake();
        }
        is_first || self.wait.is_cancelled()
    }

    /// The same, also for every acquire that begins from now on: so that who wants to close the
    /// connection does not wait for those who want to wait on it.
    pub(crate) fn cancel_for_good(&self) {
        let before = self.wait.0.swap(CLOSING, Ordering::AcqRel);
        if before == WAITING
            && let Some(socket) = self.socket.upgrade()
        {
            socket.wake();
        }
    }
}

/// What a connection and its cancellers share.
#[derive(Debug, Default)]
pub(super) struct Wait(AtomicU8);

impl Wait {
    pub(super) fn begin(&self) {
        let order = Ordering::AcqRel;
        // Otherwise it is closing, and stays so.
        let _ = self.0.compare_exchange(IDLE, WAITING, order, Ordering::Acquire);
    }

    pub(super) fn end(&self) {
        let end = |state| (state != CLOSING).then_some(IDLE);
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, end);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self.0.load(Ordering::Acquire), CANCELLED | CLOSING)
    }

    pub(super) fn canceller(self: &Arc<Self>, socket: Weak<Socket>) -> Canceller {
        Canceller { wait: Arc::clone(self), socket }
    }
}
