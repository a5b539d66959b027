//! The other members over TCP: one connection each way, on which one side only speaks
//! ([`super::link`]). Before it does both sides say who they are ([`super::hello`]). Whom there is to
//! reach comes from the log.

use super::hello::{Hello, Purpose, Welcome};
use super::link::Link;
use super::settings::resolve;
use super::{EXIT_CONFIG, Input};
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::members::Members;
use crate::limits::SERVERS_MAX;
use crate::server::threads::{Server, lock};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// Who this member is to the others.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    pub id: u64,
    pub cluster: u64,
    pub life: u64,
    /// Where clients find it.
    pub clients: SocketAddrV4,
}

/// The other members, and where this one stands among them.
pub struct Peers {
    own: Own,
    state: Mutex<State>,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct State {
    /// As far as it is committed here.
    members: Members,
    links: BTreeMap<u64, Arc<Link>>,
    /// Connections of others, to be ended with this server or when the other one leaves.
    incoming: Vec<Incoming>,
    /// The checkpoint that a server gets which has to take over a state.
    offered: Option<Checkpoint>,
    /// Who was turned away last, and when that was traced.
    turned_away: Option<(u64, Welcome, Instant)>,
}

/// A connection of another server: its number, 0 until it has said that, and the stream.
type Incoming = (Arc<AtomicU64>, TcpStream);

impl Peers {
    pub fn new(own: Own) -> Self {
        Peers { own, state: Mutex::default(), is_closed: AtomicBool::new(false) }
    }

    /// These are the members from now on. Returns the links to those that are new, each of which
    /// needs a thread that speaks.
    #[must_use]
    pub(in crate::server) fn follow(&self, members: &Members) -> Vec<Arc<Link>> {
        let mut state = lock(&self.state);
        state.members = members.clone();
        state.links.retain(|id, link| {
            let is_kept = match members.servers.get(id) {
                Some(server) => server.addr == link.addr,
                None => !members.has_left(*id),
            };
            if !is_kept {
                link.close();
            }
            is_kept
        });
        let is_over = |(id, _): &Incoming| {
            let id = id.load(Ordering::Acquire);
            id != 0 && members.has_left(id)
        };
        for (_, stream) in state.incoming.iter().filter(|one| is_over(one)) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let mut new = Vec::new();
        for (id, server) in &members.servers {
            if *id != self.own.id && !state.links.contains_key(id) {
                let link = Link::new(*id, server.addr.clone());
                state.links.insert(*id, Arc::clone(&link));
                new.push(link);
            }
        }
        new
    }

    /// The checkpoint that a server gets which has to take over a state.
    /// Returns the one before it.
    pub fn offer(&self, checkpoint: Checkpoint) -> Option<Checkpoint> {
        lock(&self.state).offered.replace(checkpoint)
    }

    pub(super) fn offered(&self) -> Option<Checkpoint> {
        lock(&self.state).offered.clone()
    }

    /// Where the members are reached.
    pub(super) fn addrs(&self) -> Vec<(u64, String)> {
        let servers = &lock(&self.state).members.servers;
        servers.iter().map(|(id, server)| (*id, server.addr.clone())).collect()
    }

    /// Whether this is the number of a server of the cluster, as far as is known here.
    pub(super) fn is_member(&self, id: u64) -> bool {
        lock(&self.state).members.servers.contains_key(&id)
    }

    pub fn ids(&self) -> Vec<u64> {
        lock(&self.state).links.keys().copied().collect()
    }

    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Messages to others that were lost because too many waited.
    pub fn dropped(&self) -> u64 {
        let state = lock(&self.state);
        state.links.values().map(|link| link.dropped.load(Ordering::Relaxed)).sum()
    }

    /// Where clients find this member, if that is known.
    pub fn client_addr(&self, id: u64) -> Option<SocketAddrV4> {
        if id == self.own.id {
            return Some(self.own.clients);
        }
        let link = self.link(id)?;
        *lock(&link.clients)
    }

    fn link(&self, id: u64) -> Option<Arc<Link>> {
        lock(&self.state).links.get(&id).cloned()
    }

    /// Adds a message to what is to be sent, or loses it when too many wait already.
    pub(super) fn add(&self, to: u64, message: &[u8]) {
        if let Some(link) = self.link(to) {
            link.add(message);
        }
    }

    /// Sends what there is.
    pub(super) fn flush(&self) {
        lock(&self.state).links.values().for_each(|link| link.flush());
    }

    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let mut state = lock(&self.state);
        for (_, stream) in state.incoming.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.links.values().for_each(|link| link.close());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn hello(&self, to: u64, purpose: Purpose, welcome: Welcome) -> Hello {
        let Own { id, cluster, life, clients } = self.own;
        let own = lock(&self.state).members.servers.get(&id).map(|server| server.addr.clone());
        let addr = own.unwrap_or_default();
        Hello { purpose, cluster, from: id, to, clients, life, welcome, addr }
    }

    /// Whether a server that has connected is welcome.
    pub(super) fn welcome(&self, hello: &Hello) -> Welcome {
        let is_join = hello.purpose == Purpose::Join;
        let state = lock(&self.state);
        let known = state.members.servers.get(&hello.from);
        let fits = known.map(|server| match is_join {
            // Whoever asks to be let in brings nothing: not the server that is known.
            true => server.life == hello.life,
            false => server.life == 0 || server.life == hello.life,
        });
        match () {
            () if hello.cluster != self.own.cluster && !(is_join && hello.cluster == 0) => {
                Welcome::Stranger
            }
            () if hello.from == self.own.id || fits == Some(false) => Welcome::Replaced,
            () if hello.to != self.own.id && !is_join => Welcome::Misdirected,
            () if state.members.has_left(hello.from) => Welcome::Left,
            () if is_join && known.is_none() => Welcome::Unknown,
            // Or it was added by a change that has not come here yet.
            () => Welcome::Fine,
        }
    }

    /// Whether it is to be traced that this server is turned away: it tries again several times a
    /// second.
    pub(super) fn is_new(&self, id: u64, welcome: Welcome) -> bool {
        let mut state = lock(&self.state);
        let is_told = |(last, why, at): (u64, Welcome, Instant)| {
            (last, why) == (id, welcome) && at.elapsed() < TELL_AGAIN
        };
        let is_new = !state.turned_away.is_some_and(is_told);
        if is_new {
            state.turned_away = Some((id, welcome, Instant::now()));
        }
        is_new
    }

    /// Checks who it is that answers where `id` was looked for.
    fn check(&self, id: u64, answer: &Hello) -> Result<(), Refusal> {
        let Own { id: own, cluster, .. } = self.own;
        let (from, theirs) = (answer.from, answer.cluster);
        let temporary = |text: String| Err(Refusal::Strange(text));
        if theirs != cluster {
            return temporary(format!(
                "it is of cluster {theirs:016x} and this server of {cluster:016x}: give all \
                 servers that begin together the same --cluster, and the same --restore if any"
            ));
        }
        if from != id {
            return temporary(format!(
                "it is server {from}, and {id} was looked for: check the addresses of the \
                 servers, and that each has its own --node"
            ));
        }
        let known = lock(&self.state).members.servers.get(&id).map_or(0, |server| server.life);
        match answer.welcome {
            Welcome::Fine if known != 0 && known != answer.life => {
                temporary(format!("server {id} has another data directory than it had"))
            }
            Welcome::Fine => Ok(()),
            Welcome::Left => Err(Refusal::Final(left(own))),
            Welcome::Replaced => Err(Refusal::Final(replaced(own))),
            Welcome::Unknown | Welcome::Stranger | Welcome::Misdirected => {
                temporary(format!("it does not know this server: {:?}", answer.welcome))
            }
        }
    }

    /// Remembers a connection of another server, to be ended with this one; what comes back is to
    /// get its number, and to be given to [`Peers::let_go`]. Where there are too many, one that has
    /// not said who it is makes room: a server says so at once.
    pub(super) fn take_in(&self, stream: &TcpStream) -> io::Result<Arc<AtomicU64>> {
        let incoming = &mut lock(&self.state).incoming;
        if incoming.len() >= INCOMING_MAX {
            let is_nameless = |(id, _): &Incoming| id.load(Ordering::Acquire) == 0;
            let Some(at) = incoming.iter().position(is_nameless) else {
                return Err(io::Error::other("too many connections"));
            };
            let _ = incoming.remove(at).1.shutdown(Shutdown::Both);
        }
        let id = Arc::<AtomicU64>::default();
        incoming.push((Arc::clone(&id), stream.try_clone()?));
        Ok(id)
    }

    /// A connection of another server has ended.
    pub(super) fn let_go(&self, id: &Arc<AtomicU64>) {
        lock(&self.state).incoming.retain(|(other, _)| !Arc::ptr_eq(other, id));
    }

    /// Another server has said where clients find it; one that was added by a change which has not
    /// come here yet, also where to reach it.
    pub(super) fn learn(&self, hello: &Hello) -> Vec<Arc<Link>> {
        let mut state = lock(&self.state);
        let mut new = Vec::new();
        let is_known = state.links.contains_key(&hello.from);
        if !is_known && !hello.addr.is_empty() && state.links.len() < SERVERS_MAX {
            let link = Link::new(hello.from, hello.addr.clone());
            state.links.insert(hello.from, Arc::clone(&link));
            new.push(link);
        }
        if let Some(link) = state.links.get(&hello.from) {
            *lock(&link.clients) = Some(hello.clients);
        }
        new
    }
}

/// Why another server has nothing to do with this one.
enum Refusal {
    Strange(String),
    /// There is nothing to wait for.
    Final(String),
}

/// What there is to say when this server was removed.
pub(in crate::server) fn left(id: u64) -> String {
    format!(
        "server {id} was removed from the cluster and its number is never used again: its data \
         directory has no more use; to add this machine again, give it another --node, an empty \
         data directory and --join"
    )
}

/// What there is to say when another data directory has this server's number.
pub(super) fn replaced(id: u64) -> String {
    format!(
        "the cluster knows server {id} with another data directory: either two servers were \
         started with --node {id}, or this one's directory was emptied or lost. A server that has \
         forgotten what it promised must not come back: add it with a new number (--join, then \
         baton cluster add), and remove {id}"
    )
}

/// Ends the process: without a change by the operator it cannot take part.
pub(in crate::server) fn end(why: &str) -> ! {
    error!("{why}");
    eprintln!("batond: {why}");
    std::process::exit(EXIT_CONFIG);
}

/// Starts a thread for each of these that speaks.
pub(in crate::server) fn speak_to(server: &Arc<Server>, links: Vec<Arc<Link>>) -> io::Result<()> {
    let start = |link: Arc<Link>| server.spawn("peer", move |server| speak(server, &link));
    links.into_iter().try_for_each(start)
}

/// The life of the thread that speaks to another member.
fn speak(server: &Arc<Server>, link: &Link) {
    let peers = &server.cluster().peers;
    let id = link.id;
    let mut pause = PAUSE_MIN;
    let mut told = String::new();
    while !peers.is_closed() && !link.is_closed() {
        match connect(peers, link, Purpose::Messages) {
            Ok(stream) => {
                info!(server = id, "connected");
                (pause, told) = (PAUSE_MIN, String::new());
                let ended = link.deliver(stream);
                debug!(server = id, error = ?ended.err(), "disconnected");
            }
            Err(error) => {
                let text = error.to_string();
                if text != told && !peers.is_closed() {
                    warn!(
                        server = id,
                        addr = link.addr,
                        error = text,
                        "cannot reach another server"
                    );
                    told = text;
                }
            }
        }
        link.reset();
        server.cluster().tell(Input::Unreachable(id));
        if !peers.is_closed() && !link.is_closed() {
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// A connection to another member on which to ask for parts of the data files.
pub(super) fn connect_to_fetch(server: &Arc<Server>, id: u64) -> io::Result<TcpStream> {
    let peers = &server.cluster().peers;
    let link = peers.link(id).ok_or_else(|| io::Error::other("no such server"))?;
    connect(peers, &link, Purpose::Fetch)
}

fn connect(peers: &Peers, link: &Link, purpose: Purpose) -> io::Result<TcpStream> {
    let mut stream = open(&link.addr)?;
    stream.write_all(&peers.hello(link.id, purpose, Welcome::Fine).encode())?;
    let answer = Hello::read(&mut stream).map_err(in_words)?;
    match peers.check(link.id, &answer) {
        Ok(()) => {}
        Err(Refusal::Strange(why)) => return Err(io::Error::other(why)),
        Err(Refusal::Final(why)) => end(&why),
    }
    *lock(&link.clients) = Some(answer.clients);
    Ok(stream)
}

/// Says what it means that another server's answer does not come.
pub(super) fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other(
            "no answer in time: is that server stopped, or something else at that port?",
        ),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => io::Error::other(
            "it hung up: is it stopping, of another version, or something else at that port?",
        ),
        _ => error,
    }
}

/// A connection to a server's port for the others.
pub(super) fn open(addr: &str) -> io::Result<TcpStream> {
    let found = resolve(addr).ok_or_else(|| io::Error::other("cannot be resolved"))?;
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => io::Error::other(format!(
            "{error}: is that server down, or is that not its TCP port for the others?"
        )),
        _ => error,
    };
    let stream = TcpStream::connect_timeout(&found.into(), CONNECT_WAIT).map_err(refused)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HELLO_WAIT))?;
    stream.set_write_timeout(Some(WRITE_WAIT))?;
    // A leader's beat is always on its way: what is not acknowledged in this time never will be.
    setsockopt(&stream, sockopt::TcpUserTimeout, &GIVE_UP_MS)?;
    Ok(stream)
}

const GIVE_UP_MS: u32 = 1_000;
const CONNECT_WAIT: Duration = Duration::from_millis(500);
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(20);
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How often it is traced at most that the same server is turned away.
const TELL_AGAIN: Duration = Duration::from_secs(60);
pub(super) const HELLO_WAIT: Duration = Duration::from_secs(2);
/// Connections of others at once.
const INCOMING_MAX: usize = 64;
