//! Backups on the server's side: the manifest is made when a client asks for it, and kept in memory
//! while it is fetched. The data files only grow, so their beginnings can be read at any time. One at
//! a time: the next is made when it was fetched, or nothing of it for a while.
//!
//! What was released before the client asked is in it, and nothing that is not published.

pub mod manifest;

use super::threads::{Lingers, Scratch, Server, lock};
use crate::engine::State;
use crate::limits::READ_MAX;
use crate::protocol::{Reason, Status};
use crate::types::{LogIndex, Millis, SessionId};
use manifest::Manifest;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tracing::{error, info, warn};

/// The manifest that is kept, or is being made.
#[derive(Debug, Default)]
pub struct Backups(Mutex<Option<Backup>>);

#[derive(Debug)]
struct Backup {
    session: SessionId,
    /// When the session asked last.
    heard: Millis,
    manifest: Made,
}

#[derive(Debug)]
enum Made {
    NotYet,
    Done(Vec<u8>),
    Failed,
}

/// Bytes of the manifest and how many there are in all, or why there are none.
type Page = Result<(u64, Vec<u8>), (Status, Reason)>;

impl Backups {
    /// A page for a session that makes a backup: nothing as long as there is no manifest. `make` is
    /// called if one is to be made now.
    fn page(&self, session: SessionId, from: u64, now: Millis, make: impl FnOnce()) -> Page {
        let mut slot = lock(&self.0);
        if let Some(backup) = slot.as_mut().filter(|backup| backup.session == session) {
            backup.heard = now;
            return match &backup.manifest {
                Made::NotYet => Ok((0, Vec::new())),
                Made::Done(bytes) if from < bytes.len() as u64 => {
                    Ok((bytes.len() as u64, piece(bytes, from).to_vec()))
                }
                // The client has it all.
                Made::Done(bytes) => {
                    let length = bytes.len() as u64;
                    *slot = None;
                    Ok((length, Vec::new()))
                }
                Made::Failed => {
                    // Asked again, it is tried again.
                    *slot = None;
                    Err((Status::Refused, Reason::NoBackup))
                }
            };
        }
        if slot.as_ref().is_some_and(|backup| backup.is_in_use(now)) {
            return Err((Status::Refused, Reason::BackupUnderWay));
        }
        if from > 0 {
            // It is that of another server, or was given up: the client begins anew.
            return Err((Status::InvalidArgument, Reason::None));
        }
        *slot = Some(Backup { session, heard: now, manifest: Made::NotYet });
        drop(slot);
        make();
        Ok((0, Vec::new()))
    }

    fn keep(&self, session: SessionId, made: Made) {
        if let Some(backup) = lock(&self.0).as_mut().filter(|backup| backup.session == session) {
            backup.manifest = made;
        }
    }
}

impl Backup {
    fn is_in_use(&self, now: Millis) -> bool {
        matches!(self.manifest, Made::NotYet) || self.heard.0 + IDLE_MS > now.0
    }
}

fn piece(bytes: &[u8], from: u64) -> &[u8] {
    let rest = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    &rest[..rest.len().min(READ_MAX)]
}

impl Server {
    /// The answer to a session that wants a manifest.
    pub(super) fn backup_page(self: &Arc<Self>, session: SessionId, from: u64) -> Page {
        self.backups().page(session, from, self.now().steady, || {
            if self.is_member() {
                return self.cluster().back_up(session);
            }
            if let Err(error) = self.spawn("backup", move |server| server.make_manifest(session)) {
                warn!(%error, "cannot start a thread for a backup");
                self.backups().keep(session, Made::Failed);
            }
        })
    }

    /// Has what there is so far made stable and published, and says up to where all is: not to the
    /// end where the disk does not let it.
    fn settled(self: &Arc<Self>) -> LogIndex {
        let mut last = LogIndex(0);
        self.change_core(&mut Scratch::new(Lingers::Never), |core, _, _| {
            core.settle();
            last = core.engine().last();
        });
        loop {
            let (published, is_stuck) = self.published();
            if published >= last || is_stuck || self.is_stopping() {
                return published;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Makes the manifest of a server of its own from its checkpoint and log.
    fn make_manifest(self: &Arc<Self>, session: SessionId) {
        while !self.store().begin_reading_log() {
            if self.is_stopping() {
                return;
            }
            thread::sleep(PAUSE);
        }
        let state = self.store().state_at(self.settled());
        self.store().end_checkpoint();
        match state {
            Ok(State { machine, files }) => {
                self.keep_manifest(session, State { machine: machine.backup(), files });
            }
            Err(error) => {
                error!(%error, "cannot read the log for a backup");
                self.backups().keep(session, Made::Failed);
            }
        }
    }

    /// Keeps the manifest for the session that wants it.
    pub(super) fn keep_manifest(&self, session: SessionId, state: State) {
        let made = match Manifest::new(self.now().unix, state).encode() {
            Ok(bytes) => {
                info!(session = session.0, bytes = bytes.len(), "made the manifest of a backup");
                Made::Done(bytes)
            }
            Err(error) => {
                error!(%error, "cannot encode the manifest of a backup");
                Made::Failed
            }
        };
        self.backups().keep(session, made);
    }
}

/// Another session's manifest takes the place of one that was not asked for during this time, in
/// milliseconds.
const IDLE_MS: u64 = 2_000;
/// What is under way is waited for in steps of this.
const PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionId = SessionId(1);
    const TWO: SessionId = SessionId(2);
    const UNDER_WAY: Page = Err((Status::Refused, Reason::BackupUnderWay));

    /// Asks, and says whether a manifest is to be made.
    fn ask(backups: &Backups, session: SessionId, now: u64) -> (Page, bool) {
        let mut is_made = false;
        let page = backups.page(session, 0, Millis(now), || is_made = true);
        (page, is_made)
    }

    fn read(backups: &Backups, session: SessionId, from: u64, now: u64) -> Page {
        backups.page(session, from, Millis(now), || panic!("makes one"))
    }

    #[test]
    fn a_manifest_is_made_once_and_read_in_pieces() {
        let backups = Backups::default();
        let unknown = Err((Status::InvalidArgument, Reason::None));
        assert_eq!(read(&backups, ONE, 1, 0), unknown);
        let nothing = Ok((0, Vec::new()));
        assert_eq!(ask(&backups, ONE, 0), (nothing.clone(), true));
        assert_eq!(ask(&backups, ONE, 1), (nothing.clone(), false));
        assert_eq!(read(&backups, ONE, 1, 1), nothing);
        let bytes: Vec<u8> = (0..READ_MAX + 5).map(|at| at as u8).collect();
        backups.keep(ONE, Made::Done(bytes.clone()));
        let length = bytes.len() as u64;
        assert_eq!(ask(&backups, ONE, 2), (Ok((length, bytes[..READ_MAX].to_vec())), false));
        let tail = bytes[READ_MAX..].to_vec();
        assert_eq!(read(&backups, ONE, READ_MAX as u64, 2), Ok((length, tail)));
        // What is behind its end is asked for by who has it all.
        assert_eq!(read(&backups, ONE, length, 2), Ok((length, Vec::new())));
        assert!(ask(&backups, TWO, 2).1);
    }

    #[test]
    fn one_at_a_time_until_it_is_idle() {
        let backups = Backups::default();
        assert!(ask(&backups, ONE, 0).1);
        // While it is being made it is wanted, however long that takes.
        assert_eq!(ask(&backups, TWO, 10 * IDLE_MS), (UNDER_WAY, false));
        backups.keep(ONE, Made::Done(b"one".into()));
        assert_eq!(ask(&backups, ONE, 10 * IDLE_MS).0, Ok((3, b"one".into())));
        assert_eq!(ask(&backups, TWO, 11 * IDLE_MS - 1), (UNDER_WAY, false));
        assert!(ask(&backups, TWO, 11 * IDLE_MS).1);
        assert_eq!(ask(&backups, ONE, 11 * IDLE_MS), (UNDER_WAY, false));
        // What was made for the first is not for the second.
        backups.keep(ONE, Made::Done(b"one".into()));
        assert_eq!(ask(&backups, TWO, 11 * IDLE_MS).0, Ok((0, Vec::new())));
    }

    #[test]
    fn one_that_could_not_be_made_is_told_once_and_tried_again() {
        let backups = Backups::default();
        assert!(ask(&backups, ONE, 0).1);
        backups.keep(ONE, Made::Failed);
        assert_eq!(ask(&backups, ONE, 1), (Err((Status::Refused, Reason::NoBackup)), false));
        assert!(ask(&backups, ONE, 2).1);
    }
}
