//! The stage for stories of clusters: which server is killed, started, cut off, and whom clients reach.

use super::plan::Limits;
use super::{MemberStep, Verdict, World};
use crate::proxy::random::Random;
use crate::sim::client::Client;
use crate::sim::context::Context;
use crate::sim::ledger::Ledger;
use crate::sim::observe::Cause;
use crate::sim::plan::Plan;
use crate::sim::server::Crash;
use crate::sim::stage::{Stage, Theatre};
use crate::sim::story::{Story, What};

impl Theatre for World {
    fn now(&self) -> u64 {
        self.context.now
    }

    fn parts(&mut self) -> (&mut Context, &mut [Client], &mut Ledger) {
        (&mut self.context, &mut self.clients, &mut self.ledger)
    }

    fn advance(&mut self) -> Verdict {
        World::advance(self)
    }

    fn end_faults(&mut self) -> Verdict {
        World::end_faults(self)
    }

    fn run(&mut self, steps: u64) -> Verdict {
        World::run(self, steps)
    }
}

impl Stage<World> {
    /// So many servers and three clients.
    pub fn of_cluster(seed: u64, servers: usize, story: Story) -> Stage<World> {
        let random = Random::new(seed, 0);
        let limits = Limits::of_story();
        let mut world = World::of(seed, servers, Plan::of_story(), limits, random, u64::MAX, story);
        world.context.is_staged = true;
        world.clients.iter_mut().for_each(|client| client.set_scripted(true));
        Stage { world }
    }

    /// The server that answers clients, once there is one, and the others.
    pub fn roles(&mut self) -> Result<(usize, Vec<usize>), String> {
        let until = self.now() + ELECTED_US;
        while self.now() < until {
            let (now, servers) = (self.now(), &self.world.servers);
            if let Some(leader) = servers.iter().position(|server| server.is_serving(now)) {
                let others = (0..servers.len()).filter(|server| *server != leader).collect();
                return Ok((leader, others));
            }
            self.world.advance()?;
        }
        Err("no server leads".into())
    }

    /// The server is killed, and stays away.
    pub fn kill(&mut self, server: usize) {
        self.world.end(server, Crash::Kill);
    }

    pub fn start(&mut self, server: usize) {
        self.world.later(server, 1_000, MemberStep::Start);
    }

    /// This server's leases last longer from now on.
    pub fn lengthen(&mut self, server: usize, lease_ms: u64) -> Verdict {
        self.say(server, &format!("leases last {lease_ms} ms"));
        let context = &mut self.world.context;
        let longer = Plan { lease_ms, ..context.plan.clone() };
        context.bounds.include(&longer);
        if let Some(process) = &mut self.world.servers[server].process {
            process.lease_ms = lease_ms;
        }
        self.world.work(server, Cause::Other, |core, now, actions| {
            core.handle_settings(longer.settings(), now, actions);
        })
    }

    /// Two servers do not reach each other any more.
    pub fn separate(&mut self, one: usize, other: usize) {
        let now = self.now();
        self.world.network.separate(one, other, now, u64::MAX);
        self.say(one, &format!("is cut off from server {other}"));
    }

    /// All servers reach each other again.
    pub fn join(&mut self) {
        self.world.network.heal();
        self.tell("the servers reach each other again");
    }

    /// Clients reach this server only, ...
    pub fn show_only(&mut self, server: usize) {
        for other in (0..self.world.servers.len()).filter(|other| *other != server) {
            self.context().network.hide(other, u64::MAX);
        }
        self.say(server, "is the only one that clients reach");
    }

    /// ... or all again.
    pub fn show_all(&mut self) {
        for server in 0..self.world.servers.len() {
            self.context().network.hide(server, 0);
        }
        self.tell("clients reach all servers again");
    }

    fn say(&mut self, server: usize, what: &str) {
        let now = self.now();
        self.context().story.tell(now, || What::Member { server, what: what.into() });
    }

    fn tell(&mut self, what: &str) {
        let now = self.now();
        self.context().story.tell(now, || What::World(what.into()));
    }

    /// In a moment all servers are there and the same, and the file has these letters.
    pub fn all_have(&mut self, file: usize, letters: &str) -> Verdict {
        self.file_has(file, letters)?;
        self.pass_ms(SAME_MS)?;
        self.world.check_same()
    }
}

/// By then somebody leads.
const ELECTED_US: u64 = 5_000_000;
/// By then a server that was started has caught up.
const SAME_MS: u64 = 1_000;
