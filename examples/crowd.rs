//! A crowd of sessions in one thread, over one socket: how much memory they cost the server, and
//! how fast the lock passes on while they wait.
//!
//!     crowd SERVER SERVER_PID SESSIONS idle|wait SECONDS
//!
//! Prints one JSON object.

#[path = "../benches/support/speaker.rs"]
mod speaker;

use baton::limits::DATAGRAM_MAX;
use baton::wire;
use nix::sys::socket::{setsockopt, sockopt};
use speaker::{Heard, Speaker, Step};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Requests on their way at once while the crowd gathers.
const GATHERING: usize = 256;
/// A request that was not answered is sent again after this.
const AGAIN_US: u64 = 200_000;
const RECEIVE_BUFFER: usize = 8 << 20;

struct Crowd {
    socket: UdpSocket,
    start: Instant,
    speakers: Vec<Speaker>,
    by_session: HashMap<u64, usize>,
    /// When each asks (again), in microseconds; entries that no longer agree are stale.
    due: Vec<u64>,
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    bytes: Vec<u8>,
    grants: u64,
    asked_again: u64,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, pid, sessions, mode, seconds] = &arguments[..] else {
        eprintln!("usage: crowd SERVER SERVER_PID SESSIONS idle|wait SECONDS");
        std::process::exit(2);
    };
    let parse = |text: &String| text.parse::<u64>().map_err(io::Error::other);
    let before = resident_kb(pid)?;
    let mut crowd = Crowd::new(server.parse().map_err(io::Error::other)?, parse(sessions)?)?;
    crowd.gather(|speaker| speaker.step == Step::Init)?;
    let gathered = crowd.start.elapsed().as_secs_f64();
    if mode == "wait" {
        crowd.queue()?;
    }
    let after = resident_kb(pid)?;
    let duration = Duration::from_secs(parse(seconds)?);
    let (grants, asked) = (crowd.grants, crowd.asked_again);
    let begun = Instant::now();
    if mode == "wait" {
        crowd.take_turns(begun + duration)?;
    }
    println!(
        "{{\"sessions\": {sessions}, \"gathered_s\": {gathered:.3}, \"before_kb\": {before}, \
         \"after_kb\": {after}, \"end_kb\": {}, \"grants\": {}, \"asked_again\": {}, \
         \"per_second\": {:.1}}}",
        resident_kb(pid)?,
        crowd.grants - grants,
        crowd.asked_again - asked,
        (crowd.grants - grants) as f64 / begun.elapsed().as_secs_f64().max(1e-9),
    );
    Ok(())
}

impl Crowd {
    fn new(server: SocketAddr, sessions: u64) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        let nonces = u64::from(std::process::id()) << 32;
        Ok(Crowd {
            socket,
            start: Instant::now(),
            speakers: (0..sessions).map(|number| Speaker::new(nonces + number, false)).collect(),
            by_session: HashMap::new(),
            due: vec![u64::MAX; sessions as usize],
            timers: BinaryHeap::new(),
            bytes: Vec::new(),
            grants: 0,
            asked_again: 0,
        })
    }

    /// Has all sessions of which this is true make their request, until it is true of none.
    fn gather(&mut self, is_missing: impl Fn(&Speaker) -> bool) -> io::Result<()> {
        let mut todo: VecDeque<usize> = (0..self.speakers.len()).collect();
        let mut under_way: Vec<usize> = Vec::new();
        while !(todo.is_empty() && under_way.is_empty()) {
            while under_way.len() < GATHERING
                && let Some(number) = todo.pop_front()
            {
                self.ask(number)?;
                under_way.push(number);
            }
            self.listen(Some(&under_way))?;
            self.ask_due()?;
            under_way.retain(|&number| is_missing(&self.speakers[number]));
        }
        Ok(())
    }

    /// The first session takes the lock, all others queue for it.
    fn queue(&mut self) -> io::Result<()> {
        self.ask(0)?;
        while self.speakers[0].step == Step::Acquire {
            self.listen(None)?;
        }
        let mut next = 1;
        while next < self.speakers.len() {
            let end = (next + GATHERING).min(self.speakers.len());
            for number in next..end {
                self.ask(number)?;
            }
            // A queued session is due no sooner than it was told to ask again.
            let is_queued = |due: u64, now: u64| due > now + AGAIN_US || due == u64::MAX;
            loop {
                self.listen(None)?;
                let now = self.now();
                if (next..end).all(|number| number < 4 || is_queued(self.due[number], now)) {
                    break;
                }
                self.ask_due()?;
            }
            next = end;
        }
        Ok(())
    }

    /// Whoever is granted the lock gives it back at once and queues again.
    fn take_turns(&mut self, until: Instant) -> io::Result<()> {
        self.ask(0)?;
        while Instant::now() < until {
            if let Some(number) = self.listen(None)? {
                self.ask(number)?;
            }
            self.ask_due()?;
        }
        Ok(())
    }

    fn ask(&mut self, number: usize) -> io::Result<()> {
        let now = self.now();
        let request = self.speakers[number].request(now, &[]);
        wire::encode_request(&request, &mut self.bytes);
        self.socket.send(&self.bytes)?;
        self.set_due(number, now + AGAIN_US);
        Ok(())
    }

    /// Takes one datagram; the session that has something to ask now, if any.
    fn listen(&mut self, joining: Option<&[usize]>) -> io::Result<Option<usize>> {
        let mut buffer = [0; DATAGRAM_MAX];
        let len = match self.socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let reply = wire::decode_reply(&buffer[..len]).map_err(io::Error::other)?;
        let known = self.by_session.get(&reply.session.0).copied();
        // Sessions that are joining are told apart by their attempts, which they drew.
        let joiner = || {
            let is_it = |number: &&usize| {
                let speaker = &self.speakers[**number];
                speaker.step == Step::Init && speaker.request(0, &[]).attempt == reply.attempt
            };
            joining?.iter().find(is_it).copied()
        };
        let Some(number) = known.or_else(joiner) else { return Ok(None) };
        let was = self.speakers[number].step;
        match self.speakers[number].hear(&reply) {
            Heard::Stale => Ok(None),
            Heard::Waits(ms) => {
                let now = self.now();
                self.set_due(number, now + u64::from(ms) * 1000);
                Ok(None)
            }
            Heard::Turn => Ok(Some(number)),
            Heard::Next => {
                self.due[number] = u64::MAX;
                if was == Step::Init {
                    self.by_session.insert(reply.session.0, number);
                }
                self.grants += u64::from(was == Step::Acquire);
                Ok(Some(number))
            }
        }
    }

    fn ask_due(&mut self) -> io::Result<()> {
        let now = self.now();
        while let Some(&Reverse((due, number))) = self.timers.peek()
            && due <= now
        {
            self.timers.pop();
            if self.due[number] == due {
                self.asked_again += 1;
                self.ask(number)?;
            }
        }
        Ok(())
    }

    fn set_due(&mut self, number: usize, due: u64) {
        self.due[number] = due;
        self.timers.push(Reverse((due, number)));
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

fn resident_kb(pid: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kb.ok_or_else(|| io::Error::other("no VmRSS"))
}
