//! One world: clients, network, server, and the run of its events from the first call to the last
//! check.

mod checks;
mod faults;

use super::client::Client;
use super::context::{Context, Event};
use super::ledger::{Ledger, Sight, View};
use super::observe::Leases;
use super::plan::{FILES_MAX, Plan};
use super::server::{Crash, Server, client_at};
use super::story::{Story, What};
use crate::proxy::random::Random;
use crate::wire;
use std::collections::BTreeSet;

pub struct World {
    pub context: Context,
    pub server: Server,
    pub clients: Vec<Client>,
    pub ledger: Ledger,
    /// Calls after which programs come to their end.
    calls: u64,
    pub steps: u64,
    stage: Stage,
    /// Since when the lock is as it is.
    held_since: u64,
    /// It came to its holder by its turn, not by its own request.
    is_turn: bool,
    leases: Leases,
    /// How many were set; only the last one counts.
    deadlines: u32,
    /// What clients were told of tokens up to this one may be lost, except this survivor.
    voided: u64,
    survivor: Option<u64>,
    /// Tokens whose clients learn of their loss with the next answer, and of a power loss as well.
    excused: BTreeSet<u64>,
    power_losses: u64,
}

/// How far a run is. From `Ending` on there are no faults any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// All programs put their things in order and end.
    Ending,
    /// One more client takes the lock, which nobody may keep from it.
    Probing,
    /// All sessions run out.
    Resting,
    Over,
}

type Verdict = Result<(), String>;

impl World {
    pub fn new(seed: u64, calls: u64, story: Story) -> World {
        let mut random = Random::new(seed, 0);
        let plan = Plan::new(&mut random, &mut Random::new(seed, 1));
        let plan = plan.with_settings(&mut Random::new(seed, 2));
        let mut world = World::of(seed, plan, random, calls, story);
        let World { context, clients, .. } = &mut world;
        for client in 0..clients.len() {
            let at = context.random.between(0, 50_000);
            context.at(at, Event::Think { client, life: 0 });
        }
        if !context.plan.is_calm() {
            context.at(20_000, Event::Weather);
            context.at(50_000, Event::Fault);
        }
        world
    }

    /// A world in which clients do what a story says.
    pub fn staged(seed: u64, story: Story) -> World {
        let random = Random::new(seed, 0);
        let mut world = World::of(seed, Plan::of_story(), random, u64::MAX, story);
        world.context.is_staged = true;
        world.clients.iter_mut().for_each(|client| client.set_scripted(true));
        world
    }

    fn of(seed: u64, plan: Plan, random: Random, calls: u64, story: Story) -> World {
        let mut context = Context::new(plan, random, story);
        let plan = context.plan.clone();
        context.story.tell(0, || What::Plan(format!("seed {seed}: {plan:?}")));
        let clients = (0..plan.clients).map(|id| Client::new(id, false, &mut context)).collect();
        let mut world = World {
            context,
            server: Server::default(),
            clients,
            ledger: Ledger::new(FILES_MAX),
            calls,
            steps: 0,
            stage: Stage::Running,
            held_since: 0,
            is_turn: false,
            leases: Leases::default(),
            deadlines: 0,
            voided: 0,
            survivor: None,
            excused: BTreeSet::new(),
            power_losses: 0,
        };
        world.context.at(0, Event::ServerStarts);
        world
    }

    /// Runs to the end, or through this many steps.
    pub fn run(&mut self, steps: u64) -> Verdict {
        while self.stage != Stage::Over && self.steps < steps {
            self.advance()?;
            if self.stage == Stage::Running && self.context.calls >= self.calls {
                self.end_faults()?;
            }
            if self.stage == Stage::Ending && self.clients.iter().all(Client::is_done) {
                self.probe();
            } else if self.stage == Stage::Probing && self.clients.iter().all(Client::is_done) {
                self.rest();
            }
        }
        Ok(())
    }

    /// Runs one event.
    pub fn advance(&mut self) -> Verdict {
        self.steps += 1;
        self.context.story.step = self.steps;
        let Some(event) = self.context.next() else {
            return Err("nothing is to come any more".into());
        };
        if self.steps > STEPS_MAX {
            return Err("the run does not come to an end".into());
        }
        self.step(event)?;
        if let Some(machine) = self.server.take_work() {
            self.ledger.note(View::All, Sight::of(machine), self.context.now)?;
            self.ledger.note_history(machine.history());
            self.leases.note(machine, self.context.plan.lease_ms);
        }
        // A job that was under way when the faults ended may have failed.
        if self.context.is_ending && self.server.has_failed() {
            self.server.crash(Crash::Kill, &mut self.context);
        }
        self.ledger.check_total(self.context.bounds.data.1)?;
        self.check_lease()
    }

    fn step(&mut self, event: Event) -> Verdict {
        let World { context, server, clients, ledger, .. } = self;
        let step = match event {
            Event::ToServer { from, bytes, .. } => {
                if server.is_running() {
                    let ttl = context.plan.session_ttl_ms;
                    let client = &mut clients[client_at(from)];
                    if from == client.addr()
                        && let Ok(request) = wire::decode_request(&bytes)
                    {
                        client.was_heard(request.stamp.0, context.now, ttl);
                    }
                }
                server.receive(from, bytes, context)
            }
            Event::Serve { life, from, bytes } => server.serve(life, from, &bytes, context),
            Event::ToClient { server, to, bytes } => {
                let client = client_at(to);
                clients[client].receive((server, to), bytes, context, ledger)?;
                return self.check_told(client);
            }
            Event::Think { client, life } => {
                clients[client].think(life, context, ledger)?;
                return self.check_told(client);
            }
            Event::Wake { client, timer } => {
                clients[client].wake(timer, context, ledger)?;
                return self.check_told(client);
            }
            Event::Cancel { client, call } => {
                clients[client].cancel(call, context, ledger)?;
                return self.check_told(client);
            }
            Event::Tick { life, at } => server.tick(life, at, context),
            Event::Run { life, job } => server.run(life, job, context, ledger),
            Event::Ran { life, job, ending } => server.ran(life, job, ending, context),
            Event::Read { life, to, reply, file, offset, max } => {
                server.read(life, to, &reply, (file, offset, max), context);
                Ok(None)
            }
            Event::Checkpoint { life } => server.checkpoint(life, context),
            Event::ServerStarts => return self.start_server(),
            Event::Fault => return self.fault(),
            Event::DiskHeals => {
                server.disk.set_room(None);
                if let Some(full) = context.full.last_mut() {
                    full.1 = full.1.min(context.now);
                }
                context.story.tell(context.now, || What::Disk("has room again".into()));
                Ok(None)
            }
            Event::Weather => {
                self.weather();
                return Ok(());
            }
            Event::Pause | Event::Operator | Event::Member { .. } => return Ok(()),
            Event::Deadline { number } => return self.deadline(number),
        };
        match step? {
            Some(handover) => self.check_handover(handover),
            None => Ok(()),
        }
    }
}

/// No run is this long.
const STEPS_MAX: u64 = 2_000_000;
