//! The other members over TCP: one connection each way, on which one side only speaks. Frames are
//! length, checksum and a message of [`crate::engine::cluster::codec`]; before the first both
//! sides say who they are.

use super::fetch;
use super::settings::Place;
use crate::engine::cluster::codec::{Input as Reader, decode_message, put_u64};
use crate::server::threads::{Server, lock};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{debug, info, warn};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Messages of who has connected.
    Messages,
    /// Questions for parts of the data files.
    Fetch,
}

/// Who speaks, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    purpose: Purpose,
    cluster: u64,
    from: u64,
    to: u64,
    /// Where clients find the speaker.
    clients: SocketAddrV4,
}

/// The other members, and where this one stands among them.
pub struct Peers {
    place: Place,
    clients: SocketAddrV4,
    links: BTreeMap<u64, Link>,
    is_closed: AtomicBool,
    /// Connections of others, to be ended with this server.
    incoming: Mutex<Vec<TcpStream>>,
}

/// The way to another member.
struct Link {
    addr: String,
    frames: Mutex<Frames>,
    changed: Condvar,
    /// Where clients find it, once it said so.
    clients: Mutex<Option<SocketAddrV4>>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Frames {
    waiting: Vec<Vec<u8>>,
    bytes: usize,
}

impl Peers {
    /// The members that `place` names; clients find this one at `clients`.
    pub fn new(place: Place, clients: SocketAddrV4) -> Self {
        let others = place.servers.0.iter().filter(|(id, _)| *id != place.id);
        let link = |addr: &String| Link {
            addr: addr.clone(),
            frames: Mutex::default(),
            changed: Condvar::new(),
            clients: Mutex::new(None),
            dropped: AtomicU64::new(0),
        };
        let links = others.map(|(id, addr)| (*id, link(addr))).collect();
        Peers {
            place,
            clients,
            links,
            is_closed: AtomicBool::new(false),
            incoming: Mutex::default(),
        }
    }

    pub fn ids(&self) -> Vec<u64> {
        self.links.keys().copied().collect()
    }

    /// The number of this member.
    pub fn own_id(&self) -> u64 {
        self.place.id
    }

    /// Messages to others that were lost because too many waited.
    pub fn dropped(&self) -> u64 {
        self.links.values().map(|link| link.dropped.load(Ordering::Relaxed)).sum()
    }

    /// Where clients find this member, if that is known.
    pub fn client_addr(&self, id: u64) -> Option<SocketAddrV4> {
        if id == self.place.id {
            return Some(self.clients);
        }
        *lock(&self.links.get(&id)?.clients)
    }

    /// Sends a message, or loses it when too many wait already.
    pub fn send(&self, to: u64, message: Vec<u8>) {
        let Some(link) = self.links.get(&to) else { return };
        let mut frames = lock(&link.frames);
        if frames.bytes + message.len() > WAITING_MAX && !frames.waiting.is_empty() {
            link.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        frames.bytes += message.len();
        frames.waiting.push(message);
        link.changed.notify_one();
    }

    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for stream in lock(&self.incoming).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for link in self.links.values() {
            drop(lock(&link.frames));
            link.changed.notify_all();
        }
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn hello(&self, to: u64, purpose: Purpose) -> Hello {
        Hello {
            purpose,
            cluster: self.place.cluster,
            from: self.place.id,
            to,
            clients: self.clients,
        }
    }

    /// Checks who it is that speaks to this member.
    fn check(&self, hello: &Hello) -> Result<(), String> {
        if hello.cluster != self.place.cluster {
            return Err(format!(
                "it is of cluster {:016x} and this server of {:016x}: give all servers the same \
                 --cluster",
                hello.cluster, self.place.cluster
            ));
        }
        if hello.from == self.place.id {
            return Err(format!("it is server {} too: give each its own --node", hello.from));
        }
        if hello.to != self.place.id || !self.links.contains_key(&hello.from) {
            let (from, to) = (hello.from, hello.to);
            return Err(format!(
                "it is server {from} and looks for {to}, and this is server {}: check the \
                 addresses in --cluster",
                self.place.id
            ));
        }
        Ok(())
    }

    fn learn(&self, hello: &Hello) {
        if let Some(link) = self.links.get(&hello.from) {
            *lock(&link.clients) = Some(hello.clients);
        }
    }
}

/// The life of the thread that speaks to another member.
pub(in crate::server) fn speak(server: &Arc<Server>, id: u64) {
    let peers = &server.cluster().peers;
    let mut pause = PAUSE_MIN;
    let mut told = String::new();
    while !peers.is_closed() {
        match connect(peers, id, Purpose::Messages) {
            Ok(stream) => {
                info!(server = id, "connected");
                (pause, told) = (PAUSE_MIN, String::new());
                let ended = deliver(peers, id, stream);
                debug!(server = id, error = ?ended.err(), "disconnected");
            }
            Err(error) => {
                let text = error.to_string();
                if text != told && !peers.is_closed() {
                    warn!(server = id, error = text, "cannot reach another server");
                    told = text;
                }
            }
        }
        if let Some(link) = peers.links.get(&id) {
            *lock(&link.frames) = Frames::default();
        }
        server.cluster().tell(super::Input::Unreachable(id));
        if !peers.is_closed() {
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// A connection to another member that is not for messages.
pub(super) fn connect_for(
    server: &Arc<Server>,
    id: u64,
    purpose: Purpose,
) -> io::Result<TcpStream> {
    connect(&server.cluster().peers, id, purpose)
}

fn connect(peers: &Peers, id: u64, purpose: Purpose) -> io::Result<TcpStream> {
    let link = peers.links.get(&id).ok_or_else(|| io::Error::other("no such server"))?;
    let addr = &link.addr;
    let mut found = addr.to_socket_addrs()?.filter(|addr| addr.is_ipv4());
    let addr = found.next().ok_or_else(|| io::Error::other("the address has no IPv4 address"))?;
    let mut stream = TcpStream::connect_timeout(&addr, CONNECT_WAIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HELLO_WAIT))?;
    stream.set_write_timeout(Some(WRITE_WAIT))?;
    // A leader's beat is always on its way: what is not acknowledged in this time never will be.
    setsockopt(&stream, sockopt::TcpUserTimeout, &GIVE_UP_MS)?;
    stream.write_all(&encode_hello(&peers.hello(id, purpose)))?;
    let hello = read_hello(&mut stream)?;
    peers.check(&hello).map_err(io::Error::other)?;
    peers.learn(&hello);
    Ok(stream)
}

/// Writes what is to be sent until the connection ends.
fn deliver(peers: &Peers, id: u64, mut stream: TcpStream) -> io::Result<()> {
    let link = &peers.links[&id];
    let mut bytes = Vec::new();
    loop {
        let frames = {
            let mut frames = lock(&link.frames);
            while frames.waiting.is_empty() {
                if peers.is_closed() {
                    return Ok(());
                }
                frames = link.changed.wait(frames).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::take(&mut *frames)
        };
        bytes.clear();
        for frame in &frames.waiting {
            bytes.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&crc32c::crc32c(frame).to_le_bytes());
            bytes.extend_from_slice(frame);
        }
        stream.write_all(&bytes)?;
    }
}

/// The life of the thread that takes connections of other members.
pub(in crate::server) fn listen(server: &Arc<Server>, listener: &TcpListener) {
    let peers = &server.cluster().peers;
    while !peers.is_closed() {
        match listener.accept() {
            Ok((stream, from)) => {
                let spawned = server.spawn("peer", move |server| {
                    if let Err(error) = hear(server, stream) {
                        debug!(%from, %error, "a server's connection ended");
                    }
                });
                if let Err(error) = spawned {
                    warn!(%error, "cannot start a thread for another server");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(ACCEPT_EVERY);
            }
            Err(error) => {
                warn!(%error, "cannot take a connection");
                thread::sleep(PAUSE_MAX);
            }
        }
    }
}

/// Takes in what another member says until the connection ends.
fn hear(server: &Arc<Server>, mut stream: TcpStream) -> io::Result<()> {
    let peers = &server.cluster().peers;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HELLO_WAIT))?;
    stream.set_write_timeout(Some(WRITE_WAIT))?;
    setsockopt(&stream, sockopt::KeepAlive, &true)?;
    setsockopt(&stream, sockopt::TcpKeepIdle, &KEEP_ALIVE_SECONDS)?;
    setsockopt(&stream, sockopt::TcpKeepInterval, &KEEP_ALIVE_SECONDS)?;
    {
        let mut incoming = lock(&peers.incoming);
        incoming.retain(|stream| stream.peer_addr().is_ok());
        if incoming.len() >= INCOMING_MAX {
            return Err(io::Error::other("too many connections"));
        }
        incoming.push(stream.try_clone()?);
    }
    if peers.is_closed() {
        return Ok(());
    }
    let hello = read_hello(&mut stream)?;
    // Also to a stranger, who is to learn what is wrong.
    stream.write_all(&encode_hello(&peers.hello(hello.from, hello.purpose)))?;
    if let Err(why) = peers.check(&hello) {
        warn!(server = hello.from, why, "turned another server away");
        return Ok(());
    }
    peers.learn(&hello);
    stream.set_read_timeout(None)?;
    if hello.purpose == Purpose::Fetch {
        return fetch::answer(server, stream);
    }
    let mut stream = io::BufReader::with_capacity(64 << 10, stream);
    let mut frame = Vec::new();
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let mut head = Reader(&head);
        let malformed = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let len = head.u32().map_err(malformed)?;
        let sum = head.u32().map_err(malformed)?;
        if len > FRAME_MAX {
            return Err(io::Error::other("a frame is longer than any may be"));
        }
        frame.clear();
        // As the bytes come: a length alone reserves no memory.
        let read = (&mut stream).take(len as u64).read_to_end(&mut frame)?;
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if crc32c::crc32c(&frame) as usize != sum {
            return Err(io::Error::other("a frame's checksum is wrong"));
        }
        let message = decode_message(&frame).map_err(malformed)?;
        if message.from != hello.from || message.to != peers.place.id {
            return Err(io::Error::other("a message is not from who sent it"));
        }
        server.cluster().tell_message(message);
    }
}

fn encode_hello(hello: &Hello) -> Vec<u8> {
    let mut out = match hello.purpose {
        Purpose::Messages => MAGIC.to_vec(),
        Purpose::Fetch => MAGIC_FETCH.to_vec(),
    };
    put_u64(&mut out, hello.cluster);
    put_u64(&mut out, hello.from);
    put_u64(&mut out, hello.to);
    let clients = u64::from(hello.clients.ip().to_bits()) << 16 | u64::from(hello.clients.port());
    put_u64(&mut out, clients);
    out
}

fn read_hello(stream: &mut TcpStream) -> io::Result<Hello> {
    let mut bytes = [0; HELLO_LEN];
    stream.read_exact(&mut bytes)?;
    decode_hello(&bytes).ok_or_else(|| {
        io::Error::other(
            "it is no server of a cluster, or of a version that this one does not know",
        )
    })
}

fn decode_hello(bytes: &[u8; HELLO_LEN]) -> Option<Hello> {
    let (purpose, rest) = match bytes.strip_prefix(&MAGIC) {
        Some(rest) => (Purpose::Messages, rest),
        None => (Purpose::Fetch, bytes.strip_prefix(&MAGIC_FETCH)?),
    };
    let mut input = Reader(rest);
    let (cluster, from, to) = (input.u64().ok()?, input.u64().ok()?, input.u64().ok()?);
    let packed = input.u64().ok()?;
    let ip = Ipv4Addr::from_bits(u32::try_from(packed >> 16).ok()?);
    let clients = SocketAddrV4::new(ip, (packed & 0xffff) as u16);
    Some(Hello { purpose, cluster, from, to, clients })
}

/// The last byte is the version of what members say to each other.
const MAGIC: [u8; 8] = *b"BATONPR\x01";
const MAGIC_FETCH: [u8; 8] = *b"BATONFT\x01";
const HELLO_LEN: usize = 8 + 4 * 8;
/// The longest frame: more than any message of entries, and a state that is handed over.
const FRAME_MAX: usize = 1 << 30;
/// Bytes that wait for a member at most; what is beyond is sent again by the library.
const WAITING_MAX: usize = 64 << 20;
/// Connections of others at once.
const INCOMING_MAX: usize = 64;
const GIVE_UP_MS: u32 = 1_000;
const KEEP_ALIVE_SECONDS: u32 = 5;
const CONNECT_WAIT: Duration = Duration::from_millis(500);
const HELLO_WAIT: Duration = Duration::from_secs(2);
const WRITE_WAIT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);
const ACCEPT_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_has_these_bytes_and_comes_back() {
        let clients = "127.0.0.1:10000".parse().unwrap();
        let purpose = Purpose::Messages;
        let hello = Hello { purpose, cluster: 0x0102, from: 3, to: 4, clients };
        let bytes: [u8; HELLO_LEN] = encode_hello(&hello).try_into().unwrap();
        assert_eq!(bytes[..16], *b"BATONPR\x01\x02\x01\0\0\0\0\0\0");
        assert_eq!(bytes[32..], [0x10, 0x27, 1, 0, 0, 0x7f, 0, 0]);
        assert_eq!(decode_hello(&bytes), Some(hello));
        let fetch = Hello { purpose: Purpose::Fetch, ..hello };
        let fetch_bytes: [u8; HELLO_LEN] = encode_hello(&fetch).try_into().unwrap();
        assert_eq!(fetch_bytes[..8], *b"BATONFT\x01");
        assert_eq!(decode_hello(&fetch_bytes), Some(fetch));
        let mut other = bytes;
        other[7] = 2;
        assert_eq!(decode_hello(&other), None);
    }
}
