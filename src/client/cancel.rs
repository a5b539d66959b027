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
}

/// What a connection and its cancellers share.
#[derive(Debug, Default)]
pub(super) struct Wait(AtomicU8);

impl Wait {
    pub(super) fn begin(&self) {
        self.0.store(WAITING, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.0.store(IDLE, Ordering::Release);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
    }

    pub(super) fn canceller(self: &Arc<Self>, socket: Weak<Socket>) -> Canceller {
        Canceller { wait: Arc::clone(self), socket }
    }
}
