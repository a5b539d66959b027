//! Several real `batond` that are one cluster, on 127.0.0.1.

use super::{Server, eventually, hermetic};
use baton::protocol::{Op, Outcome, Request};
use baton::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use baton::wire;
use serde_json::Value;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Cluster {
    pub servers: Vec<Server>,
    pub is_up: Vec<bool>,
    /// Where the servers reach each other.
    pub peers: Vec<String>,
    dir: TempDir,
}

impl Cluster {
    /// Starts `size` servers with these flags besides those that make them one cluster.
    pub fn start(size: usize, flags: &[&str]) -> Cluster {
        Cluster::start_over(size, flags, tempfile::tempdir().unwrap())
    }

    /// The same in a directory of which parts are there.
    pub fn start_over(size: usize, flags: &[&str], dir: TempDir) -> Cluster {
        let peers = free_ports(size);
        let list = numbered(&peers);
        let servers = (1..=size)
            .map(|id| {
                let (id, traces) = (id.to_string(), dir.path().join(format!("traces{id}")));
                let data = dir.path().join(&id);
                let mut all = vec!["--node", &id, "--cluster", &list];
                all.extend(flags);
                Server::start_traced(&data, &all, &traces)
            })
            .collect();
        Cluster { servers, is_up: vec![true; size], peers, dir }
    }

    /// What a client is given.
    pub fn list(&self) -> String {
        let addrs: Vec<_> = self.servers.iter().map(|server| server.addr().to_string()).collect();
        addrs.join(",")
    }

    /// What `--cluster` says to its servers.
    pub fn list_of_peers(&self) -> String {
        numbered(&self.peers)
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

    /// The servers that are up.
    pub fn up(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|at| self.is_up[*at]).collect()
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

    /// Starts a server that asks to be let in, with the next number, and lets it in.
    pub fn add(&mut self, flags: &[&str]) -> usize {
        let at = self.servers.len();
        let id = (at + 1).to_string();
        let peer = free_ports(1).remove(0);
        let seeds = self.peers.join(",");
        let mut all = vec!["--node", &id, "--join", &seeds, "--peer-listen", &peer];
        all.extend(flags);
        let (data, traces) = (self.data(at), self.dir.path().join(format!("traces{id}")));
        let server = thread::scope(|scope| {
            let starting = scope.spawn(|| Server::start_traced(&data, &all, &traces));
            self.baton_ok(&["add", &format!("{id}={peer}")]);
            starting.join().unwrap()
        });
        self.servers.push(server);
        self.is_up.push(true);
        self.peers.push(peer);
        at
    }

    /// Runs `baton cluster` with these arguments.
    pub fn baton(&self, args: &[&str]) -> Output {
        let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
        command.arg("cluster").args(args).env("BATON_SERVER", self.list()).output().unwrap()
    }

    pub fn baton_ok(&self, args: &[&str]) -> String {
        let output = self.baton(args);
        assert!(output.status.success(), "{args:?}: {output:?}\n{}", self.traces());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `baton cluster status` says.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.baton_ok(&["status", "--json"])).unwrap()
    }

    /// The roles of the servers by their numbers, as the leader sees them.
    pub fn roles(&self) -> Vec<(u64, String)> {
        let status = self.status();
        let servers = status["servers"].as_array().unwrap().iter();
        let role = |server: &Value| {
            (server["number"].as_u64().unwrap(), server["role"].as_str().unwrap().to_owned())
        };
        servers.map(role).collect()
    }

    pub fn traces_of(&self, at: usize) -> String {
        let path = self.dir.path().join(format!("traces{}", at + 1));
        std::fs::read_to_string(path).unwrap_or_default()
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

fn numbered(peers: &[String]) -> String {
    let numbered = peers.iter().enumerate().map(|(at, addr)| format!("{}={addr}", at + 1));
    numbered.collect::<Vec<_>>().join(",")
}

/// Addresses that are free now; nobody else is likely to take them until servers do.
pub fn free_ports(count: usize) -> Vec<String> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
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
        after: Attempt(0),
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
