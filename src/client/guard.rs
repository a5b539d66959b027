//! The lock as a value.

use super::conn::Connection;
use super::error::Error;
use crate::types::FencingToken;
use std::time::Duration;

/// The held lock: made by [`Connection::lock`]. What is appended through it becomes visible, all
/// at once, by [`Guard::release`]. Dropping the guard without that, for example in a panic or by
/// `?`, discards what was appended and gives the lock back; it may block for as long as
/// [`Connection::abort`] does.
///
/// ```no_run
/// # fn main() -> Result<(), baton::Error> {
/// let mut connection = baton::Connection::connect("localhost:10000")?;
/// let mut guard = connection.lock()?;
/// guard.append("file_0", "both lines\n")?;
/// guard.append("file_0", "or none\n")?;
/// guard.release()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the guard gives the lock back at once"]
#[derive(Debug)]
pub struct Guard<'a> {
    connection: &'a mut Connection,
    token: FencingToken,
    is_given_back: bool,
}

impl<'a> Guard<'a> {
    pub(super) fn new(connection: &'a mut Connection, token: FencingToken) -> Self {
        Guard { connection, token, is_given_back: false }
    }

    /// Stages bytes for a file: see [`Connection::append`].
    pub fn append(&mut self, file: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<(), Error> {
        self.connection.append(file, data)
    }

    /// Renews the lease: see [`Connection::renew`].
    pub fn renew(&mut self) -> Result<(), Error> {
        self.connection.renew()
    }

    /// Publishes what was appended and gives the lock back: see [`Connection::release`]. When
    /// the server declines, what was appended is discarded and the lock given back.
    pub fn release(mut self) -> Result<(), Error> {
        let result = self.connection.release();
        // After a timeout the release may still take effect: nothing may be undone.
        self.is_given_back = matches!(result, Ok(()) | Err(Error::TimedOut));
        result
    }

    /// Discards what was appended and gives the lock back: see [`Connection::abort`].
    pub fn abort(mut self) -> Result<(), Error> {
        self.is_given_back = true;
        self.connection.abort()
    }

    /// The fencing token of this grant: greater than that of every earlier grant.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    /// How long the server surely keeps the lock: see [`Connection::lease_remaining`].
    pub fn lease_remaining(&self) -> Duration {
        self.connection.lease_remaining()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.is_given_back && self.connection.fencing_token() == Some(self.token) {
            // Nobody is left to tell; an abort that does not arrive ends with the lease.
            let _ = self.connection.abort();
        }
    }
}
