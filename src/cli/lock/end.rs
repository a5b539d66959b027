//! How `baton lock` ends, and what it says then.

use super::say;
use crate::cli::exit::Exit;
use crate::client::Error;
use nix::sys::signal::Signal;

/// How `baton lock` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Status(u8),
    /// By this signal, as if it had not been caught.
    Signal(Signal),
}

/// The exit status once the lock was given back, or not.
pub(super) fn after_release(status: u8, result: &Result<(), Error>) -> u8 {
    match result {
        Ok(()) => status,
        Err(error @ (Error::LeaseExpired | Error::NotHolder | Error::SessionLost)) => {
            say(&format!("the lock was lost before the command ended ({error})"));
            Exit::Temporary as u8
        }
        Err(error) => {
            say(&format!("the lock was not given back ({error}); it is free after its lease"));
            status
        }
    }
}
