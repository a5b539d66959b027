//! A server's core with its clients, in one thread, with a disk that is done at once: the path of
//! a request without system calls, from bytes to bytes.

use super::speaker::{Heard, Speaker, Step, at, settings};
use baton::engine::solo::{Ending, Job};
use baton::machine::Machine;
use baton::server::core::{Action, Core};
use baton::types::LogIndex;
use baton::wire;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

/// Requests in one millisecond of the world's time.
const REQUESTS_PER_MS: u64 = 100;
const DATA: [u8; 32] = [b'x'; 32];

pub struct World {
    core: Core,
    clients: Vec<Speaker>,
    /// Who has something to ask, in turn.
    ready: VecDeque<usize>,
    requests: u64,
    sections: u64,
    actions: Vec<Action>,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl World {
    /// A server and its clients, all registered.
    pub fn new(clients: usize) -> Self {
        let core = Core::new(settings(true), Machine::default(), LogIndex(0), at(0));
        let mut world = World {
            core,
            clients: (0..clients).map(|number| Speaker::new(number as u64 + 1, true)).collect(),
            ready: (0..clients).collect(),
            requests: 0,
            sections: 0,
            actions: Vec::new(),
            request: Vec::new(),
            reply: Vec::new(),
        };
        let mut actions = Vec::new();
        world.core.boot(1, at(0), &mut actions);
        world.run_disk();
        while world.clients.iter().any(|client| client.step == Step::Init) {
            world.step();
        }
        world
    }

    /// Goes on until so many sections more are published.
    pub fn run(&mut self, sections: u64) {
        let goal = self.sections + sections;
        while self.sections < goal {
            self.step();
        }
    }

    /// One request and everything that follows from it.
    fn step(&mut self) {
        let Some(number) = self.ready.pop_front() else {
            panic!("all clients wait: the lock is stuck");
        };
        self.requests += 1;
        let now = at(self.requests / REQUESTS_PER_MS);
        let request = self.clients[number].request(self.requests, &DATA);
        wire::encode_request(&request, &mut self.request);
        let request = wire::decode_request(&self.request).expect("just encoded");
        let mut actions = std::mem::take(&mut self.actions);
        self.core.handle_request(addr_of(number), &request, now, &mut actions);
        self.actions = actions;
        self.run_disk();
    }

    fn run_disk(&mut self) {
        let now = at(self.requests / REQUESTS_PER_MS);
        self.deliver();
        while let Some(job) = self.core.poll_job() {
            match job {
                Job::Write(batch) => {
                    self.core.handle_written(batch, Ending::Done, now, &mut self.actions);
                }
                Job::Flush(mut flush) => {
                    flush.parts.clear();
                    self.core.handle_flushed(flush, Ending::Done, now, &mut self.actions);
                }
            }
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        for action in self.actions.drain(..) {
            let Action::Send { to, reply } = action else { continue };
            wire::encode_reply(&reply, &mut self.reply);
            let reply = wire::decode_reply(&self.reply).expect("just encoded");
            let number = usize::from(to.port()) - 1;
            let client = &mut self.clients[number];
            let was = client.step;
            match client.hear(&reply) {
                Heard::Next => {
                    self.sections += u64::from(was == Step::Release);
                    self.ready.push_back(number);
                }
                Heard::Turn => self.ready.push_back(number),
                Heard::Waits(_) | Heard::Stale => {}
            }
        }
    }
}

fn addr_of(number: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, number as u16 + 1))
}
