//! What all parts of a simulated world share: virtual time, what is to come, chance, the network,
//! the story.

use super::network::{Direction, Network};
use super::plan::Plan;
use super::story::{Story, What};
use crate::engine::solo::{Ending, Job};
use crate::protocol::Reply;
use crate::proxy::random::Random;
use crate::server::core::Now;
use crate::types::FileId;
use crate::wire;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddrV4;

pub struct Context {
    /// Virtual time in microseconds.
    pub now: u64,
    pub random: Random,
    pub plan: Plan,
    pub network: Network,
    pub story: Story,
    queue: BinaryHeap<Scheduled>,
    sequence: u64,
    /// Calls that programs have begun.
    pub calls: u64,
    /// Programs put their things in order and end; there are no faults any more.
    pub is_ending: bool,
    /// Power losses so far.
    pub power_losses: u64,
    /// The disk was full at some time.
    pub was_full: bool,
    /// A client has just been told of its grant.
    pub told_grant: Option<(usize, u64)>,
}

/// Something that is to come.
pub enum Event {
    /// A datagram arrives.
    ToServer {
        from: SocketAddrV4,
        bytes: Vec<u8>,
    },
    ToClient {
        to: SocketAddrV4,
        bytes: Vec<u8>,
    },
    /// The server's thread that has a datagram since `taken` gets the lock.
    Serve {
        life: u64,
        from: SocketAddrV4,
        bytes: Vec<u8>,
        taken: Now,
    },
    /// A program makes its next call.
    Think {
        client: usize,
        life: u64,
    },
    /// A client looks at the clock.
    Wake {
        client: usize,
        timer: u64,
    },
    /// A deadline of the server.
    Tick {
        life: u64,
        at: u64,
    },
    /// A job reaches the disk; later the server learns how it ended.
    Run {
        life: u64,
        job: Job,
    },
    Ran {
        life: u64,
        job: Job,
        ending: Ending,
    },
    Read {
        life: u64,
        to: SocketAddrV4,
        reply: Reply<'static>,
        file: FileId,
        offset: u64,
        max: u32,
    },
    Checkpoint {
        life: u64,
    },
    ServerStarts,
    /// Some fault begins or ends.
    Fault,
    DiskHeals,
    /// The weather changes.
    Weather,
    /// The end of waiting for something that has to have happened by now.
    Deadline {
        stage: u32,
    },
}

struct Scheduled {
    at: u64,
    sequence: u64,
    event: Event,
}

impl Context {
    pub fn new(plan: Plan, random: Random, story: Story) -> Context {
        Context {
            now: 0,
            random,
            network: Network::new(plan.clients + 1),
            plan,
            story,
            queue: BinaryHeap::new(),
            sequence: 0,
            calls: 0,
            is_ending: false,
            power_losses: 0,
            was_full: false,
            told_grant: None,
        }
    }

    /// Has the event come at this time; events of the same time come in the order of these calls.
    pub fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Scheduled { at: at.max(self.now), sequence: self.sequence, event });
    }

    /// The next event, and its time has come.
    pub fn next(&mut self) -> Option<Event> {
        let Scheduled { at, event, .. } = self.queue.pop()?;
        self.now = at;
        Some(event)
    }

    /// Sends a datagram of or to a client, whose address is `peer`.
    pub fn send(&mut self, client: usize, way: Direction, peer: SocketAddrV4, bytes: Vec<u8>) {
        let arrives = self.network.fate(client, way, self.now, &mut self.random);
        self.story.tell(self.now, || What::Sent {
            client,
            direction: way,
            message: describe(way, &bytes),
            arrives: arrives.iter().flatten().copied().collect(),
        });
        let mut deliver = |at: Option<u64>, bytes: Vec<u8>| {
            if let Some(at) = at {
                let event = match way {
                    Direction::ToServer => Event::ToServer { from: peer, bytes },
                    Direction::ToClient => Event::ToClient { to: peer, bytes },
                };
                self.at(at, event);
            }
        };
        if arrives[1].is_some() {
            deliver(arrives[1], bytes.clone());
        }
        deliver(arrives[0], bytes);
    }
}

/// A datagram for people.
fn describe(way: Direction, bytes: &[u8]) -> String {
    let text = match way {
        Direction::ToServer => wire::decode_request(bytes)
            .map(|request| format!("#{}.{} {:?}", request.number, request.attempt, request.op)),
        Direction::ToClient => wire::decode_reply(bytes)
            .map(|reply| format!("#{}.{} {:?}", reply.number, reply.attempt, reply.outcome)),
    };
    let mut text = text.unwrap_or_else(|why| why.to_string());
    if let Some(at) = text.find(", data: [") {
        text.truncate(at);
    }
    text
}

impl Ord for Scheduled {
    /// The greatest is the one that comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}
