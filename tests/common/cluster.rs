//! Several real `batond` that are one cluster, on 127.0.0.1.

use super::{Server, eventually};
use baton::protocol::{Op, Outcome, Request};
use baton::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use baton::wire;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Cluster {
    pub servers: Vec<Server>,
    pub is_up: Vec<bool>,
    dir: TempDir,
}

impl Cluster {
    /// Starts `size` servers with these flags besides those that make them one cluster.
    pub fn start(size: usize, flags: &[&str]) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        // Ports that are free now; nobody else is likely to take them until the servers do.
        let held: Vec<_> = (0..size).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let list: Vec<_> = held
            .iter()
            .enumerate()
            .map(|(at, listener)| format!("{}={}", at + 1, listener.local_addr().unwrap()))
            .collect();
        let list = list.join(",");
        drop(held);
        let servers = (1..=size)
            .map(|id| {
                let (id, traces) = (id.to_string(), dir.path().join(format!("traces{id}")));
                let data = dir.path().join(&id);
                let mut all = vec!["--node", &id, "--cluster", &list];
                all.extend(flags);
                Server::start_traced(&data, &all, &traces)
            })
            .collect();
        Cluster { servers, is_up: vec![true; size], dir }
    }

    /// What a client is given.
    pub fn list(&self) -> String {
        let addrs: Vec<_> = self.servers.iter().map(|server| server.addr().to_string()).collect();
        addrs.join(",")
    }

    /// The server that leads now; waits for one.
    pub fn leader(&self) -> usize {
        let mut found = None;
        eventually("there is a leader", || {
            let up = (0..self.servers.len()).filter(|at| self.is_up[*at]);
            found = up.into_iter().find(|at| self.leads(*at));
            found.is_some()
        });
        found.unwrap()
    }

    /// Some server that is up and does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        (0..self.servers.len()).find(|at| self.is_up[*at] && *at != leader).unwrap()
    }

    pub fn kill(&mut self, at: usize) {
        self.servers[at].kill();
        self.is_up[at] = false;
    }

    pub fn restart(&mut self, at: usize) {
        self.servers[at].restart();
        self.is_up[at] = true;
    }

    /// Waits until the file holds this on every server that is up.
    pub fn all_hold(&self, file: &str, content: &str) {
        for (server, is_up) in self.servers.iter().zip(&self.is_up) {
            if *is_up {
                let what = format!("{file} is {content:?} on {}", server.addr());
                eventually(&what, || server.file(file) == content);
            }
        }
    }

    /// What the servers have traced, one after the other.
    pub fn traces(&self) -> String {
        let read = |id: usize| {
            std::fs::read_to_string(self.dir.path().join(format!("traces{id}"))).unwrap_or_default()
        };
        (1..=self.servers.len()).map(read).collect()
    }

    pub fn data(&self, at: usize) -> PathBuf {
        self.dir.path().join((at + 1).to_string())
    }

    /// Whether the server answers as a leader does.
    pub fn leads(&self, at: usize) -> bool {
        matches!(ask(&self.servers[at]), Some(Outcome::Refused { .. }))
    }
}

/// What a server says to a session that there is not, if it says anything.
pub fn ask(server: &Server) -> Option<Outcome<'static>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.addr()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let request = Request {
        session: SessionId(u64::MAX),
        number: RequestNumber(1),
        attempt: Attempt(1),
        stamp: Stamp(1),
        token: FencingToken(0),
        lock: LockId(0),
        op: Op::Renew,
    };
    let mut bytes = Vec::new();
    wire::encode_request(&request, &mut bytes);
    socket.send(&bytes).ok()?;
    let mut buffer = [0; 1500];
    let len = socket.recv(&mut buffer).ok()?;
    match wire::decode_reply(&buffer[..len]).ok()?.outcome {
        Outcome::Refused { status, reason } => Some(Outcome::Refused { status, reason }),
        Outcome::NotLeader { leader } => Some(Outcome::NotLeader { leader }),
        _ => None,
    }
}

/// How long something took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = work();
    (result, began.elapsed())
}
