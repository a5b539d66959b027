//! What the threads of a server do, step by step, each step at a time of its own, so that anything
//! may come between two of them.

mod clients;
mod disk;

use super::server::{Process, Server, life_of};
use super::{MemberStep, Verdict, World};
use crate::engine::cluster::codec::{decode_message, encode_message};
use crate::limits::READ_MAX;
use crate::protocol::{Outcome, Reply};
use crate::server::cluster::applier::Due;
use crate::server::cluster::driver::{Input, Order};
use crate::sim::client::server_addr;
use crate::sim::context::Event;
use crate::sim::observe::Cause;
use crate::sim::server::Crash;
use crate::sim::story::What;
use raft::eraftpb::Message;

impl World {
    fn process(&mut self, at: usize) -> Option<&mut Process> {
        self.servers[at].process.as_mut()
    }

    /// Something that a server does, later.
    pub(super) fn later(&mut self, at: usize, wait: u64, step: MemberStep) {
        let (life, due) = (self.servers[at].life, self.context.now + wait);
        self.context.at(due, Event::Member { server: at, life, step });
    }

    pub(super) fn step_member(&mut self, at: usize, step: MemberStep) -> Verdict {
        match step {
            MemberStep::Start => return self.start(at),
            MemberStep::Forsake(other) => self.restart_forsaken(at, other),
            MemberStep::Join => return self.join(at),
            MemberStep::Round { due } => return self.round(at, due),
            MemberStep::Journal => return self.keep_journal(at),
            MemberStep::Apply => return self.apply(at),
            MemberStep::Task(task) => return self.perform_task(at, task),
            MemberStep::Fetch => return self.fetch(at),
            MemberStep::Keep(place, checkpoint, message) => {
                return self.keep(at, place, checkpoint, message);
            }
            MemberStep::Hear { from, connection, bytes } => {
                return self.hear(at, from, connection, &bytes);
            }
            MemberStep::Serve { from, bytes } => return self.serve(at, from, &bytes),
            MemberStep::Tick { due } => {
                let Some(process) = self.process(at) else { return Ok(()) };
                if process.tick_at == due {
                    process.tick_at = u64::MAX;
                    let time = Cause::Time;
                    return self.work(at, time, |core, now, actions| {
                        core.handle_timeout(now, actions);
                    });
                }
            }
            MemberStep::Read { to, reply, file, offset, max } => {
                let Some(process) = self.process(at) else { return Ok(()) };
                let mut buffer = [0; READ_MAX];
                let wanted = &mut buffer[..READ_MAX.min(max as usize)];
                if let Ok((read, length)) = process.store.read(file, offset, wanted) {
                    let outcome = Outcome::Data { length, data: &buffer[..read] };
                    self.answer(at, to, &Reply { outcome, ..reply });
                }
            }
            MemberStep::Stopping { tries } => {
                let Some(process) = self.process(at) else { return Ok(()) };
                let role = process.driver.role();
                if tries > 0 && (role.is_leading || role.leader == 0) {
                    self.later(at, 1_000, MemberStep::Stopping { tries: tries - 1 });
                    return Ok(());
                }
                return self.fall(at, Crash::Kill);
            }
        }
        Ok(())
    }

    /// What another member has sent arrives.
    fn hear(&mut self, at: usize, from: usize, connection: u64, bytes: &[u8]) -> Verdict {
        if connection != self.network.connection(from, at) {
            return Ok(());
        }
        let message = decode_message(bytes).map_err(|error| error.to_string())?;
        let Some(process) = self.process(at) else { return Ok(()) };
        let id = from as u64 + 1;
        if process.driver.node().members().has_left(id) {
            // As it is told when it connects.
            self.leave(from, "is told that it was removed");
            return Ok(());
        }
        process.links.insert(id);
        if process.known.insert(id) {
            self.tell(at, Input::Introduction { id, life: life_of(from) });
        }
        self.tell(at, Input::Message(message));
        Ok(())
    }

    /// Has the thread that drives look at what there is.
    pub(super) fn wake(&mut self, at: usize) {
        let slow = if self.is_preempting(0.03) { 5_000 } else { 20 };
        let due = self.context.now + self.context.random.between(1, slow);
        self.round_at(at, due);
    }

    fn round_at(&mut self, at: usize, due: u64) {
        let Some(process) = self.process(at) else { return };
        if due < process.round_at {
            process.round_at = due;
            self.later(at, due - self.context.now, MemberStep::Round { due });
        }
    }

    pub(super) fn tell(&mut self, at: usize, input: Input) {
        if let Some(process) = self.process(at) {
            process.inbox.push(input);
            self.wake(at);
        }
    }

    fn is_preempting(&mut self, chance: f64) -> bool {
        let context = &mut self.context;
        context.plan.faults.preemption && !context.is_ending && context.random.chance(chance)
    }

    /// A round of the thread that drives, or the rest of one.
    fn round(&mut self, at: usize, due: u64) -> Verdict {
        let now = self.servers[at].clock(self.context.now).steady;
        let Server { process: Some(process), faith, .. } = &mut self.servers[at] else {
            return Ok(());
        };
        if process.round_at != due {
            return Ok(());
        }
        process.round_at = u64::MAX;
        if process.orders.is_empty() {
            let mut orders = Vec::new();
            for input in std::mem::take(&mut process.inbox) {
                if let Input::Message(message) = &input {
                    let term = process.driver.node().role().term;
                    faith.hear(message, term, self.context.now, self.limits.drift_ppm);
                    process.heard.insert(message.from, self.context.now);
                }
                process.driver.take(input, now, &mut orders)?;
            }
            if process.driver.is_leading()
                && let Some((term, commands)) = process.core.take_proposals(now)
            {
                process.driver.propose(term, commands);
            }
            if process.core.is_short_of_room() {
                process.driver.give_way(now, &mut orders);
            }
            let Process { driver, known, .. } = process;
            let own = at as u64 + 1;
            let client_addr = |id: u64| {
                let is_known = id == own || known.contains(&id);
                is_known.then(|| server_addr(id as usize - 1))
            };
            driver.advance(now, client_addr, &mut orders);
            process.orders.extend(orders);
            self.note_role(at)?;
            self.see_commits(at)?;
        }
        while let Some(process) = self.process(at)
            && let Some(order) = process.orders.pop_front()
        {
            self.follow(at, order)?;
            if self.is_preempting(0.02) {
                let due = self.context.now + self.context.random.between(0, 4_000);
                self.round_at(at, due);
                return Ok(());
            }
        }
        self.check_members(at)?;
        let Some(process) = self.process(at) else { return Ok(()) };
        if !process.inbox.is_empty() {
            self.wake(at);
            return Ok(());
        }
        let deadline = process.driver.next_deadline();
        let due = self.servers[at].when(deadline).max(self.context.now + 1);
        self.round_at(at, due);
        Ok(())
    }

    fn follow(&mut self, at: usize, order: Order) -> Verdict {
        match order {
            Order::Send(message) => {
                let server = &mut self.servers[at];
                server.faith.send(&message)?;
                server.promises.send(&message)?;
                self.post(at, &message);
            }
            Order::Save(batch) => {
                let Some(process) = self.process(at) else { return Ok(()) };
                process.journal.push_back(batch);
                if !std::mem::replace(&mut process.is_saving, true) {
                    let wait = self.latency(1_500);
                    self.later(at, wait, MemberStep::Journal);
                }
            }
            Order::Apply(due) => {
                let Some(process) = self.process(at) else { return Ok(()) };
                process.applier.add(due);
                if !std::mem::replace(&mut process.is_applying, true) {
                    let wait = self.latency(50);
                    self.later(at, wait, MemberStep::Apply);
                }
            }
            Order::Core(standing) => {
                return self.work(at, Cause::Other, |core, now, actions| {
                    core.stand(standing, now, actions);
                });
            }
            Order::Answer(_, reply) => return self.check_reform(at, &reply),
            Order::Follow(members) => {
                if let Some(process) = self.process(at) {
                    process.links.retain(|id| !members.has_left(*id));
                    process.links.extend(members.servers.keys());
                }
            }
            Order::Offer(kept) => {
                if let Some(process) = self.process(at) {
                    process.offered = kept;
                }
            }
            Order::End if self.truth.members().has_left(at as u64 + 1) => {
                self.leave(at, "was removed");
            }
            Order::End => return Err(format!("server {at} ends as if it were removed")),
            Order::Keep(place, checkpoint) => {
                let wait = self.latency(20_000);
                self.later(at, wait, MemberStep::Keep(place, checkpoint, None));
            }
            Order::KeepTaken(place, checkpoint, message) => {
                let wait = self.latency(20_000);
                self.later(at, wait, MemberStep::Keep(place, checkpoint, Some(message)));
            }
        }
        Ok(())
    }

    /// How long something takes that needs the disk or a thread.
    fn latency(&mut self, longest: u64) -> u64 {
        let context = &mut self.context;
        let is_slow = context.plan.faults.slow_disk && !context.is_ending;
        let longest = if is_slow && context.random.chance(0.03) { 700_000 } else { longest };
        context.random.between(1, longest)
    }

    fn post(&mut self, at: usize, message: &Message) {
        // Where there is no connection nothing is sent.
        let process = self.servers[at].process.as_ref();
        if process.is_some_and(|process| !process.links.contains(&message.to)) {
            return;
        }
        let to = message.to as usize - 1;
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes);
        let context = &mut self.context;
        let arrives = self.network.fate(at, to, context.now, &mut context.random);
        context.story.tell(context.now, || What::Told {
            from: at,
            to,
            message: super::describe(message),
            arrives: arrives[0],
        });
        if arrives == [None, None] && context.random.chance(0.1) {
            self.tell(at, Input::Unreachable(message.to));
        }
        let connection = self.network.connection(at, to);
        for arrives in arrives.into_iter().flatten() {
            let step = MemberStep::Hear { from: at, connection, bytes: bytes.clone() };
            let life = self.servers[to].life;
            self.context.at(arrives, Event::Member { server: to, life, step });
        }
    }

    /// Shows the judge what this server takes for committed.
    fn see_commits(&mut self, at: usize) -> Verdict {
        let Some(process) = self.process(at) else { return Ok(()) };
        let mut seen = Vec::new();
        for order in &process.orders {
            if let Order::Apply(Due::Entries(entries, _)) = order {
                seen.extend(entries.iter().cloned());
            }
        }
        seen.iter().try_for_each(|entry| self.see_commit(entry))
    }
}
