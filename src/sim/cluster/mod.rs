//! A cluster's world: clients, the networks, and servers that are members, from the first call to the
//! last check. What is right is what [`truth`] finds from the entries that are committed.

mod checks;
mod faith;
mod faults;
mod leading;
mod network;
mod operator;
mod plan;
mod promises;
mod server;
mod stage;
mod threads;
mod truth;

use super::client::Client;
use super::context::{Context, Event};
use super::ledger::Ledger;
use super::observe::Leases;
use super::plan::Plan;
use super::story::{Story, What};
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::members::Members;
use crate::machine::Part;
use crate::protocol::{Reform, Reply};
use crate::proxy::random::Random;
use crate::types::{FileId, LogIndex};
use network::Network;
use operator::Wish;
use plan::Limits;
use raft::eraftpb::{Message, MessageType};
use server::Server;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddrV4;
use truth::Truth;

pub struct World {
    pub context: Context,
    pub servers: Vec<Server>,
    pub clients: Vec<Client>,
    pub ledger: Ledger,
    network: Network,
    limits: Limits,
    truth: Truth,
    /// When a server took an entry for committed that was new.
    committed_at: u64,
    /// When a server ended because of its disk, which it may notice late.
    failed_at: u64,
    /// What operators want, and all that they have asked for.
    wish: Wish,
    reforms: Vec<Reform>,
    /// The members, if all of them know who they are, and the last entry when that began.
    known: Option<(Members, u64)>,
    /// Chance of the judge's own: what it looks at changes nothing.
    judge: Random,
    calls: u64,
    pub steps: u64,
    stage: Stage,
    deadlines: u32,
    /// All sessions are to run out in the end.
    expects_nothing: bool,
    /// Tokens whose clients learn of their loss with the next answer.
    excused: BTreeSet<u64>,
    /// States of other servers that were taken over.
    taken_over: u64,
    leases: Leases,
    /// Who led when, as far as anybody knew.
    leaders: std::collections::BTreeMap<u64, usize>,
}

/// How far a run is. From `Ending` on there are no faults any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// All programs put their things in order and end.
    Ending,
    /// One more client takes the lock, which nobody may keep from it.
    Probing,
    /// All servers come to know all that is committed, and in some runs all sessions run out.
    Resting,
    Over,
}

/// What a server of a cluster does next.
pub enum MemberStep {
    Start,
    /// The process is killed, and soon starts again without reaching this other server.
    Forsake(usize),
    /// It asks to be let in.
    Join,
    /// The thread that drives looks at what there is.
    Round {
        due: u64,
    },
    /// The journal's thread writes.
    Journal,
    /// The thread that applies goes on, ...
    Apply,
    /// ... publishes, ...
    Task(VecDeque<Part>),
    /// ... or fetches a piece of a data file.
    Fetch,
    /// A checkpoint is kept, which this message brought if there is one.
    Keep(LogIndex, Box<Checkpoint>, Option<Message>),
    /// Another server's message arrives.
    Hear {
        from: usize,
        connection: u64,
        bytes: Vec<u8>,
    },
    /// A datagram's thread gets the lock.
    Serve {
        from: SocketAddrV4,
        bytes: Vec<u8>,
    },
    /// A deadline.
    Tick {
        due: u64,
    },
    /// Bytes of a file are read and sent.
    Read {
        to: SocketAddrV4,
        reply: Reply<'static>,
        file: FileId,
        offset: u64,
        max: u32,
    },
    /// Whoever stops the process sees whether another one leads by now.
    Stopping {
        tries: u32,
    },
}

type Verdict = Result<(), String>;

impl World {
    pub fn new(seed: u64, servers: usize, calls: u64, story: Story) -> World {
        let mut random = Random::new(seed, servers as u64);
        let (plan, limits) =
            plan::draw(&mut random, &mut Random::new(seed, 78), &mut Random::new(seed, 79));
        let mut world = World::of(seed, servers, plan, limits, random, calls, story);
        for client in 0..world.clients.len() {
            let at = world.context.random.between(0, 400_000);
            world.context.at(at, Event::Think { client, life: 0 });
        }
        if limits.is_changing {
            world.context.at(600_000, Event::Operator);
        }
        if !world.context.plan.is_calm() {
            world.context.at(100_000, Event::Weather);
            world.context.at(300_000, Event::Fault);
        }
        world
    }

    fn of(
        seed: u64,
        servers: usize,
        plan: Plan,
        limits: Limits,
        random: Random,
        calls: u64,
        story: Story,
    ) -> World {
        let mut context = Context::new(plan, random, story);
        context.servers = servers;
        context.prompt_us = PROMPT_US;
        let plan = context.plan.clone();
        context.story.tell(0, || What::Plan(format!("seed {seed}: {plan:?}, {limits:?}")));
        let clients = (0..plan.clients).map(|id| Client::new(id, false, &mut context)).collect();
        let drift = |random: &mut Random| {
            random.between(0, 2 * limits.drift_ppm) as i64 - limits.drift_ppm as i64
        };
        let mut world = World {
            servers: (0..servers).map(|_| Server::new(drift(&mut context.random))).collect(),
            clients,
            ledger: Ledger::new(plan.files),
            network: Network::new(servers, limits.is_harsh),
            limits,
            committed_at: 0,
            failed_at: 0,
            truth: Truth::new(server::founders(servers)),
            wish: Wish::Nothing,
            reforms: Vec::new(),
            known: None,
            judge: Random::new(seed, 77),
            calls,
            steps: 0,
            stage: Stage::Running,
            deadlines: 0,
            expects_nothing: false,
            excused: BTreeSet::new(),
            taken_over: 0,
            leases: Leases::default(),
            leaders: Default::default(),
            context,
        };
        for server in 0..servers {
            let at = world.context.random.between(0, 100_000);
            world.later(server, at, MemberStep::Start);
        }
        world
    }

    /// Runs to the end, or through this many steps.
    pub fn run(&mut self, steps: u64) -> Verdict {
        while self.stage != Stage::Over && self.steps < steps {
            self.advance()?;
            let is_done = |clients: &[Client]| clients.iter().all(Client::is_done);
            match self.stage {
                Stage::Running if self.context.calls >= self.calls => self.end_faults()?,
                Stage::Ending if is_done(&self.clients) && self.wish == Wish::Nothing => {
                    self.probe();
                }
                Stage::Probing if is_done(&self.clients) => self.rest(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Runs one event.
    pub fn advance(&mut self) -> Verdict {
        self.steps += 1;
        self.context.story.step = self.steps;
        let event = self.context.next().ok_or("nothing is to come any more")?;
        if self.steps > STEPS_MAX {
            return Err("the run does not come to an end".into());
        }
        self.step(event)?;
        self.ledger.check_total(self.context.bounds.data.1)?;
        self.check_serving()
    }

    fn step(&mut self, event: Event) -> Verdict {
        let World { context, clients, ledger, .. } = self;
        let told = match event {
            Event::ToServer { server, from, bytes } => {
                let until = self.servers[server].asleep_until;
                if until > context.now {
                    context.at(until, Event::ToServer { server, from, bytes });
                    return Ok(());
                }
                return self.receive(server, from, bytes);
            }
            Event::Member { server, life, step } => {
                if life != self.servers[server].life {
                    return Ok(());
                }
                let until = self.servers[server].asleep_until;
                if until > context.now {
                    context.at(until, Event::Member { server, life, step });
                    return Ok(());
                }
                return self.step_member(server, step);
            }
            Event::ToClient { server, to, bytes } => {
                let client = super::server::client_at(to);
                clients[client].receive((server, to), bytes, context, ledger)?;
                client
            }
            Event::Think { client, life } => {
                clients[client].think(life, context, ledger)?;
                client
            }
            Event::Wake { client, timer } => {
                clients[client].wake(timer, context, ledger)?;
                client
            }
            Event::Cancel { client, call } => {
                clients[client].cancel(call, context, ledger)?;
                client
            }
            Event::DiskHeals => {
                self.servers.iter().for_each(|server| server.disk.set_room(None));
                return Ok(());
            }
            Event::Fault => return self.fault(),
            Event::Operator => return self.operate(),
            Event::Weather => {
                self.weather();
                return Ok(());
            }
            Event::Deadline { number } => return self.deadline(number),
            _ => return Ok(()),
        };
        self.check_told(told)
    }
}

/// A message for people.
fn describe(message: &Message) -> &'static str {
    match message.get_msg_type() {
        MessageType::MsgAppend if message.entries.is_empty() => "commit",
        MessageType::MsgAppend => "append",
        MessageType::MsgAppendResponse if message.reject => "lacks",
        MessageType::MsgAppendResponse => "has",
        MessageType::MsgRequestVote => "vote?",
        MessageType::MsgRequestPreVote => "would you vote?",
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            if message.reject { "no vote" } else { "vote" }
        }
        MessageType::MsgSnapshot => "state",
        MessageType::MsgTimeoutNow => "lead!",
        MessageType::MsgHeartbeat => "beat",
        MessageType::MsgHeartbeatResponse => "beat back",
        _ => "other",
    }
}

/// A call may have to wait for a leader.
const PROMPT_US: u64 = 3_000_000;
/// No run is this long.
const STEPS_MAX: u64 = 4_000_000;
