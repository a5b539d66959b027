//! What all parts of a simulated world share: virtual time, what is to come, chance, the network,
//! the story.

use super::cluster::MemberStep;
use super::network::{Direction, Network};
use super::plan::{Bounds, Plan};
use super::story::{Story, What, short};
use crate::engine::solo::{Ending, Job};
use crate::limits::LINGER_MS;
use crate::protocol::{Op, Outcome, Reason, Reply};
use crate::proxy::random::Random;
use crate::server::core::Limits;
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
    pub bounds: Bounds,
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
    /// When the disk was full: from, to.
    pub full: Vec<(u64, u64)>,
    /// When the server last had as many sessions, and waiters, as it may have.
    pub crowded: Crowded,
    /// When the server started last.
    pub started_at: u64,
    /// The servers that clients know.
    pub servers: usize,
    /// Datagrams meet the fate that a story gives them.
    pub is_staged: bool,
    /// So long a call may take when nothing goes wrong, and nobody is waited for.
    pub prompt_us: u64,
    /// A client has just been told of its grant.
    pub told_grant: Option<(usize, u64)>,
}

/// When limits were reached last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowded {
    pub sessions: Option<u64>,
    pub waiters: Option<u64>,
}

/// Something that is to come.
pub enum Event {
    /// A datagram arrives.
    ToServer {
        server: usize,
        from: SocketAddrV4,
        bytes: Vec<u8>,
    },
    ToClient {
        server: usize,
        to: SocketAddrV4,
        bytes: Vec<u8>,
    },
    /// The server's thread that has a datagram gets the lock.
    Serve {
        life: u64,
        from: SocketAddrV4,
        bytes: Vec<u8>,
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
    /// Another thread of a client does not want its call to wait any more.
    Cancel {
        client: usize,
        call: u64,
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
    /// An operator of a cluster looks at it.
    Operator,
    /// Nothing; a story waits for it.
    Pause,
    /// A step of a server of a cluster, in this life of its.
    Member {
        server: usize,
        life: u64,
        step: MemberStep,
    },
    /// The end of waiting for something that has to have happened by now.
    Deadline {
        number: u32,
    },
}

/// A few round trips and syncs.
const PROMPT_US: u64 = 100_000;

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
            bounds: Bounds::of(&plan),
            plan,
            story,
            queue: BinaryHeap::new(),
            sequence: 0,
            calls: 0,
            is_ending: false,
            power_losses: 0,
            full: Vec::new(),
            crowded: Crowded::default(),
            started_at: 0,
            servers: 1,
            is_staged: false,
            prompt_us: PROMPT_US,
            told_grant: None,
        }
    }

    /// Operators change settings.
    pub fn reload(&mut self) {
        self.plan.reload(&mut self.random);
        self.bounds.include(&self.plan);
        let Plan { lease_ms, section_limit, limits, .. } = &self.plan;
        let what = format!("lease {lease_ms} ms, sections to {section_limit}, {limits:?}");
        self.story.tell(self.now, || What::World(what));
    }

    /// A server is about to start.
    pub fn restart(&mut self) {
        self.plan.restart(&mut self.random);
        self.bounds.include(&self.plan);
    }

    /// Until when a disk was full, if one was; when stories have it full they say themselves.
    pub fn full_until(&self) -> Option<u64> {
        let last = self.full.iter().map(|(_, to)| *to).max();
        if self.is_staged { last.map(|_| self.now) } else { last }
    }

    /// So many sessions and waiters a server has now, which takes on so many.
    pub fn note_crowd(&mut self, (sessions, waiters): (u64, u64), limits: &Limits) {
        let Crowded { sessions: filled, waiters: queued } = &mut self.crowded;
        *filled = if sessions >= limits.sessions { Some(self.now) } else { *filled };
        *queued = if waiters >= limits.waiters { Some(self.now) } else { *queued };
    }

    /// How long it may take until a client that there is no room for may register.
    pub fn crowded_us(&self) -> u64 {
        let rest_ms = 2 * self.plan.session_ttl_ms.max(LINGER_MS);
        if self.bounds.limits_sessions { rest_ms * 1000 } else { 0 }
    }

    /// Storm or calm between clients and servers, and with `others` elsewhere, until the next one.
    pub fn weather(&mut self, others: impl FnOnce(bool, &mut Random)) {
        if self.is_ending {
            return;
        }
        let is_storm = self.random.chance(0.5);
        if is_storm {
            self.network.storm(&self.plan.faults, self.plan.lease_ms, &mut self.random);
        } else {
            self.network.calm();
        }
        others(is_storm, &mut self.random);
        let what = if is_storm { "storm" } else { "calm" };
        self.story.tell(self.now, || What::World(what.into()));
        let wait = self.random.between(20_000, 1_000_000);
        self.at(self.now + wait, Event::Weather);
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

    /// Sends a datagram between a client, whose address is `peer`, and a server.
    pub fn send(
        &mut self,
        (client, server): (usize, usize),
        way: Direction,
        peer: SocketAddrV4,
        bytes: Vec<u8>,
    ) {
        let between = (client, server);
        let arrives = self.network.fate(between, way, self.now, &mut self.random);
        self.story.tell(self.now, || What::Sent {
            client,
            server,
            direction: way,
            message: describe(way, &bytes),
            arrives: arrives.iter().flatten().copied().collect(),
        });
        let mut deliver = |at: Option<u64>, bytes: Vec<u8>| {
            if let Some(at) = at {
                let event = match way {
                    Direction::ToServer => Event::ToServer { server, from: peer, bytes },
                    Direction::ToClient => Event::ToClient { server, to: peer, bytes },
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

/// A datagram for people: what it says and which request it is about.
fn describe(way: Direction, bytes: &[u8]) -> String {
    match way {
        Direction::ToServer => match wire::decode_request(bytes) {
            Ok(request) => format!("{} #{}", describe_op(&request.op), request.number),
            Err(why) => why.to_string(),
        },
        Direction::ToClient => match wire::decode_reply(bytes) {
            Ok(reply) => format!("{} #{}", describe_outcome(&reply.outcome), reply.number),
            Err(why) => why.to_string(),
        },
    }
}

fn describe_op(op: &Op<'_>) -> String {
    match op {
        Op::Init { .. } => "init".into(),
        Op::Acquire { try_only: false } => "acquire".into(),
        Op::Acquire { try_only: true } => "try".into(),
        Op::Cancel => "cancel".into(),
        Op::Append { total, offset, data, .. } if data.len() < *total as usize => {
            format!("append {offset}+{} of {total}", data.len())
        }
        Op::Append { total, .. } => format!("append {total}"),
        Op::Release => "release".into(),
        Op::Abort => "abort".into(),
        Op::Close => "close".into(),
        Op::Renew => "renew".into(),
        Op::Read { offset, .. } => format!("read {offset}"),
        Op::Revoke { token, .. } => format!("revoke {}", short(token.0)),
        Op::Inspect { .. } => "inspect".into(),
        Op::Cluster => "cluster".into(),
        Op::Reform(reform) => format!("{reform:?}"),
    }
}

fn describe_outcome(outcome: &Outcome<'_>) -> String {
    match outcome {
        Outcome::Connected { .. } => "connected".into(),
        Outcome::Granted { token, .. } => format!("granted {}", short(token.0)),
        Outcome::Queued { position: 0, .. } => "your turn".into(),
        Outcome::Queued { position, .. } => format!("queued at {position}"),
        Outcome::Done { .. } => "done".into(),
        Outcome::Disconnected => "disconnected".into(),
        Outcome::Data { length, data } => format!("{} bytes of {length}", data.len()),
        Outcome::Refused { status, reason: Reason::None } => format!("refused: {status:?}"),
        Outcome::NotLeader { leader: None } => "not the leader".into(),
        Outcome::NotLeader { leader: Some(leader) } => format!("ask {}", leader.ip()),
        Outcome::Refused { status, reason } => format!("refused: {status:?} {reason:?}"),
    }
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
