//! The server: sockets, threads and time around [`core::Core`].
//!
//! A thread blocked in `recv` gets a datagram and is that request's thread from then on; before
//! it starts work it makes sure that another thread waits on the socket. Under the spin lock it
//! only changes memory; then it sends what may be sent, and if nobody else does so it writes and
//! syncs the log, for everybody who waits for that.

pub mod backup;
mod checkpoint;
pub mod cluster;
pub mod config;
pub mod core;
mod early;
mod http;
mod inbox;
mod meter;
mod outbox;
mod reception;
mod restore;
mod service;
mod store;
mod threads;
mod watch;

pub use checkpoint::Checkpointing;
pub use config::ServerConfig;
pub use restore::RestoreError;
pub use service::Operator;
pub use store::member::MemberError;
pub use store::{Due, OpenError, PRIVATE_DIR, Store};

use self::cluster::Peers;
use self::cluster::join::Joiner;
use self::cluster::peers::Own;
use self::cluster::settings::{Origin, Place, Said};
use self::core::{Core, Limits, Now, Settings};
use self::service::Signals;
use crate::disk::RealDisk;
use crate::engine::cluster::members::Members;
use crate::types::Millis;
use crate::wal;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use store::member::{Identity, claim, has_begun, identity};
use threads::Server;
use threads::member::Start;
use tracing::info;

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {addr}: {source}{}", listen_hint(source, "--listen"))]
    Listen { addr: std::net::SocketAddrV4, source: io::Error },
    #[error("cannot listen on {addr} for HTTP: {source}{}", listen_hint(source, "--http"))]
    Http { addr: SocketAddr, source: io::Error },
    #[error(
        "cannot listen for the other servers on {addr}: {source}{}",
        listen_hint(source, "--peer-listen")
    )]
    Peers { addr: std::net::SocketAddr, source: io::Error },
    #[error("{0}")]
    Cluster(String),
    #[error("cannot use the data directory: {0}")]
    Open(#[from] OpenError),
    #[error("the log could not be written while stopping: restart to recover")]
    Unsettled,
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

fn listen_hint(source: &io::Error, flag: &str) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!(" (is another server running there? {flag} takes another port)")
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges)".into(),
        io::ErrorKind::AddrNotAvailable => {
            " (no interface of this machine has that address)".into()
        }
        _ => String::new(),
    }
}

/// Runs a server until SIGTERM or SIGINT. Call it from the main thread, before others start:
/// the signals are blocked in it and in all threads that it starts.
pub fn run(config: &ServerConfig, operator: &Operator<'_>) -> Result<(), Error> {
    let system = |what| move |source: io::Error| Error::System { what, source };
    let place = config.place().map_err(Error::Cluster)?;
    let socket = UdpSocket::bind(config.listen)
        .map_err(|source| Error::Listen { addr: config.listen, source })?;
    let addr = socket.local_addr().map_err(system("cannot ask for the address"))?;
    let _dir_lock = store::lock_dir(&config.data)?;
    // A signal ends it, and the next start begins it anew.
    restore::prepare(&config.data, config.restore.as_deref(), config.files, place.as_ref())?;
    let signals = Signals::block().map_err(system("cannot block signals"))?;
    let options = wal::Options { salt: random(), ..wal::Options::default() };
    let listen_http =
        |addr| http::Endpoint::bind(addr).map_err(|source| Error::Http { addr, source });
    let endpoint = config.http.map(listen_http).transpose()?;
    let server = match place {
        Some(place) => match start_member(socket, &options, place, config, &signals)? {
            Some(server) => server,
            None => return Ok(()),
        },
        None => start_alone(socket, &options, config)?,
    };

    if let Some(endpoint) = endpoint {
        info!(addr = %endpoint.addr(), "http");
        endpoint.serve(&server).map_err(system("cannot start a thread for HTTP"))?;
    }
    let mut out = io::stdout();
    // Nobody may be reading; the server works all the same.
    let _ = writeln!(out, "batond: listening on {addr}").and_then(|()| out.flush());
    info!(%addr, data = %config.data.display(), "ready");
    let served = service::run(&server, addr, config.clone(), operator, &signals)
        .map_err(system("cannot wait for signals"));
    server.stop().and(served)
}

fn start_alone(
    socket: UdpSocket,
    options: &wal::Options,
    config: &ServerConfig,
) -> Result<Arc<Server>, Error> {
    if let Some(found) = store::member::identity(&config.data)? {
        let dir = config.data.clone();
        return Err(OpenError::from(MemberError::OfCluster { dir, found }).into());
    }
    let (store, found) = Store::open(RealDisk, &config.data, config.files, options)?;
    let clock = Clock::start();
    let mut core = Core::new(config.settings(), found.machine, found.last, clock.now());
    core.handle_published(store.published_bytes());
    Server::start(socket, store, core, clock, config)
        .map_err(|source| Error::System { what: "cannot start threads", source })
}

/// Starts a member; none if it is to end before it was let in.
fn start_member(
    socket: UdpSocket,
    options: &wal::Options,
    place: Place,
    config: &ServerConfig,
    signals: &Signals,
) -> Result<Option<Arc<Server>>, Error> {
    let system = |what| move |source: io::Error| Error::System { what, source };
    let addr = place.peer_listen;
    let listener = TcpListener::bind(addr).map_err(|source| Error::Peers { addr, source })?;
    let bound = socket.local_addr().map_err(system("cannot ask for the address"))?;
    let SocketAddr::V4(bound) = bound else {
        return Err(Error::Cluster("the address to listen on is not IPv4".into()));
    };
    let dir = &config.data;
    let Some(own) = identify(&place, config, signals)? else { return Ok(None) };
    let founders = match &place.origin {
        Origin::Founder(servers) => servers.founding(),
        Origin::Joins(_) => Members::default(),
    };
    let options = wal::Options { segment_max: MEMBER_SEGMENT_MAX, ..options.clone() };
    let (store, member) = Store::open_member(RealDisk, dir, config.files, &options, &founders)?;
    let Identity { node: id, cluster, life } = own;
    let addr = member.replica.members.servers.get(&id).map(|server| server.addr.as_str());
    let clients = place.client_addr(bound, addr.unwrap_or_default());
    info!(node = id, %clients, addr, "a member of cluster {cluster:016x}");
    place.tell_differences(&member.replica.members);
    let peers = Peers::new(Own { id, cluster, life, clients });
    let start = Start { member, peers, listener, seed: random() };
    Server::start_member(socket, store, Clock::start(), config, start)
        .map(Some)
        .map_err(system("cannot start threads"))
}

/// Which member of which cluster the data directory is of: for the first time as the settings say,
/// or as the cluster says that this server is let into. None if it is to end before that.
fn identify(
    place: &Place,
    config: &ServerConfig,
    signals: &Signals,
) -> Result<Option<Identity>, Error> {
    let (dir, node) = (&config.data, place.id);
    let found = identity(dir)?;
    let life = found.map_or_else(|| random().max(1), |found| found.life);
    match &place.origin {
        Origin::Founder(servers) => {
            let cluster = servers.fingerprint(restore::origin(dir)?.as_deref());
            let own = Identity { node, cluster, life };
            claim(dir, own)?;
            Ok(Some(own))
        }
        Origin::Joins(seeds) => {
            let own = Identity { node, cluster: found.map_or(0, |found| found.cluster), life };
            if found.is_some() || has_begun(dir) {
                claim(dir, own)?;
            }
            if has_begun(dir) {
                return Ok(Some(own));
            }
            Joiner { dir, files: config.files, own, signals }.join(seeds)
        }
    }
}

/// Segments of a member's journal are closed at this size: what they hold is in memory too, as far
/// as it is not applied and kept.
const MEMBER_SEGMENT_MAX: u64 = 16 << 20;

impl ServerConfig {
    /// This server's place in a cluster, if it is to have one.
    /// Looks at what single settings do not tell: whether those of a cluster go together.
    pub fn check(&self) -> Result<(), Error> {
        self.place().map(|_| ()).map_err(Error::Cluster)
    }

    fn place(&self) -> Result<Option<Place>, String> {
        let is_synced = self.durability == config::Durability::Sync;
        Place::new(&Said {
            node: self.node,
            cluster: &self.cluster,
            join: &self.join,
            peer_listen: self.peer_listen,
            advertise: self.advertise,
            is_synced,
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            lease_ms: self.lease_ms,
            session_ttl_ms: self.session_ttl_ms,
            section_limit: self.section_limit,
            syncs: self.durability == config::Durability::Sync,
            limits: Limits {
                sessions: self.session_limit,
                waiters: self.waiter_limit,
                data: self.data_limit,
                history: self.history_limit,
                disk_floor: self.disk_floor,
            },
        }
    }
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
        let steady_us = self.start.elapsed().as_micros() as u64;
        Now { steady: Millis(steady_us / 1_000), steady_us, unix: Millis(unix.as_millis() as u64) }
    }
}
