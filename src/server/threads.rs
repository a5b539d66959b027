//! One OS thread per request: threads that take turns at the socket, one that keeps the deadlines.

mod admin;
mod alarm;
pub mod member;
mod perform;
mod upkeep;

pub use admin::{Health, Snapshot};

use admin::Shown;
use alarm::Alarm;

use super::backup::Backups;
use super::cluster::Cluster;
use super::cluster::helm::steer;
use super::config::ServerConfig;
use super::core::{Action, Core, Now};
use super::inbox::Inbox;
use super::reception::{Duty, Reception, Turn};
use super::{Clock, Error, Store};
use crate::engine::solo::{Flush, Job};
use crate::limits::DATAGRAM_MAX;
use crate::protocol::{Op, Request};
use crate::sync::Spin;
use crate::wal::Batch;
use crate::wire;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{debug, info, warn};

/// More threads than this never wait for requests or work on them.
const THREADS_MAX: usize = 64;
/// Enough for every path below; most of it is never touched.
const STACK: usize = 256 << 10;
/// Asked of the kernel for datagrams that no thread has taken yet.
const RECEIVE_BUFFER: usize = 4 << 20;

pub struct Server {
    /// None: this server is on its own.
    cluster: Option<Cluster>,
    socket: UdpSocket,
    store: Store,
    core: Spin<Core>,
    clock: Clock,
    reception: Reception,
    /// How long to look for a datagram before blocking.
    spin: Duration,
    /// All threads but the main one.
    running: Mutex<usize>,
    ended: Condvar,
    is_stopping: AtomicBool,
    alarm: Alarm,
    room_low: AtomicBool,
    is_short: AtomicBool,
    disk_floor: AtomicU64,
    room_seen_ms: AtomicU64,
    shortage_told_ms: AtomicU64,
    /// No checkpoint is begun before.
    checkpoint_from_ms: AtomicU64,
    shown: Mutex<Shown>,
    /// By the numbers of [`wire::Malformed`].
    malformed: [AtomicU64; wire::Malformed::ALL.len()],
    /// Replies that the kernel did not take.
    unsent: AtomicU64,
    backups: Backups,
}

/// Buffers that a thread keeps from one request to the next.
pub(super) struct Scratch {
    actions: Vec<Action>,
    bytes: Vec<u8>,
    /// This thread's turn to receive, while it has it.
    turn: Option<Turn>,
    pub(super) lingers: Lingers,
    /// Entries of a member's journal that this thread is to sync.
    pub(super) batch: Option<Batch>,
    /// This thread goes on with the member's affairs already.
    pub(super) is_steering: bool,
    /// There are some to go on with.
    is_called: bool,
}

/// Whether a thread may wait for the disk for what it has caused in a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lingers {
    Never,
    /// While the member does not lead: then there is nobody else to be heard.
    Following,
    Always,
}

impl Server {
    /// Logs the start of the server and begins to serve.
    pub fn start(
        socket: UdpSocket,
        store: Store,
        core: Core,
        clock: Clock,
        config: &ServerConfig,
    ) -> io::Result<Arc<Self>> {
        let server = Server::around(socket, store, core, clock, config, None);
        let mut scratch = Scratch::new(Lingers::Never);
        server.look_at_room();
        server.work(&mut scratch, |core, now, actions| core.boot(config.files, now, actions));
        // No session or token of this start may be seen before its epoch is stable.
        server.settle(&mut scratch)?;
        server.core.lock().open(server.clock.now());
        server.serve_clients()?;
        Ok(server)
    }

    fn around(
        socket: UdpSocket,
        store: Store,
        core: Core,
        clock: Clock,
        config: &ServerConfig,
        cluster: Option<Cluster>,
    ) -> Arc<Self> {
        if let Err(error) = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER) {
            debug!(%error, "the kernel keeps its default receive buffer");
        }
        Inbox::gather(&socket);
        Arc::new(Server {
            cluster,
            socket,
            store,
            clock,
            reception: Reception::default(),
            spin: Duration::from_micros(config.spin_us),
            running: Mutex::new(0),
            ended: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            alarm: Alarm::default(),
            room_low: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            disk_floor: AtomicU64::new(core.limits().disk_floor),
            room_seen_ms: AtomicU64::new(0),
            shortage_told_ms: AtomicU64::new(0),
            checkpoint_from_ms: AtomicU64::new(0),
            shown: Mutex::default(),
            malformed: Default::default(),
            unsent: AtomicU64::new(0),
            backups: Backups::default(),
            core: Spin::new(core),
        })
    }

    fn serve_clients(self: &Arc<Self>) -> io::Result<()> {
        self.spawn("deadlines", Self::keep_deadlines)?;
        self.reception.starts();
        self.spawn("request", Self::receive)
    }

    /// Stops serving, writes a checkpoint.
    pub fn stop(self: Arc<Self>) -> Result<(), Error> {
        self.retire();
        self.is_stopping.store(true, Ordering::SeqCst);
        // Wakes everybody in recv, although for an unconnected socket it says ENOTCONN.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        self.alarm.stop();
        self.reception.close();
        if let Some(cluster) = &self.cluster {
            cluster.close();
        }
        self.await_threads();
        if self.cluster.is_some() {
            // What is in the log is enough for the next start.
            info!("stopped");
            return Ok(());
        }
        let mut scratch = Scratch::new(Lingers::Never);
        self.settle(&mut scratch).map_err(|_| Error::Unsettled)?;
        // What became stable just now, or a look at the room on the disk, may have had a checkpoint
        // made on another thread; two at once would write to the same file.
        while !self.store.begin_reading_log() {
            self.await_threads();
        }
        let last = self.core.lock().engine().marks().published;
        match self.store.checkpoint(last) {
            // Everything is in the log; the next start takes a little longer.
            Err(error) if error.is_full() => warn!(%error, "no room for the last checkpoint"),
            other => other?,
        }
        let malformed = self.malformed();
        info!(malformed, "stopped");
        Ok(())
    }

    /// Waits until no thread serves any more.
    fn await_threads(&self) {
        let mut running = lock(&self.running);
        while *running > 0 {
            running = self.ended.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has everything proposed so far written, stable and published.
    fn settle(self: &Arc<Self>, scratch: &mut Scratch) -> io::Result<()> {
        loop {
            self.work(scratch, |core, _, _| core.settle());
            let core = self.core.lock();
            if core.engine().is_settled() {
                return Ok(());
            }
            let is_full = core.engine().is_full();
            if core.engine().has_failed() || is_full {
                return Err(io::Error::other("the log could not be written"));
            }
        }
    }

    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> io::Result<()> {
        let server = Arc::clone(self);
        *lock(&self.running) += 1;
        let spawned = thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || {
            body(&server);
            *lock(&server.running) -= 1;
            server.ended.notify_all();
        });
        if spawned.is_err() {
            *lock(&self.running) -= 1;
        }
        spawned.map(|_| ())
    }

    /// The life of a request thread.
    fn receive(self: &Arc<Self>) {
        self.reception.has_started();
        let mut scratch = Scratch::new(Lingers::Never);
        let mut inbox = Inbox::new();
        while let Some(duty) = self.reception.stand_by() {
            match duty {
                Duty::Receive(turn) => {
                    scratch.turn = Some(turn);
                    self.take_requests(&mut scratch, &mut inbox);
                }
                Duty::Flush(flush) => self.go_on(Some(Job::Flush(flush)), &mut scratch),
            }
        }
    }

    /// Receives and serves for as long as it is this thread's turn.
    fn take_requests(self: &Arc<Self>, scratch: &mut Scratch, inbox: &mut Inbox) {
        while let Some(turn) = &mut scratch.turn {
            let received = turn.receive(self.socket.as_raw_fd(), inbox, self.spin);
            if self.is_stopping.load(Ordering::Relaxed) {
                return;
            }
            match received {
                Ok(Some(from)) => {
                    if self.reception.begin(turn) {
                        self.add_receiver();
                    }
                    let from = SocketAddrV4::from(from).into();
                    scratch.lingers = match turn.is_lone() {
                        true => Lingers::Always,
                        false => Lingers::Never,
                    };
                    self.serve(from, inbox, scratch);
                    scratch.turn.take_if(|turn| !self.reception.end(turn));
                }
                Ok(None) => {}
                // An earlier reply could not be delivered, or a signal came: not this request's.
                Err(error) => debug!(%error, "recv"),
            }
        }
    }

    fn add_receiver(self: &Arc<Self>) {
        let is_full = *lock(&self.running) >= THREADS_MAX;
        if is_full || self.is_stopping.load(Ordering::Relaxed) {
            return self.reception.has_started();
        }
        if let Err(error) = self.spawn("request", Self::receive) {
            self.reception.has_started();
            warn!(%error, "cannot start another thread: requests wait for each other");
        }
    }

    /// Has another thread do what takes long, if that lets this one take requests; gives back what
    /// this thread is to do.
    fn give_away(&self, flush: Flush, scratch: &Scratch) -> Option<Flush> {
        match &scratch.turn {
            Some(turn) if flush.needs_sync => self.reception.offer(turn, flush),
            _ => Some(flush),
        }
    }

    fn serve(self: &Arc<Self>, from: SocketAddr, inbox: &Inbox, scratch: &mut Scratch) {
        let mut requests =
            inbox.datagrams().filter_map(|datagram| self.take_up(from, datagram, scratch));
        let Some(first) = requests.next() else { return };
        // Pieces of one append: a single look at the core, write to the log and answer do for all.
        let others: Vec<_> = requests.collect();
        if self.room_low.load(Ordering::Relaxed) {
            self.look_at_room();
            self.checkpoint_if_due();
        }
        self.work(scratch, |core, now, actions| {
            for request in std::iter::once(&first).chain(&others) {
                core.handle_request(from, request, now, actions);
            }
        });
    }

    /// What a datagram asks of the core.
    fn take_up<'a>(
        self: &Arc<Self>,
        from: SocketAddr,
        datagram: &'a [u8],
        scratch: &mut Scratch,
    ) -> Option<Request<'a>> {
        let request = match wire::decode_request(datagram) {
            Ok(request) => request,
            Err(why) => {
                self.malformed[why as usize].fetch_add(1, Ordering::Relaxed);
                debug!(%from, %why, len = datagram.len(), "dropped");
                return None;
            }
        };
        debug!(%from, session = request.session.0, number = request.number.0, op = ?request.op, "request");
        if request.op == Op::Cluster {
            self.show_cluster(from, &request, scratch);
            return None;
        }
        Some(request)
    }

    /// Changes the core, then does what that leads to: replies and, unless another thread is at
    /// it, the jobs for the disk.
    fn work(
        self: &Arc<Self>,
        scratch: &mut Scratch,
        change: impl FnOnce(&mut Core, Now, &mut Vec<Action>),
    ) {
        let job = self.with_core(scratch, change);
        self.go_on(job, scratch);
    }

    fn go_on(self: &Arc<Self>, mut job: Option<Job>, scratch: &mut Scratch) {
        if std::mem::take(&mut scratch.is_called)
            && let Some(cluster) = &self.cluster
        {
            cluster.note();
            steer(self, scratch);
        }
        while let Some(next) = job {
            job = match next {
                Job::Write(mut batch) => {
                    let ending = self.store.write(&mut batch);
                    self.look_at_room_if_due();
                    if self.store.has_sealed() {
                        self.checkpoint_if_due();
                    }
                    self.with_core(scratch, |core, now, actions| {
                        core.handle_written(batch, ending, now, actions);
                    })
                }
                Job::Flush(flush) => {
                    let Some(mut flush) = self.give_away(flush, scratch) else { return };
                    // Who has the turn is waited for.
                    if scratch.turn.is_none() {
                        self.gather(&mut flush);
                    }
                    let ending = self.store.flush(&mut flush);
                    let job = self.with_core(scratch, |core, now, actions| {
                        core.handle_flushed(flush, ending, now, actions);
                    });
                    self.checkpoint_if_due();
                    job
                }
            };
        }
    }

    /// Changes the core under the lock, then sends what it has to say. The job that comes back is
    /// this thread's to do.
    #[must_use]
    fn with_core(
        self: &Arc<Self>,
        scratch: &mut Scratch,
        change: impl FnOnce(&mut Core, Now, &mut Vec<Action>),
    ) -> Option<Job> {
        let (job, deadline, calls) = {
            let mut core = self.core.lock();
            // Read under the lock, so that time never goes back from one change to the next.
            let now = self.clock.now();
            change(&mut core, now, &mut scratch.actions);
            (core.poll_job(), core.next_deadline(), core.poll_call())
        };
        scratch.is_called |= calls;
        if let Some(at) = deadline {
            self.alarm.arm(at);
        }
        let mut actions = std::mem::take(&mut scratch.actions);
        for action in actions.drain(..) {
            self.perform(action, &mut scratch.bytes);
        }
        scratch.actions = actions;
        job
    }

    /// The life of the thread that keeps the deadlines.
    fn keep_deadlines(self: &Arc<Self>) {
        let mut scratch = Scratch::new(Lingers::Never);
        while !self.is_stopping.load(Ordering::SeqCst) {
            self.alarm.reset();
            // Whoever has the core arms the alarm for the next deadline afterwards; so does this.
            self.work(&mut scratch, |core, now, actions| core.handle_timeout(now, actions));
            self.alarm.wait(self.clock, &self.is_stopping);
        }
    }
}

impl Scratch {
    pub(super) fn new(lingers: Lingers) -> Self {
        Scratch {
            actions: Vec::new(),
            bytes: Vec::with_capacity(DATAGRAM_MAX),
            turn: None,
            lingers,
            batch: None,
            is_steering: false,
            is_called: false,
        }
    }
}

/// No code panics while it has one of these locks; should it, the process ends.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
