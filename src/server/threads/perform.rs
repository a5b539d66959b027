//! What the core says is to be done at once: replies, pages, reads.

use super::Server;
use crate::limits::{NAME_MAX, READ_MAX};
use crate::protocol::inspect::ServerStatus;
use crate::protocol::{Outcome, Reason, Reply};
use crate::server::cluster::driver::Input;
use crate::server::core::{Action, Page, encode_page};
use crate::wire;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::{debug, error};

impl Server {
    pub(super) fn perform(self: &Arc<Self>, action: Action, bytes: &mut Vec<u8>) {
        match action {
            Action::Send { to, reply } => {
                if matches!(reply.outcome, Outcome::Refused { reason: Reason::NoSpace, .. }) {
                    self.tell_shortage();
                }
                self.send(to, &reply, bytes);
            }
            Action::Inspect { to, reply, page } => {
                let page = match page {
                    Page::Whole { next, bytes } => Ok((next, bytes)),
                    Page::Status(status) => Ok((0, encode_page(&self.complete(*status)))),
                    Page::Backup { from } => self.backup_page(reply.session, from),
                };
                let outcome = match &page {
                    Ok((next, page)) => Outcome::Data { length: *next, data: page },
                    Err((status, reason)) => Outcome::Refused { status: *status, reason: *reason },
                };
                self.send(to, &Reply { outcome, ..reply }, bytes);
            }
            // Only the core of a member that leads says so.
            Action::Reform { to, reply, reform } => {
                self.cluster().tell(Input::Reform { to, reply, reform });
            }
            Action::Read { to, reply, file, offset, max } => {
                let mut buffer = [0; READ_MAX];
                let wanted = &mut buffer[..READ_MAX.min(max as usize)];
                match self.store.read(file, offset, wanted) {
                    Ok((read, length)) => {
                        let outcome = Outcome::Data { length, data: &buffer[..read] };
                        self.send(to, &Reply { outcome, ..reply }, bytes);
                    }
                    // No answer: what is there is not known. The client goes on asking.
                    Err(error) => error!(%error, file = %file.name(), "cannot read a data file"),
                }
            }
        }
    }

    /// Adds what the core does not know.
    pub(super) fn complete(&self, mut status: ServerStatus) -> ServerStatus {
        let dir = self.store.dir();
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        status.data_dir = wire::clip(&dir.to_string_lossy(), NAME_MAX).to_owned();
        status.published_bytes = self.store.published_bytes();
        status.log_bytes = self.store.log_bytes();
        status.counters.malformed = self.malformed();
        status
    }

    pub(super) fn malformed(&self) -> u64 {
        self.malformed.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn send(&self, to: SocketAddr, reply: &Reply<'_>, bytes: &mut Vec<u8>) {
        debug!(%to, session = reply.session.0, number = reply.number.0, outcome = ?reply.outcome, "reply");
        wire::encode_reply(reply, bytes);
        if let Err(error) = self.socket.send_to(bytes, to) {
            // As good as lost on the way; the client asks again.
            self.unsent.fetch_add(1, Ordering::Relaxed);
            debug!(%error, %to, "send");
        }
    }
}
