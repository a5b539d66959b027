//! What a call of the client can end with besides success.

use crate::protocol::{Reason, Status};
use std::io;

/// Why a call did not succeed. Each variant is one [`Status`] of the C interface; its text says
/// whether the operation was done, was not done, or has an unknown outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not done: no data file has that name.
    #[error("{}", self.status().text())]
    FileNotFound,
    /// Not done: this connection does not hold the lock.
    #[error("{}", self.status().text())]
    NotHolder,
    /// Not done: the lease ran out while another waited, or an operator took the lock away (the
    /// connection's last message tells which); the section was discarded.
    #[error("{}", self.status().text())]
    LeaseExpired,
    /// Not done: the lock was not free in the time given.
    #[error("{}", self.status().text())]
    WouldBlock,
    /// Outcome unknown: no answer in time. The next call on the connection first finds out.
    #[error("{}", self.status().text())]
    TimedOut,
    /// Not done: no server could be reached.
    #[error("{}", self.status().text())]
    Unavailable,
    /// The server no longer knows this session; what was not published is gone. Only
    /// [`Connection::close`](crate::Connection::close) is left to do.
    #[error("{}", self.status().text())]
    SessionLost,
    /// Not done: the section would grow past the server's limit.
    #[error("{}", self.status().text())]
    TooLarge,
    /// Not done: an argument is malformed or out of range.
    #[error("invalid argument (not done): {0}")]
    InvalidArgument(String),
    /// Not done: the connection is closed, or belongs to another process.
    #[error("{}", self.status().text())]
    NotOpen,
    /// Not done: a system call failed in this process.
    #[error("system error (not done): {0}")]
    System(#[from] io::Error),
    /// Not done: the server declines.
    #[error("refused by the server (not done): {}", .0.text())]
    Refused(Reason),
    /// Outcome unknown: a defect in the library or the server.
    #[error("internal error (outcome unknown): {0}")]
    Internal(String),
}

impl Error {
    /// The number by which C programs know this error.
    pub fn status(&self) -> Status {
        match self {
            Error::FileNotFound => Status::FileNotFound,
            Error::NotHolder => Status::NotHolder,
            Error::LeaseExpired => Status::LeaseExpired,
            Error::WouldBlock => Status::WouldBlock,
            Error::TimedOut => Status::TimedOut,
            Error::Unavailable => Status::Unavailable,
            Error::SessionLost => Status::SessionLost,
            Error::TooLarge => Status::TooLarge,
            Error::InvalidArgument(_) => Status::InvalidArgument,
            Error::NotOpen => Status::NotOpen,
            Error::System(_) => Status::SystemError,
            Error::Refused(_) => Status::Refused,
            Error::Internal(_) => Status::Internal,
        }
    }

    /// The error that a server's refusal means.
    pub(crate) fn from_refusal(status: Status, reason: Reason) -> Error {
        match status {
            Status::FileNotFound => Error::FileNotFound,
            Status::NotHolder => Error::NotHolder,
            Status::LeaseExpired => Error::LeaseExpired,
            Status::WouldBlock => Error::WouldBlock,
            Status::TimedOut => Error::TimedOut,
            Status::Unavailable => Error::Unavailable,
            Status::SessionLost => Error::SessionLost,
            Status::TooLarge => Error::TooLarge,
            Status::InvalidArgument => {
                Error::InvalidArgument("the server does not accept the request".into())
            }
            Status::Refused => Error::Refused(reason),
            Status::Ok | Status::NotOpen | Status::SystemError | Status::Internal => {
                Error::Internal(format!("the server reports: {}", status.text()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_keeps_its_status() {
        for status in Status::ALL {
            let is_for_clients = !matches!(
                status,
                Status::Ok | Status::NotOpen | Status::SystemError | Status::Internal
            );
            let told = Error::from_refusal(status, Reason::NoSpace).status();
            assert_eq!(told, if is_for_clients { status } else { Status::Internal });
        }
    }
}
