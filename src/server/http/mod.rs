//! The operator's HTTP endpoint, off unless asked for: health, metrics, JSON and the status page,
//! to be read only. One thread serves all connections by turns; it never waits for any of them,
//! has at most [`CONNECTIONS_MAX`] and answers at most [`REQUESTS_MAX`] times a second, so that
//! nobody who can reach it takes more than a small part of one core from the lock's clients.
//!
//! The crate httparse reads the requests: it does only that, on bytes that are here already. The
//! servers that go without an async runtime (tiny_http, and rouille over it) start threads as
//! connections come and know no time-outs: a few idle connections would stay for good.

mod measures;
mod procfs;
mod reply;
mod routes;

use super::threads::Server;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use reply::{Reply, Status};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Connections at once; for one more the one that has been here longest is dropped.
const CONNECTIONS_MAX: usize = 64;
/// Answers in a second; what comes beyond waits for the next.
const REQUESTS_MAX: u32 = 200;
/// The longest request, in bytes: line and headers, as there is never a body.
const REQUEST_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
/// How long a connection has to ask, to take the answer, and to go.
const ASK_WITHIN: Duration = Duration::from_secs(5);
const TAKE_WITHIN: Duration = Duration::from_secs(10);
const GO_WITHIN: Duration = Duration::from_secs(1);
/// How long no connection is taken after one could not be.
const REST: Duration = Duration::from_millis(200);

/// Where the endpoint listens.
pub struct Endpoint {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Endpoint {
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        Ok(Endpoint { listener, addr })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves for as long as the process lives.
    pub fn serve(self, server: &Arc<Server>) -> io::Result<()> {
        let server = Arc::clone(server);
        let mut service = Service {
            is_local: self.addr.ip().is_loopback(),
            endpoint: self,
            server,
            connections: Vec::new(),
            rest_until: Instant::now(),
            second: Instant::now(),
            answered: 0,
        };
        thread::Builder::new().name("http".into()).spawn(move || service.run()).map(|_| ())
    }
}

struct Service {
    endpoint: Endpoint,
    server: Arc<Server>,
    is_local: bool,
    /// Oldest first.
    connections: Vec<Connection>,
    rest_until: Instant,
    /// When the current second of counting began, and what was answered in it.
    second: Instant,
    answered: u32,
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    deadline: Instant,
}

enum Stage {
    Asking(Vec<u8>),
    /// The answer, and how much of it has been sent.
    Taking(Vec<u8>, usize),
    /// All is sent: the other side closes, or time does.
    Going,
}

impl Service {
    fn run(&mut self) {
        loop {
            self.wait();
            let now = Instant::now();
            self.accept(now);
            let mut connections = std::mem::take(&mut self.connections);
            connections.retain_mut(|connection| {
                let is_alive = connection.deadline > now;
                is_alive && self.step(connection).unwrap_or(false)
            });
            self.connections = connections;
        }
    }

    /// Sleeps until a connection can go on, or one of them has run out of time.
    fn wait(&self) {
        let now = Instant::now();
        let is_paced = self.is_paced(now);
        let mut fds = Vec::with_capacity(1 + self.connections.len());
        let mut until = self.connections.iter().map(|one| one.deadline).min();
        let mut wake = |at: Instant| until = Some(until.map_or(at, |until| until.min(at)));
        if now >= self.rest_until {
            fds.push(PollFd::new(self.endpoint.listener.as_fd(), PollFlags::POLLIN));
        } else {
            wake(self.rest_until);
        }
        for connection in &self.connections {
            let events = match connection.stage {
                Stage::Taking(..) => PollFlags::POLLOUT,
                Stage::Asking(_) if is_paced => {
                    wake(self.second + Duration::from_secs(1));
                    continue;
                }
                Stage::Asking(_) | Stage::Going => PollFlags::POLLIN,
            };
            fds.push(PollFd::new(connection.stream.as_fd(), events));
        }
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            // One millisecond more: poll cuts off, and must not come back too early for ever.
            let left = until.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        // A signal, or too little memory for the moment: looking at all of them does no harm.
        if let Err(error) = poll(&mut fds, timeout) {
            debug!(%error, "http poll");
        }
    }

    /// Enough was answered in this second.
    fn is_paced(&self, now: Instant) -> bool {
        self.answered >= REQUESTS_MAX && now < self.second + Duration::from_secs(1)
    }

    fn accept(&mut self, now: Instant) {
        if now < self.rest_until {
            return;
        }
        loop {
            match self.endpoint.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    if self.connections.len() >= CONNECTIONS_MAX {
                        self.connections.remove(0);
                    }
                    let (stage, deadline) = (Stage::Asking(Vec::new()), now + ASK_WITHIN);
                    self.connections.push(Connection { stream, stage, deadline });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It was gone before it was taken.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, "cannot take an HTTP connection");
                    self.rest_until = now + REST;
                    return;
                }
            }
        }
    }

    /// Goes on with a connection as far as it goes now. Returns whether it is to be kept.
    fn step(&mut self, connection: &mut Connection) -> io::Result<bool> {
        loop {
            match &mut connection.stage {
                Stage::Asking(bytes) => {
                    if self.is_paced(Instant::now()) || !read_more(&mut connection.stream, bytes)? {
                        return Ok(true);
                    }
                    let Some(reply) = self.answer(bytes) else { continue };
                    connection.stage = Stage::Taking(reply.encode(), 0);
                    connection.deadline = Instant::now() + TAKE_WITHIN;
                }
                Stage::Taking(bytes, sent) => {
                    while *sent < bytes.len() {
                        match connection.stream.write(&bytes[*sent..]) {
                            Ok(0) => return Ok(false),
                            Ok(more) => *sent += more,
                            Err(error) if is_later(&error) => return Ok(true),
                            Err(error) => return Err(error),
                        }
                    }
                    // Closing with something unread would reset the connection, and the other side
                    // might never see the answer.
                    connection.stream.shutdown(Shutdown::Write)?;
                    connection.stage = Stage::Going;
                    connection.deadline = Instant::now() + GO_WITHIN;
                }
                Stage::Going => {
                    let mut rest = Vec::new();
                    while read_more(&mut connection.stream, &mut rest)? {
                        rest.clear();
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// The answer to what has come so far; none while it is not whole.
    fn answer(&mut self, bytes: &[u8]) -> Option<Reply> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let reply = match request.parse(bytes) {
            Ok(httparse::Status::Partial) if bytes.len() < REQUEST_MAX => return None,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Reply::text(Status::TooLarge, "the request is too long")
            }
            Err(error) => Reply::text(Status::Bad, format!("not an HTTP request: {error}")),
            Ok(httparse::Status::Complete(_)) => {
                routes::answer(&self.server, &request, self.is_local)
            }
        };
        let now = Instant::now();
        if now >= self.second + Duration::from_secs(1) {
            (self.second, self.answered) = (now, 0);
        }
        self.answered += 1;
        Some(reply)
    }
}

/// Reads what there is. False when nothing more is there now; an error also at the end.
fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 2048];
    let room = buffer.len().min(REQUEST_MAX.saturating_sub(bytes.len()).max(1));
    match stream.read(&mut buffer[..room]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(read) => {
            bytes.extend_from_slice(&buffer[..read]);
            Ok(true)
        }
        Err(error) if is_later(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
