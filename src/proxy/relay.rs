//! The sockets of the fault proxy: one thread that waits for datagrams and due times and lets
//! [`super::faults::Core`] decide. Every client has a socket of its own towards the server, so
//! that the server sees the clients apart.

use super::Shared;
use super::census::Peer;
use super::faults::Transmit;
use super::message::Direction;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The relay's thread.
pub(super) struct Relay {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: UdpSocket,
    pub(super) target: SocketAddrV4,
    /// Readable when the other end changed something or wants the relay to end.
    pub(super) wake: UnixStream,
    clients: BTreeMap<Peer, Client>,
    peers: BTreeMap<SocketAddr, Peer>,
    next_peer: Peer,
    buffer: Box<[u8]>,
}

struct Client {
    addr: SocketAddr,
    upstream: UdpSocket,
    heard: Instant,
}

impl Relay {
    pub(super) fn new(
        shared: Arc<Shared>,
        listener: UdpSocket,
        target: SocketAddrV4,
        wake: UnixStream,
    ) -> Relay {
        Relay {
            shared,
            listener,
            target,
            wake,
            clients: BTreeMap::new(),
            peers: BTreeMap::new(),
            next_peer: 1,
            buffer: vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice(),
        }
    }

    /// Relays until told to end.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut idle_check = Instant::now();
        while !self.shared.is_ending.load(Ordering::Acquire) {
            let due_us = self.send_due();
            let ready = self.wait(due_us)?;
            self.receive_requests();
            for peer in ready {
                self.receive_replies(peer);
            }
            if idle_check.elapsed() > IDLE_CHECK {
                idle_check = Instant::now();
                self.forget_idle();
            }
        }
        Ok(())
    }

    /// Sends what is due; tells when the next is.
    fn send_due(&mut self) -> Option<u64> {
        loop {
            let mut core = self.shared.core();
            let Some(transmit) = core.poll_transmit(self.shared.now_us()) else {
                return core.poll_timeout();
            };
            drop(core);
            self.send(&transmit);
        }
    }

    fn send(&self, transmit: &Transmit) {
        let Some(client) = self.clients.get(&transmit.peer) else {
            return;
        };
        let sent = match transmit.direction {
            Direction::Request => client.upstream.send(&transmit.bytes),
            Direction::Reply => self.listener.send_to(&transmit.bytes, client.addr),
        };
        // A server or client that is away is a fault like others: what is sent to it is lost.
        if let Err(error) = sent {
            tracing::debug!("{} for {}: {error}", transmit.direction, client.addr);
        }
    }

    /// Waits for datagrams, a change, or the next due time; tells which clients have replies.
    fn wait(&mut self, due_us: Option<u64>) -> io::Result<Vec<Peer>> {
        let limit = due_us.map_or(IDLE_CHECK, |due_us| {
            Duration::from_micros(due_us.saturating_sub(self.shared.now_us())).min(IDLE_CHECK)
        });
        // Rounded up: waking before the time would spin.
        let limit_ms = limit.as_micros().div_ceil(1000);
        let limit = PollTimeout::try_from(limit_ms).unwrap_or(PollTimeout::MAX);
        let mut ids = Vec::with_capacity(self.clients.len());
        let mut fds = Vec::with_capacity(self.clients.len() + 2);
        fds.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        for (&peer, client) in &self.clients {
            ids.push(peer);
            fds.push(PollFd::new(client.upstream.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, limit) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any() == Some(true);
        let is_woken = is_ready(&fds[0]);
        let ready = ids.into_iter().zip(&fds[2..]);
        let ready = ready.filter(|(_, fd)| is_ready(fd)).map(|(peer, _)| peer).collect();
        if is_woken {
            // Only that it is readable says something.
            let _ = io::Read::read(&mut &self.wake, &mut [0; 64]);
        }
        Ok(ready)
    }

    fn receive_requests(&mut self) {
        // Bounded, so that a flood of requests does not keep replies waiting.
        for _ in 0..BATCH {
            match self.listener.recv_from(&mut self.buffer) {
                Ok((len, from)) => {
                    if let Some(peer) = self.peer(from) {
                        self.hand_over(peer, Direction::Request, len);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => tracing::debug!("listening: {error}"),
            }
        }
    }

    fn receive_replies(&mut self, peer: Peer) {
        for _ in 0..BATCH {
            let Some(client) = self.clients.get_mut(&peer) else {
                return;
            };
            match client.upstream.recv(&mut self.buffer) {
                Ok(len) => {
                    client.heard = Instant::now();
                    self.hand_over(peer, Direction::Reply, len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // "Connection refused" tells that no server is there: nothing to pass on.
                Err(error) => tracing::debug!("server: {error}"),
            }
        }
    }

    fn hand_over(&mut self, peer: Peer, direction: Direction, len: usize) {
        let bytes = self.buffer[..len].to_vec();
        self.shared.core().handle_datagram(self.shared.now_us(), peer, direction, bytes);
        self.shared.seen.notify_all();
    }

    /// The client at this address, with a socket of its own; `None` if there can be none now.
    fn peer(&mut self, addr: SocketAddr) -> Option<Peer> {
        if let Some(&peer) = self.peers.get(&addr) {
            if let Some(client) = self.clients.get_mut(&peer) {
                client.heard = Instant::now();
            }
            return Some(peer);
        }
        let upstream = match connect(self.target) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!("no socket for client {addr}, its datagram is lost: {error}");
                return None;
            }
        };
        let peer = self.next_peer;
        self.next_peer += 1;
        tracing::debug!("client {addr} appears");
        self.clients.insert(peer, Client { addr, upstream, heard: Instant::now() });
        self.peers.insert(addr, peer);
        Some(peer)
    }

    fn forget_idle(&mut self) {
        let idle = self.clients.iter().filter(|(_, client)| client.heard.elapsed() > IDLE);
        let idle: Vec<(Peer, SocketAddr)> = idle.map(|(&peer, c)| (peer, c.addr)).collect();
        for (peer, addr) in idle {
            tracing::debug!("client {addr} was silent for long and is forgotten");
            self.clients.remove(&peer);
            self.peers.remove(&addr);
            self.shared.core().forget(peer);
        }
    }
}

fn connect(target: SocketAddrV4) -> io::Result<UdpSocket> {
    let local = if target.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The largest UDP datagram: the proxy also relays what is not of this protocol.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Datagrams taken from one socket in a row.
const BATCH: usize = 64;
/// A client silent for this long is forgotten; waiters ask at least once a minute.
const IDLE: Duration = Duration::from_secs(300);
/// How often the silent ones are looked for.
const IDLE_CHECK: Duration = Duration::from_secs(30);
