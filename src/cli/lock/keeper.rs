//! The keeper: a thread that has the connection. It acquires the lock, renews its lease until it
//! is told to give the lock back, and says what happened.

use super::lease::SharedLease;
use crate::client::clock::now_us;
use crate::client::{Canceller, Connection, Error};
use crate::types::FencingToken;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The lease is renewed when this part of it has passed...
const RENEW_PART: u64 = 3;
/// ... or after this time of a long lease: there is only one holder at a time, so it costs the server
/// next to nothing, and an operator who takes the lock away need not wait for the command's end.
const RENEW_MAX: Duration = Duration::from_millis(500);
/// How soon to try again to renew when the server declined, in parts of the lease.
const RETRY_PART: u64 = 20;

/// How long to wait for the lock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Patience {
    Forever,
    /// Zero: not at all.
    For(Duration),
}

/// What the keeper has to say.
#[derive(Debug)]
pub(super) enum News {
    Granted(FencingToken),
    /// The lock was not acquired.
    Failed(Error),
    /// The lock is lost: the server said so.
    Lost(Error),
    /// The lock was given back, or that failed.
    Released(Result<(), Error>),
}

/// The front's hold on the thread.
pub(super) struct Keeper {
    news: Receiver<News>,
    bell: Arc<EventFd>,
    release: Sender<()>,
    canceller: Arc<Mutex<Option<Canceller>>>,
}

impl Keeper {
    /// Starts the thread, which connects and waits for the lock.
    pub(super) fn start(
        server: String,
        patience: Patience,
        lease: SharedLease,
    ) -> io::Result<Keeper> {
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (news_sender, news) = mpsc::channel();
        let (release, orders) = mpsc::channel();
        let canceller = Arc::default();
        let work = Work {
            lease,
            news: news_sender,
            bell: Arc::clone(&bell),
            orders,
            canceller: Arc::clone(&canceller),
        };
        thread::Builder::new().name("keeper".into()).spawn(move || work.run(&server, patience))?;
        Ok(Keeper { news, bell, release, canceller })
    }

    /// What happened since the last look.
    pub(super) fn news(&self) -> Option<News> {
        let news = self.news.try_recv().ok();
        if news.is_none() {
            // Nothing to read is not a failure.
            let _ = self.bell.read();
        }
        news
    }

    /// Has the lock given back.
    pub(super) fn release(&self) {
        // Whoever has ended has lost the lock already.
        let _ = self.release.send(());
    }

    /// Ends the wait for the lock.
    pub(super) fn cancel(&self) {
        let canceller = self.canceller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(canceller) = &*canceller {
            canceller.cancel();
        }
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The thread's side.
struct Work {
    lease: SharedLease,
    news: Sender<News>,
    bell: Arc<EventFd>,
    orders: Receiver<()>,
    canceller: Arc<Mutex<Option<Canceller>>>,
}

impl Work {
    fn run(self, server: &str, patience: Patience) {
        let mut connection = match self.acquire(server, patience) {
            Ok(connection) => connection,
            Err(error) => return self.tell(News::Failed(error)),
        };
        if let Err(error) = self.keep(&mut connection) {
            self.lease.lose();
            self.tell(News::Lost(error));
            return drop(connection.close());
        }
        let released = connection.release();
        // The lock is what counts; a session that is not closed ends by itself.
        let _ = connection.close();
        self.tell(News::Released(released));
    }

    fn acquire(&self, server: &str, patience: Patience) -> Result<Connection, Error> {
        let mut connection = Connection::connect(server)?;
        *self.canceller.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(connection.canceller());
        let acquired = match patience {
            Patience::Forever => connection.acquire(),
            Patience::For(time) => connection.acquire_timeout(time),
        };
        match acquired {
            Ok(token) => {
                self.note_lease(&connection);
                self.tell(News::Granted(token));
                Ok(connection)
            }
            Err(error) => {
                // Nothing is held, so this is for the server's memory only.
                let _ = connection.close();
                Err(error)
            }
        }
    }

    /// Renews the lease until the lock is to be given back.
    fn keep(&self, connection: &mut Connection) -> Result<(), Error> {
        let mut part = RENEW_PART;
        loop {
            let length = Duration::from_micros(self.lease.schedule().length_us());
            match self.orders.recv_timeout((length / part as u32).min(RENEW_MAX)) {
                Err(RecvTimeoutError::Timeout) => {}
                // The front is gone with the whole process, or wants the lock given back.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            match connection.renew() {
                Ok(()) => {
                    self.note_lease(connection);
                    part = RENEW_PART;
                }
                Err(
                    error @ (Error::LeaseExpired
                    | Error::NotHolder
                    | Error::SessionLost
                    | Error::NotOpen),
                ) => return Err(error),
                // Silence, or a server in trouble: the lease is what decides.
                Err(_) => part = RETRY_PART,
            }
        }
    }

    fn note_lease(&self, connection: &Connection) {
        let lease = connection.watch();
        if let Some(deadline) = lease.token().and_then(|token| lease.deadline_us(token)) {
            self.lease.extend(deadline, now_us());
        }
    }

    fn tell(&self, news: News) {
        // The front outlives this thread, and its counter never overflows.
        let _ = self.news.send(news);
        let _ = self.bell.write(1);
    }
}
