//! What goes wrong in a cluster and when it ends.

use super::operator::Wish;
use super::server::Server;
use super::{MemberStep, Stage, Verdict, World};
use crate::disk::mem::Fault;
use crate::limits::LINGER_MS;
use crate::server::cluster::driver::Input;
use crate::sim::client::Client;
use crate::sim::context::Event;
use crate::sim::observe::Cause;
use crate::sim::server::Crash;
use crate::sim::story::{FAULTS_END, What};

impl World {
    pub(super) fn weather(&mut self) {
        self.context.weather(|is_storm, random| match is_storm {
            true => self.network.storm(random),
            false => self.network.calm(),
        });
    }

    /// Something breaks.
    pub(super) fn fault(&mut self) -> Verdict {
        if self.context.is_ending {
            return Ok(());
        }
        let context = &mut self.context;
        let wait = context.random.between(10_000, 900_000);
        context.at(context.now + wait, Event::Fault);
        let (now, faults, lease) = (context.now, context.plan.faults, context.plan.lease_ms);
        let client = context.random.between(0, self.clients.len() as u64 - 1) as usize;
        let any = context.random.between(0, self.servers.len() as u64 - 1) as usize;
        // Whoever leads has most to lose.
        let leader = (0..self.servers.len()).find(|at| self.servers[*at].is_serving(now));
        let server = leader.filter(|_| context.random.chance(0.4)).unwrap_or(any);
        let disk = &self.servers[server].disk;
        match context.random.between(0, 11 + u64::from(context.plan.reloads)) {
            0 if faults.kills => return self.crash(server, Crash::Kill),
            1 if faults.power => return self.crash(server, Crash::Power),
            2 if faults.power && context.random.chance(0.3) => {
                for server in 0..self.servers.len() {
                    self.crash(server, Crash::Power)?;
                }
            }
            3 if faults.stops && self.servers[server].process.is_some() => {
                self.tell(server, Input::Retire);
                self.later(server, 1_000, MemberStep::Stopping { tries: 1_000 });
            }
            4 if faults.disk_errors => {
                let at = disk.operations() + context.random.between(0, 30);
                disk.set_fault(Some(Fault::Error(at)));
            }
            5 if faults.disk_full => {
                let left = if context.random.chance(0.5) { 3_000 } else { 500_000 };
                disk.set_room(Some(disk.used() + context.random.between(0, left)));
                let wait = context.random.between(1_000, 1_000_000);
                context.at(now + wait, Event::DiskHeals);
                context.full.push((now, now + wait));
            }
            7 if faults.cuts && faults.kills && leader == Some(server) => self.forsake(server),
            6 | 7 if faults.cuts => self.partition(server),
            8 if faults.cuts => {
                let (until, random) = (self.until(), &mut self.context.random);
                match random.between(0, 2) {
                    0 => self.context.network.cut(client, now, lease, random),
                    1 => self.context.network.hide(server, until),
                    _ => (0..self.servers.len()).for_each(|other| {
                        self.network.reset(server, other);
                        self.network.reset(other, server);
                    }),
                }
            }
            9 if faults.preemption => {
                // The process stands still, as by SIGSTOP.
                // What comes meanwhile is put off until it goes on: that is never earlier than it was.
                let until = self.until().max(self.servers[server].asleep_until);
                self.servers[server].asleep_until = until;
                let what = "stalls".into();
                self.context.story.tell(now, || What::Member { server, what });
            }
            10 if faults.client_stalls => {
                let until = now + context.random.between(1_000, 3_000 * lease);
                self.clients[client].stall(until, context);
            }
            11 if faults.client_crashes && self.clients[client].is_up() => {
                self.clients[client].crash(context, &mut self.ledger)?;
            }
            12 => {
                context.reload();
                let settings = context.plan.settings();
                if let Some(process) = &mut self.servers[server].process {
                    process.lease_ms = settings.lease_ms;
                }
                return self.work(server, Cause::Other, |core, now, actions| {
                    core.handle_settings(settings, now, actions);
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn until(&mut self) -> u64 {
        let longest = if self.context.random.chance(0.7) { 800_000 } else { 4_000_000 };
        self.context.now + self.context.random.between(5_000, longest)
    }

    pub(super) fn crash(&mut self, server: usize, crash: Crash) -> Verdict {
        if self.servers[server].process.is_some() { self.fall(server, crash) } else { Ok(()) }
    }

    /// Cuts a server off from some or all others, in one direction or both.
    fn partition(&mut self, server: usize) {
        let (now, until) = (self.context.now, self.until());
        let random = &mut self.context.random;
        let (ways, is_alone) = (random.between(0, 2), random.chance(0.6));
        for other in (0..self.servers.len()).filter(|other| *other != server) {
            if !is_alone && self.context.random.chance(0.5) {
                continue;
            }
            if ways != 1 {
                self.network.cut(server, other, now, until);
            }
            if ways != 2 {
                self.network.cut(other, server, now, until);
            }
        }
        let what = "is cut off from others".into();
        self.context.story.tell(now, || What::Member { server, what });
    }

    /// The leader loses its followers one after the other: some hear it no more and ask for votes; the
    /// others, on whom it still counts, are started again and do not hear it any more either.
    fn forsake(&mut self, leader: usize) {
        let (now, until) = (self.context.now, self.context.now + FORSAKEN_US);
        let wait = self.context.random.between(150_000, 400_000);
        let servers = self.servers.len();
        let first = self.context.random.between(0, servers as u64 - 1) as usize;
        let others = (first..first + servers).map(|n| n % servers);
        let others = others.filter(|other| *other != leader);
        let kept = servers / 2;
        for (n, other) in others.enumerate() {
            if n < kept {
                self.later(other, wait, MemberStep::Forsake(leader));
            } else {
                self.network.separate(leader, other, now, until);
            }
        }
        let what = "loses its followers".into();
        self.context.story.tell(now, || What::Member { server: leader, what });
    }

    pub(super) fn restart_forsaken(&mut self, at: usize, leader: usize) {
        let now = self.context.now;
        if self.context.is_ending || self.servers[at].process.is_none() {
            return;
        }
        self.network.separate(leader, at, now, now + FORSAKEN_US);
        self.end(at, Crash::Kill);
        let wait = self.context.random.between(1_000, 20_000);
        self.later(at, wait, MemberStep::Start);
    }

    /// From now on nothing goes wrong.
    pub fn end_faults(&mut self) -> Verdict {
        self.stage = Stage::Ending;
        let context = &mut self.context;
        context.is_ending = true;
        context.story.tell(context.now, || What::World(FAULTS_END.into()));
        context.network = super::super::network::Network::new(self.clients.len() + 1);
        self.network.heal();
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.disk.set_fault(None);
            server.disk.set_room(None);
            if server.process.is_none() {
                let (life, step) = (server.life, MemberStep::Start);
                context.at(context.now + 1_000, Event::Member { server: at, life, step });
            }
        }
        for client in &mut self.clients {
            client.set_scripted(false);
            client.heal(context);
        }
        let waiting = self.truth.machine.lock().waiters().count();
        let waits = (self.clients.len() + waiting) as u64;
        let waits = waits * (2 * self.context.bounds.lease_ms + 1_500) * 1000;
        let waits = waits + self.context.crowded_us();
        let changes = if self.wish == Wish::Nothing { 0 } else { CHANGES_US };
        self.set_deadline(15_000_000 + waits + changes);
        Ok(())
    }

    pub(super) fn probe(&mut self) {
        self.stage = Stage::Probing;
        let id = self.clients.len();
        self.clients.push(Client::new(id, true, &mut self.context));
        self.context.at(self.context.now, Event::Think { client: id, life: 0 });
        let crowded = self.context.crowded_us();
        self.set_deadline(10_000_000 + 2_000 * self.context.bounds.lease_ms + crowded);
    }

    pub(super) fn rest(&mut self) {
        self.stage = Stage::Resting;
        self.expects_nothing = self.context.random.chance(0.1);
        let ttl_ms = 3 * self.context.plan.session_ttl_ms.max(LINGER_MS);
        // A stall that began before the faults ended may go on for a while.
        let awake = self.servers.iter().map(|server| server.asleep_until).max().unwrap_or_default();
        let settled = awake.saturating_sub(self.context.now) + SETTLE_US;
        self.set_deadline(if self.expects_nothing { ttl_ms * 1000 } else { settled });
    }

    fn set_deadline(&mut self, wait: u64) {
        self.deadlines += 1;
        let number = self.deadlines;
        self.context.at(self.context.now + wait, Event::Deadline { number });
    }

    pub(super) fn deadline(&mut self, number: u32) -> Verdict {
        if number != self.deadlines {
            return Ok(());
        }
        if self.stage == Stage::Resting {
            if self.expects_nothing && self.truth.machine.lock().holder.is_some() {
                // A late datagram of a client that is gone took it.
                self.probe();
                return Ok(());
            }
            return self.finish();
        }
        let waiting = Client::waiting(&self.clients);
        let roles: Vec<_> = self.servers.iter().map(Server::describe).collect();
        Err(format!(
            "long after all faults have ended, clients still wait: {waiting:?}, operators for {:?}; \
             servers: {roles:?}",
            self.wish
        ))
    }
}

/// So long a leader that loses its followers is without them.
const FORSAKEN_US: u64 = 600_000;
/// So long changes of the members may take.
const CHANGES_US: u64 = 15_000_000;
/// By then everything has come to everybody.
const SETTLE_US: u64 = 3_000_000;
