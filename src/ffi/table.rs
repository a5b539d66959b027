//! Which connection a `rpc_conn_t` means: found by its socket and client id among those that this
//! process opened. Nothing that C programs can overwrite or copy is ever followed as a pointer.
//!
//! **Fork.** A child has a copy of its parent's memory, and with it of locks that a thread of the
//! parent may have held at that moment, which nobody in the child will ever release. So each
//! process has a table of its own, and the way to it takes no lock: tables are chained in a list
//! that only grows, by one for each generation of processes that uses the library, and the last
//! one is this process's if it has its id.

use crate::client::{Canceller, Connection, Error, LeaseView};
use once_cell::race::OnceBox;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::process;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Socket and client id.
pub(super) type Key = (c_int, c_int);

/// An open connection.
pub(super) struct Entry {
    connection: Mutex<Connection>,
    /// The lock as this connection sees it, for callers that must not wait for a call under way.
    pub(super) lease: Arc<LeaseView>,
    /// Ends a call that waits for the lock.
    pub(super) canceller: Canceller,
    message: Mutex<String>,
}

struct Table {
    pid: u32,
    entries: RwLock<BTreeMap<Key, Arc<Entry>>>,
    /// The table of a child that was forked from this process.
    next: OnceBox<Table>,
}

static FIRST: OnceBox<Table> = OnceBox::new();

/// The table of this process.
fn table() -> &'static Table {
    let pid = process::id();
    let own = || Box::new(Table { pid, entries: RwLock::default(), next: OnceBox::new() });
    let mut last = FIRST.get_or_init(own);
    loop {
        last = match last.next.get() {
            Some(next) => next,
            None if last.pid == pid => return last,
            None => last.next.get_or_init(own),
        };
    }
}

/// The open connection of that socket and client id, if this process opened it.
pub(super) fn find(key: Key) -> Option<Arc<Entry>> {
    let entries = table().entries.read().unwrap_or_else(PoisonError::into_inner);
    entries.get(&key).cloned()
}

/// Enters a connection.
pub(super) fn insert(connection: Connection) -> Key {
    let key = (connection.socket_fd(), connection.client_id());
    let entry = Arc::new(Entry {
        lease: connection.watch(),
        canceller: connection.canceller(),
        message: Mutex::new(connection.last_message().to_string()),
        connection: Mutex::new(connection),
    });
    let mut entries = table().entries.write().unwrap_or_else(PoisonError::into_inner);
    // A connection still under this key had its socket closed behind the library's back; dropping
    // it would close that descriptor again, which now is the new connection's.
    std::mem::forget(entries.insert(key, entry));
    key
}

/// Takes a connection out, so that nobody finds it any more.
pub(super) fn remove(key: Key) -> Option<Arc<Entry>> {
    table().entries.write().unwrap_or_else(PoisonError::into_inner).remove(&key)
}

impl Entry {
    /// Runs a call on the connection; a second thread's call waits until the first has returned.
    /// `after` runs while the connection is still locked.
    pub(super) fn call(
        &self,
        body: impl FnOnce(&mut Connection) -> Result<(), Error>,
        after: impl FnOnce(&Connection),
    ) -> Result<(), Error> {
        let Ok(mut connection) = self.connection.lock() else {
            return Err(Error::Internal("an earlier call failed half-way".into()));
        };
        let outcome = body(&mut connection);
        if matches!(outcome, Ok(()) | Err(Error::LeaseExpired)) {
            self.set_message(connection.last_message());
        }
        after(&connection);
        outcome
    }

    /// What the newest call on this connection said.
    pub(super) fn message(&self) -> String {
        self.message.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what a call said.
    pub(super) fn set_message(&self, text: &str) {
        let mut message = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        message.clear();
        message.push_str(text);
    }
}
