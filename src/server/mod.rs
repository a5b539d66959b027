//! The server: sockets, threads and time around [`core::Core`].
//!
//! A thread blocked in `recv` gets a datagram and is that request's thread from then on; before
//! it starts work it makes sure that another thread waits on the socket. Under the spin lock it
//! only changes memory; then it sends what may be sent, and if nobody else does so it writes and
//! syncs the log, for everybody who waits for that.

pub mod config;
pub mod core;
mod early;
mod outbox;
mod store;
mod threads;
mod watch;

pub use config::ServerConfig;
pub use store::{OpenError, PRIVATE_DIR, State, Store};

use self::core::{Core, Now, Settings};
use crate::disk::RealDisk;
use crate::types::Millis;
use crate::wal;
use nix::sys::signal::{SigSet, Signal};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use threads::Server;
use tracing::{info, warn};

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {addr}: {source}{}", listen_hint(source))]
    Listen { addr: std::net::SocketAddrV4, source: io::Error },
    #[error("cannot use the data directory: {0}")]
    Open(#[from] OpenError),
    #[error("the log could not be written while stopping: restart to recover")]
    Unsettled,
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

fn listen_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            " (is another server running there? --listen takes another port)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        _ => "",
    }
}

/// Runs a server until SIGTERM or SIGINT. Call it from the main thread, before others start:
/// the signals are blocked in it and in all threads that it starts.
pub fn run(config: &ServerConfig) -> Result<(), Error> {
    let system = |what| move |source: io::Error| Error::System { what, source };
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(|errno| system("cannot block signals")(errno.into()))?;

    let socket = UdpSocket::bind(config.listen)
        .map_err(|source| Error::Listen { addr: config.listen, source })?;
    let addr = socket.local_addr().map_err(system("cannot ask for the address"))?;
    let _dir_lock = store::lock_dir(&config.data)?;
    let options = wal::Options { salt: random(), ..wal::Options::default() };
    let (store, found) = Store::open(RealDisk, &config.data, config.files, &options)?;
    let settings = Settings {
        lease_ms: config.lease_ms,
        session_ttl_ms: config.session_ttl_ms,
        section_limit: config.section_limit,
        syncs: config.durability == config::Durability::Sync,
    };
    let clock = Clock::start();
    let core = Core::new(settings, found.machine, found.last, clock.now());
    let server = Server::start(socket, store, core, clock, config.files)
        .map_err(system("cannot start threads"))?;

    let mut out = io::stdout();
    // Nobody may be reading; the server works all the same.
    let _ = writeln!(out, "batond: listening on {addr}").and_then(|()| out.flush());
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(%error, "cannot tell the service manager that the server is ready");
    }
    info!(%addr, data = %config.data.display(), "ready");
    let signal = signals.wait().map_err(|errno| system("cannot wait for signals")(errno.into()))?;
    info!(%signal, "stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    server.stop()
}

/// A number that nobody can foresee, from the keys that the standard library draws for its maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// This machine's time as an argument for the rest.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        Clock { start: Instant::now() }
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            steady: Millis(self.start.elapsed().as_millis() as u64),
            unix: Millis(unix.as_millis() as u64),
        }
    }
}
