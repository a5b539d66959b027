//! What operators do with a connection: look at the server, and take the lock away.

use super::call::{Answer, Call, Source};
use super::conn::Connection;
use super::error::Error;
use crate::limits::{MANIFEST_MAX, PEER_ADDR_MAX, REASON_TEXT_MAX};
use crate::protocol::inspect::{HistoryPage, LockPage, ServerStatus, What};
use crate::protocol::{Reason, Reform};
use crate::types::{FencingToken, Ticket};
use serde::de::DeserializeOwned;
use std::thread;
use std::time::{Duration, Instant};

/// How long a manifest may take to be made and fetched: it is made from a log of some 100 MB at most.
const MANIFEST_PATIENCE: Duration = Duration::from_secs(120);
/// It is asked for again after this time.
const MANIFEST_PAUSE: Duration = Duration::from_millis(10);

impl Connection {
    /// How the server is.
    pub fn server_status(&mut self) -> Result<ServerStatus, Error> {
        self.page(What::Status, 0).map(|(status, _)| status)
    }

    /// Who waits for the lock, from a ticket on; from ticket 0 also who holds it. The second
    /// value is the ticket from which the next page goes on, if there is one. Pages are taken one
    /// after the other while the queue moves: nobody shows twice, but who came or left meanwhile
    /// may show or not.
    pub fn lock_page(&mut self, from: Ticket) -> Result<(LockPage, Option<Ticket>), Error> {
        let (page, next) = self.page(What::Lock, from.0)?;
        Ok((page, (next > 0).then_some(Ticket(next))))
    }

    /// What has happened to the lock, from a record's number on or the oldest that is kept. The
    /// second value is the number from which the next page goes on, whether or not that record
    /// exists already. What is told here no crash of the server takes back.
    pub fn history_page(&mut self, from: u64) -> Result<(HistoryPage, u64), Error> {
        self.page(What::History, from)
    }

    /// Takes the lock away from whoever holds it under `token`, for everybody to read why; the
    /// section is discarded. The holder's next call gives [`Error::LeaseExpired`].
    ///
    /// # Errors
    /// [`Error::Refused`] when nobody holds the lock under that token,
    /// [`Error::InvalidArgument`] when the reason is longer than 200 bytes.
    pub fn revoke(&mut self, token: FencingToken, reason: &str) -> Result<(), Error> {
        if reason.len() > REASON_TEXT_MAX {
            return Err(Error::InvalidArgument(format!(
                "a reason may have {REASON_TEXT_MAX} bytes, this one has {}",
                reason.len()
            )));
        }
        self.run(Call::Revoke { token, reason }).map(drop)
    }

    /// Asks the leader of a cluster to change it. `Ok` says that the change is under way or made;
    /// [`survey`](super::survey::survey) tells when it is committed. A change that was asked for
    /// may be asked for again, and may have to be: a leader that dies takes with it what is not
    /// committed.
    ///
    /// # Errors
    /// [`Error::Refused`] says what stands in the way.
    pub fn reform(&mut self, reform: &Reform) -> Result<(), Error> {
        if let Reform::Add { addr, .. } = reform
            && (addr.is_empty() || addr.len() > PEER_ADDR_MAX)
        {
            return Err(Error::InvalidArgument(format!(
                "an address has 1 to {PEER_ADDR_MAX} bytes, this one {}",
                addr.len()
            )));
        }
        self.run(Call::Reform(reform)).map(drop)
    }

    /// Has the server make the manifest of a backup (docs/DISK.md), and fetches it. All that was
    /// released before is in it. The data files, up to the sizes in it, are for the caller to
    /// [read](Connection::read).
    ///
    /// # Errors
    /// [`Error::Refused`] when another backup is being made, or the server could not make one.
    pub fn backup_manifest(&mut self) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + MANIFEST_PATIENCE;
        loop {
            let length = match self.run(Call::Inspect { what: What::Backup, from: 0 }) {
                Ok(Answer::Page { next }) => next,
                Ok(other) => {
                    return Err(Error::Internal(format!("a look was answered by {other:?}")));
                }
                Err(Error::Refused(Reason::BackupUnderWay)) if Instant::now() < deadline => 0,
                Err(error) => return Err(error),
            };
            if length > MANIFEST_MAX {
                return Err(Error::Internal(
                    "the server's manifest is longer than any may be".into(),
                ));
            }
            let mut bytes = vec![0; length as usize];
            match self.fetch(Source::Manifest, 0, &mut bytes) {
                _ if length == 0 => {}
                Ok(read) if read == bytes.len() => {
                    // The server need not keep it any longer; without being told it does for a while.
                    let _ = self.run(Call::Inspect { what: What::Backup, from: length });
                    return Ok(bytes);
                }
                // Another server leads now, and makes one of its own.
                Ok(_) | Err(Error::InvalidArgument(_)) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(Error::Unavailable);
            }
            thread::sleep(MANIFEST_PAUSE);
        }
    }

    fn page<T: DeserializeOwned>(&mut self, what: What, from: u64) -> Result<(T, u64), Error> {
        let Answer::Page { next } = self.run(Call::Inspect { what, from })? else {
            return Err(Error::Internal("a look at the server brought no page".into()));
        };
        match postcard::from_bytes(self.read_data()) {
            Ok(page) => Ok((page, next)),
            Err(error) => Err(Error::Internal(format!(
                "the server's page cannot be read ({error}): is it of another version?"
            ))),
        }
    }
}
