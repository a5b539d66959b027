//! One world: clients, network, server, and the run of its events from the first call to the last
//! check.

use super::client::Client;
use super::context::{Context, Event};
use super::ledger::{Fate, Ledger};
use super::observe::{Cause, Handover};
use super::plan::Plan;
use super::program::Ask;
use super::server::{Crash, Server, client_at};
use super::story::{Story, What};
use crate::disk::mem::Fault;
use crate::limits::LINGER_MS;
use crate::proxy::random::Random;
use crate::wire;

pub struct World {
    pub context: Context,
    server: Server,
    clients: Vec<Client>,
    pub ledger: Ledger,
    /// Calls after which programs come to their end.
    calls: u64,
    pub steps: u64,
    stage: Stage,
    /// What clients were told of tokens up to this one may be lost, except this survivor.
    voided: u64,
    survivor: Option<u64>,
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
        let plan = Plan::new(&mut random);
        let mut context = Context::new(plan, random, story);
        let plan = context.plan.clone();
        context.story.tell(0, || What::Plan(format!("seed {seed}: {plan:?}")));
        let clients = (0..plan.clients).map(|id| Client::new(id, false, &mut context)).collect();
        let mut world = World {
            context,
            server: Server::default(),
            clients,
            ledger: Ledger::new(plan.files),
            calls,
            steps: 0,
            stage: Stage::Running,
            voided: 0,
            survivor: None,
            power_losses: 0,
        };
        let context = &mut world.context;
        context.at(0, Event::ServerStarts);
        for client in 0..plan.clients {
            let at = context.random.between(0, 50_000);
            context.at(at, Event::Think { client, life: 0 });
        }
        if !plan.is_calm() {
            context.at(20_000, Event::Weather);
            context.at(50_000, Event::Fault);
        }
        world
    }

    /// Runs to the end, or through this many steps.
    pub fn run(&mut self, steps: u64) -> Verdict {
        while self.stage != Stage::Over && self.steps < steps {
            self.steps += 1;
            self.context.story.step = self.steps;
            let Some(event) = self.context.next() else {
                return Err("nothing is to come any more".into());
            };
            if self.steps > STEPS_MAX {
                return Err("the run does not come to an end".into());
            }
            self.step(event)?;
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

    fn step(&mut self, event: Event) -> Verdict {
        let World { context, server, clients, ledger, .. } = self;
        let step = match event {
            Event::ToServer { from, bytes } => {
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
            Event::Serve { life, from, bytes, taken } => {
                server.serve(life, from, &bytes, taken, context)
            }
            Event::ToClient { to, bytes } => {
                clients[client_at(to)].receive(to, bytes, context, ledger)?;
                return self.check_told_grant();
            }
            Event::Think { client, life } => {
                clients[client].think(life, context, ledger)?;
                return self.check_told_grant();
            }
            Event::Wake { client, timer } => {
                clients[client].wake(timer, context, ledger)?;
                return self.check_told_grant();
            }
            Event::Tick { life, at } => server.tick(life, at, context),
            Event::Run { life, job } => server.run(life, job, context, ledger),
            Event::Ran { life, job, ending } => server.ran(life, job, ending, context),
            Event::Read { life, to, reply, file, offset, max } => {
                server.read(life, to, &reply, (file, offset, max), context);
                Ok(None)
            }
            Event::Checkpoint { life } => {
                server.checkpoint(life, context);
                Ok(None)
            }
            Event::ServerStarts => return self.start_server(),
            Event::Fault => return self.fault(),
            Event::DiskHeals => {
                server.disk.set_room(None);
                context.story.tell(context.now, || What::Disk("has room again".into()));
                Ok(None)
            }
            Event::Weather => {
                self.weather();
                return Ok(());
            }
            Event::Deadline { stage } => return self.deadline(stage),
        };
        match step? {
            Some(handover) => self.check_handover(handover),
            None => Ok(()),
        }
    }

    fn start_server(&mut self) -> Verdict {
        let newest = self.server.observer.newest_token();
        let step = self.server.start(&mut self.context, &mut self.ledger)?;
        if !self.server.is_running() {
            return Ok(());
        }
        let holder = self.server.observer.holder().map(|(_, token)| token);
        if self.power_losses < self.context.power_losses {
            self.power_losses = self.context.power_losses;
            self.voided = newest;
            self.survivor = holder;
            self.ledger.forget_unpublished();
        }
        self.tell_holder();
        for client in &self.clients {
            if let Some(token) = client.token()
                && Some(token) != holder
            {
                self.check_belief(token, "the restarted server does not know it")?;
            }
        }
        step.map_or(Ok(()), |handover| self.check_handover(handover))
    }

    fn check_handover(&mut self, handover: Handover) -> Verdict {
        self.tell_holder();
        self.check_wanted(handover)?;
        let Some((session, token)) = handover.from else { return Ok(()) };
        if handover.cause == Cause::Time
            && let Some(client) = self.ledger.client_of(token)
        {
            self.context.story.tell(self.context.now, || What::LeaseOver { client, token });
        }
        if let Some(client) = self.ledger.client_of(token)
            && handover.cause == Cause::Request(session)
            && self.clients[client].had_power_loss(&self.context)
        {
            // It asks for what a power loss took: its session is lost, as it learns at once.
            return Ok(());
        }
        self.check_belief(token, "the server took it away")
    }

    /// Nobody is given the lock who does not want it.
    fn check_wanted(&self, handover: Handover) -> Verdict {
        let session = handover.to.and_then(|(id, _)| self.server.machine()?.session(id));
        let Some(session) = session else { return Ok(()) };
        let client = &self.clients[session.client.pid as usize];
        // A power loss may bring back the time when it did.
        let was_reset = client.had_power_loss(&self.context);
        let is_other = !client.is_up() || client.nonce != session.nonce;
        if is_other || was_reset || client.program.may_wait() {
            return Ok(());
        }
        Err(format!("client {} is given the lock without asking for it", client.id))
    }

    /// A client was told that it has the lock: it does.
    fn check_told_grant(&mut self) -> Verdict {
        let Some((_, token)) = self.context.told_grant.take() else { return Ok(()) };
        match self.server.observer.holder() {
            Some((_, held)) if held == token => Ok(()),
            _ => self.check_belief(token, "it is told so only now, but it is not so any more"),
        }
    }

    /// The lock is not held under this token any more: its client must not believe that it is.
    fn check_belief(&self, token: u64, why: &str) -> Verdict {
        let Some(client) = self.ledger.client_of(token) else { return Ok(()) };
        let client = &self.clients[client];
        let is_void = token <= self.voided && self.survivor != Some(token);
        let is_giving_back = matches!(client.program.asked(), Some(Ask::Abort | Ask::Close))
            || self.ledger.fate(token) != Fate::Open;
        let until = client.believes_until(token);
        if is_void || is_giving_back || until <= self.context.now {
            return Ok(());
        }
        Err(format!(
            "client {} believes that it holds the lock for another {} us under token {token}, but \
             {why}",
            client.id,
            until - self.context.now
        ))
    }

    fn tell_holder(&mut self) {
        let Some(machine) = self.server.machine() else { return };
        let holder = machine.lock().holder.as_ref();
        let client = holder.and_then(|holder| machine.session(holder.session));
        let what = What::Holder {
            client: client.map(|session| session.client.pid as usize),
            token: holder.map_or(0, |holder| holder.token.0),
            waiters: machine.lock().waiters().count(),
        };
        self.context.story.tell(self.context.now, || what);
    }

    fn weather(&mut self) {
        let World { context, .. } = self;
        if context.is_ending {
            return;
        }
        let is_storm = context.random.chance(0.5);
        if is_storm {
            let Context { network, plan, random, .. } = context;
            network.storm(&plan.faults, plan.lease_ms, random);
        } else {
            context.network.calm();
        }
        let what = if is_storm { "storm" } else { "calm" };
        context.story.tell(context.now, || What::World(what.into()));
        let wait = context.random.between(20_000, 1_000_000);
        context.at(context.now + wait, Event::Weather);
    }

    /// Something breaks.
    fn fault(&mut self) -> Verdict {
        let World { context, server, clients, ledger, .. } = self;
        if context.is_ending {
            return Ok(());
        }
        let wait = context.random.between(5_000, 600_000);
        context.at(context.now + wait, Event::Fault);
        let (faults, lease) = (context.plan.faults, context.plan.lease_ms);
        let client = context.random.between(0, clients.len() as u64 - 1) as usize;
        if server.has_failed() {
            server.crash(Crash::Kill, context);
            return Ok(());
        }
        match context.random.between(0, 8) {
            0 if faults.kills => server.crash(Crash::Kill, context),
            1 if faults.power => server.crash(Crash::Power, context),
            2 if faults.stops => {
                server.stop(context, ledger)?;
            }
            3 if faults.disk_errors => {
                let at = server.disk.operations() + context.random.between(0, 30);
                server.disk.set_fault(Some(Fault::Error(at)));
            }
            4 if faults.disk_full => {
                context.was_full = true;
                let left = if context.random.chance(0.5) { 3_000 } else { 500_000 };
                let room = server.disk.used() + context.random.between(0, left);
                server.disk.set_room(Some(room));
                context.story.tell(context.now, || What::Disk("fills up".into()));
                let wait = context.random.between(1_000, 1_000_000);
                context.at(context.now + wait, Event::DiskHeals);
            }
            5 if faults.cuts => {
                let Context { network, random, now, .. } = context;
                network.cut(client, *now, lease, random);
                context.story.tell(context.now, || What::Client { client, what: "is cut off" });
            }
            6 if faults.client_stalls => {
                let until = context.now + context.random.between(1_000, 3_000 * lease);
                clients[client].stall(until, context);
            }
            7 if faults.client_crashes && clients[client].is_up() => {
                clients[client].crash(context, ledger)?;
            }
            8 if faults.clock_jumps => {
                let ms = context.random.between(0, 200_000) as i64 - 100_000;
                server.jump(ms);
            }
            _ => {}
        }
        Ok(())
    }

    /// From now on nothing goes wrong.
    fn end_faults(&mut self) -> Verdict {
        self.stage = Stage::Ending;
        let World { context, server, clients, .. } = self;
        context.is_ending = true;
        context.story.tell(context.now, || What::World("all faults end".into()));
        context.network.calm();
        server.disk.set_fault(None);
        server.disk.set_room(None);
        if server.has_failed() {
            server.crash(Crash::Kill, context);
        }
        if !server.is_running() {
            context.at(context.now + 1000, Event::ServerStarts);
        }
        for client in clients.iter_mut() {
            client.heal(context);
        }
        let waiting = server.machine().map_or(0, |machine| machine.lock().waiters().count());
        let waits = (clients.len() + waiting) as u64 * (2 * context.plan.lease_ms + 1_500) * 1000;
        self.set_deadline(10_000_000 + waits);
        Ok(())
    }

    fn probe(&mut self) {
        self.stage = Stage::Probing;
        let id = self.clients.len();
        let probe = Client::new(id, true, &mut self.context);
        self.clients.push(probe);
        self.context.at(self.context.now, Event::Think { client: id, life: 0 });
        self.set_deadline(10_000_000 + 2_000 * self.context.plan.lease_ms);
    }

    fn rest(&mut self) {
        self.stage = Stage::Resting;
        let rest_ms = 3 * self.context.plan.session_ttl_ms.max(LINGER_MS);
        self.set_deadline(rest_ms * 1000);
    }

    fn set_deadline(&mut self, wait: u64) {
        let stage = self.stage as u32;
        self.context.at(self.context.now + wait, Event::Deadline { stage });
    }

    fn deadline(&mut self, stage: u32) -> Verdict {
        if stage != self.stage as u32 {
            return Ok(());
        }
        if self.stage == Stage::Resting {
            return self.finish();
        }
        let waiting = self.clients.iter().filter(|client| !client.is_done());
        let waiting: Vec<_> = waiting
            .map(|client| format!("{} in {:?}", client.id, client.program.asked().map(Ask::name)))
            .collect();
        Err(format!("long after all faults have ended, clients still wait: {waiting:?}"))
    }

    /// Everybody has gone: nothing may be left but the files.
    fn finish(&mut self) -> Verdict {
        self.stage = Stage::Over;
        let machine = self.server.machine().ok_or("the server is not there in the end")?;
        let (sessions, lock) = (machine.sessions().count(), machine.lock());
        if sessions > 0 || lock.holder.is_some() || lock.is_waited_for() {
            return Err(format!("in the end there are {sessions} sessions, and {lock:?}"));
        }
        self.server.see_files(true, &mut self.ledger)?;
        let crash = if self.context.plan.syncs { Crash::Power } else { Crash::Kill };
        self.server.crash(crash, &mut self.context);
        self.server.start(&mut self.context, &mut self.ledger)?;
        self.ledger.close()
    }
}

/// No run is this long.
const STEPS_MAX: u64 = 2_000_000;
