//! What the threads of a server do, step by step, each step at a time of its own, so that anything
//! may come between two of them.

use super::server::{Process, life_of};
use super::{MemberStep, Verdict, World};
use crate::engine::cluster::codec::{decode_message, encode_message};
use crate::engine::solo::Ending;
use crate::limits::READ_MAX;
use crate::protocol::{Outcome, Reply};
use crate::server::cluster::applier::{Due, Task};
use crate::server::cluster::driver::{Input, Order};
use crate::server::cluster::fetch::Fetching;
use crate::server::core::{Action, Core, Now};
use crate::sim::client::server_addr;
use crate::sim::context::Event;
use crate::sim::network::Direction;
use crate::sim::observe::Cause;
use crate::sim::server::{Crash, client_at};
use crate::sim::story::What;
use crate::types::FileId;
use crate::wire;
use raft::eraftpb::Message;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};

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
            MemberStep::Join => return self.join(at),
            MemberStep::Round { due } => return self.round(at, due),
            MemberStep::Journal => return self.keep_journal(at),
            MemberStep::Apply => return self.apply(at),
            MemberStep::Task(task) => return self.perform_task(at, task),
            MemberStep::Fetch => return self.fetch(at),
            MemberStep::Keep(place, checkpoint, message) => {
                let crash = self.threaten(at, KEEP_CRASHES, 8);
                let Some(process) = self.process(at) else { return Ok(()) };
                let kept = process.store.keep_checkpoint(place, &checkpoint);
                if self.has_fallen(at, crash)? {
                    return Ok(());
                }
                match (kept, message) {
                    (Ok(()), Some(message)) => self.tell(at, Input::TakenOver(message)),
                    (Ok(()), None) => self.tell(at, Input::Kept(checkpoint)),
                    (Err(error), None) if error.is_full() => self.tell(at, Input::NotKept),
                    (Err(error), message) if error.is_full() => {
                        self.later(at, RETRY_US, MemberStep::Keep(place, checkpoint, message));
                    }
                    (Err(error), _) => return self.fail(at, &error.to_string()),
                }
            }
            MemberStep::Hear { from, connection, bytes } => {
                if connection != self.network.connection(from, at) {
                    return Ok(());
                }
                let message = decode_message(&bytes).map_err(|error| error.to_string())?;
                let Some(process) = self.process(at) else { return Ok(()) };
                let id = from as u64 + 1;
                if process.driver.node().members().has_left(id) {
                    // As it is told when it connects.
                    self.leave(from, "is told that it was removed");
                    return Ok(());
                }
                if process.known.insert(id) {
                    self.tell(at, Input::Introduction { id, life: life_of(from) });
                }
                self.tell(at, Input::Message(message));
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
        let Some(process) = self.servers[at].process.as_mut() else { return Ok(()) };
        if process.round_at != due {
            return Ok(());
        }
        process.round_at = u64::MAX;
        if process.orders.is_empty() {
            let mut orders = Vec::new();
            for input in std::mem::take(&mut process.inbox) {
                if let Input::Message(message) = &input {
                    let term = process.driver.node().role().term;
                    process.faith.hear(message, term, now);
                }
                process.driver.take(input, now, &mut orders)?;
            }
            if process.driver.is_leading()
                && let Some((term, commands)) = process.core.take_proposals()
            {
                process.driver.propose(term, commands);
            }
            let Process { driver, known, .. } = process;
            let own = at as u64 + 1;
            let client_addr = |id: u64| {
                let is_known = id == own || known.contains(&id);
                is_known.then(|| server_addr(id as usize - 1))
            };
            driver.advance(now, client_addr, &mut orders);
            process.orders.extend(orders);
            self.note_role(at);
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
                if let Some(process) = self.process(at) {
                    process.faith.send(&message)?;
                }
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
            // Only for operators, and for servers that come and go.
            Order::Answer(..) | Order::Follow(_) | Order::Offer(_) => {}
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

    /// The journal's thread writes and syncs a batch.
    fn keep_journal(&mut self, at: usize) -> Verdict {
        let crash = self.threaten(at, SAVE_CRASHES, 4);
        let Some(process) = self.process(at) else { return Ok(()) };
        let Some(mut batch) = process.journal.pop_front() else { return Ok(()) };
        let ending = process.store.save(&mut batch);
        if self.has_fallen(at, crash)? {
            return Ok(());
        }
        let Some(process) = self.process(at) else { return Ok(()) };
        match ending {
            Ending::Done => {
                process.is_saving = !process.journal.is_empty();
                if process.is_saving {
                    let wait = self.latency(1_500);
                    self.later(at, wait, MemberStep::Journal);
                }
                self.look_at_room(at);
                self.tell(at, Input::Saved(batch));
            }
            Ending::Full => {
                process.journal.push_front(batch);
                self.look_at_room(at);
                self.later(at, RETRY_US, MemberStep::Journal);
            }
            Ending::Failed => return self.fail(at, "cannot keep the journal"),
        }
        Ok(())
    }

    /// The disk is broken: the process ends.
    fn fail(&mut self, at: usize, why: &str) -> Verdict {
        if !self.context.plan.faults.spoils_disk() {
            return Err(format!("server {at} ends: {why}"));
        }
        self.fall(at, Crash::Kill)
    }

    /// The thread that applies.
    fn apply(&mut self, at: usize) -> Verdict {
        while let Some(process) = self.process(at) {
            let polled = process.applier.poll().map_err(|why| format!("server {at}: {why}"))?;
            match polled {
                None => {
                    process.is_applying = false;
                    return Ok(());
                }
                Some(Task::Publish(parts)) => {
                    let wait = self.latency(100);
                    self.later(at, wait, MemberStep::Task(parts));
                    return Ok(());
                }
                Some(Task::Fetch { from, have, want }) => {
                    let fetching = Fetching::new(have, want, PIECE);
                    process.fetching = Some((from as usize - 1, fetching));
                    let what = format!("fetches from server {}", from - 1);
                    self.context.story.tell(self.context.now, || What::Member { server: at, what });
                    return self.fetch(at);
                }
                Some(Task::Rewind(sizes)) => {
                    if let Err(error) = process.store.rewind(sizes) {
                        return self.fail(at, &error.to_string());
                    }
                    self.check_files(at)?;
                }
                Some(Task::Core(standing)) => {
                    self.work(at, Cause::Other, |core, now, actions| {
                        core.stand(standing, now, actions);
                    })?;
                }
                Some(Task::Tell(input)) => self.tell(at, input),
                // No simulated client makes one.
                Some(Task::Backup(..)) => {}
            }
            if self.is_preempting(0.05) {
                let wait = self.latency(5_000);
                self.later(at, wait, MemberStep::Apply);
                return Ok(());
            }
        }
        Ok(())
    }

    fn perform_task(&mut self, at: usize, mut parts: VecDeque<crate::machine::Part>) -> Verdict {
        let crash = self.threaten(at, SAVE_CRASHES, 4);
        let Some(process) = self.process(at) else { return Ok(()) };
        let ending = process.store.publish(&mut parts);
        if self.has_fallen(at, crash)? {
            return Ok(());
        }
        match ending {
            Ending::Done => {
                self.check_files(at)?;
                self.apply(at)
            }
            Ending::Full => {
                self.later(at, RETRY_US, MemberStep::Task(parts));
                Ok(())
            }
            Ending::Failed => self.fail(at, "cannot write a data file"),
        }
    }

    /// Fetches the next piece, or asks for it.
    fn fetch(&mut self, at: usize) -> Verdict {
        let Some(process) = self.servers[at].process.as_mut() else { return Ok(()) };
        let Some((from, mut fetching)) = process.fetching.take() else { return Ok(()) };
        let is_done = match fetching.next(process.store.data()) {
            Ok(None) => true,
            Ok(Some((file, offset, len))) => {
                let fetched = self.fetch_piece(at, from, &mut fetching, (file, offset, len));
                let Some(process) = self.process(at) else { return Ok(()) };
                if fetched {
                    process.fetching = Some((from, fetching));
                    let wait = self.context.random.between(100, 20_000);
                    self.later(at, wait, MemberStep::Fetch);
                    return Ok(());
                }
                false
            }
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                return Err(format!("server {at}: {why}"));
            }
            Err(_) => false,
        };
        let Some(process) = self.process(at) else { return Ok(()) };
        process.applier.handle_fetched(is_done);
        self.taken_over += u64::from(is_done);
        self.apply(at)
    }

    fn fetch_piece(
        &mut self,
        at: usize,
        from: usize,
        fetching: &mut Fetching,
        (file, offset, len): (FileId, u64, usize),
    ) -> bool {
        let is_slow = self.servers[from].asleep_until > self.context.now;
        if is_slow || !self.network.reaches(at, from, self.context.now) {
            return false;
        }
        let mut data = vec![0; len];
        let Some(source) = &self.servers[from].process else { return false };
        let read = source.store.read(file, offset, &mut data);
        if !matches!(read, Ok((read, _)) if read == len) {
            return false;
        }
        let Some(process) = self.process(at) else { return false };
        fetching.take(process.store.data(), &data).is_ok()
    }

    /// A datagram of a client arrives at the socket.
    pub(super) fn receive(&mut self, at: usize, from: SocketAddrV4, bytes: Vec<u8>) -> Verdict {
        if self.servers[at].process.is_none() {
            let (client, direction) = (client_at(from), Direction::ToServer);
            let now = self.context.now;
            self.context.story.tell(now, || What::Unheard { client, server: at, direction });
            return Ok(());
        }
        if self.is_preempting(0.05) {
            let wait = self.context.random.between(0, 5_000);
            self.later(at, wait, MemberStep::Serve { from, bytes });
            return Ok(());
        }
        self.serve(at, from, &bytes)
    }

    fn serve(&mut self, at: usize, from: SocketAddrV4, bytes: &[u8]) -> Verdict {
        let Ok(request) = wire::decode_request(bytes) else { return Ok(()) };
        let client = &mut self.clients[client_at(from)];
        if self.servers[at].is_serving(self.context.now) && from == client.addr() {
            let ttl = self.context.plan.session_ttl_ms;
            client.was_heard(request.stamp.0, self.context.now, ttl);
        }
        // As a thread of a server does when there was little room the last time.
        if !self.context.full.is_empty() {
            self.look_at_room(at);
        }
        let is_serving = self.servers[at].is_serving(self.context.now);
        self.work(at, Cause::Request(request.session), |core, now, actions| {
            core.handle_request(SocketAddr::V4(from), &request, now, actions);
        })?;
        if is_serving {
            self.note_request(at, &request);
        }
        Ok(())
    }

    /// Changes the core as a thread does under the lock, then does what that leads to.
    fn work(
        &mut self,
        at: usize,
        cause: Cause,
        change: impl FnOnce(&mut Core, Now, &mut Vec<Action>),
    ) -> Verdict {
        let now = self.servers[at].clock(self.context.now);
        let Some(process) = self.process(at) else { return Ok(()) };
        let mut actions = Vec::new();
        change(&mut process.core, now, &mut actions);
        if process.core.poll_job().is_some() {
            return Err("the core of a member has work for a disk".into());
        }
        self.check_leading(at, cause)?;
        let Some(process) = self.process(at) else { return Ok(()) };
        let (deadline, calls) = (process.core.next_deadline(), process.core.poll_call());
        if calls {
            self.wake(at);
        }
        if let Some(deadline) = deadline {
            let due = self.servers[at].when(deadline).max(self.context.now);
            let late = if self.context.random.chance(0.1) { 3_000 } else { 100 };
            let Some(process) = self.process(at) else { return Ok(()) };
            if due < process.tick_at {
                let due = due + self.context.random.between(0, late);
                if let Some(process) = self.process(at) {
                    process.tick_at = due;
                }
                self.later(at, due - self.context.now, MemberStep::Tick { due });
            }
        }
        for action in actions {
            match action {
                Action::Send { to: SocketAddr::V4(to), reply } => self.answer(at, to, &reply),
                Action::Read { to: SocketAddr::V4(to), reply, file, offset, max } => {
                    let wait = self.context.random.between(0, 300);
                    self.later(at, wait, MemberStep::Read { to, reply, file, offset, max });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, at: usize, to: SocketAddrV4, reply: &Reply<'_>) {
        let mut bytes = Vec::new();
        wire::encode_reply(reply, &mut bytes);
        self.context.send((client_at(to), at), Direction::ToClient, to, bytes);
    }

    pub(super) fn look_at_room(&mut self, at: usize) {
        if let Some(process) = self.process(at) {
            let room = process.store.room();
            process.core.handle_room(room);
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

/// How often writing is tried again on a full disk.
const RETRY_US: u64 = 100_000;
/// Bytes of the data files that are fetched at once.
const PIECE: usize = 3_000;
/// How many steps of the disk crash on their way.
const SAVE_CRASHES: f64 = 0.002;
const KEEP_CRASHES: f64 = 0.05;
