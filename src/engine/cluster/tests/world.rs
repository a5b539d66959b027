//! Members, disks and a network under one clock, driven from a seed.

use crate::disk::Disk;
use crate::disk::mem::MemDisk;
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::codec::{decode_message, encode_message};
use crate::engine::cluster::members::Members;
use crate::engine::cluster::node::{Committed, Node, Output, Tuning, What};
use crate::engine::cluster::recover::{recover, write_checkpoint};
use crate::engine::cluster::replica::Replica;
use crate::machine::{Change, Command};
use crate::protocol::{ClientInfo, Reform};
use crate::types::{Attempt, LogIndex, Millis};
use crate::wal::{self, Batch, Writer};
use std::collections::BTreeMap;
use std::path::Path;

const DIR: &str = "/member";
/// Milliseconds from one attempt of a server to connect to the next.
const ASKS_EVERY: u64 = 20;

/// What may go wrong, each as one in so many (0: never).
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    loss: u64,
    duplicate: u64,
    /// A message takes up to this many milliseconds.
    delay: u64,
    /// A member crashes, is cut off or pauses about this often, in milliseconds.
    every: u64,
    /// Clocks differ by up to this many percent.
    drift: u64,
    /// An operator changes the cluster about this often, in milliseconds.
    reforms: u64,
}

impl Faults {
    pub fn all() -> Self {
        Faults { loss: 20, duplicate: 20, delay: 12, every: 60, drift: 4, reforms: 0 }
    }

    /// Rare enough for members to come and go.
    pub fn with_reforms() -> Self {
        Faults { every: 250, loss: 100, reforms: 300, ..Faults::all() }
    }

    /// So far apart that leaders are elected in between, and stay until the next.
    pub fn rare() -> Self {
        Faults { every: 400, loss: 200, ..Faults::all() }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, of: u64) -> bool {
        of > 0 && self.below(of) == 0
    }
}

struct Member {
    /// Members of the cluster; 0 of one that asks to be let in.
    founders: u64,
    /// It was removed, and has learnt of it.
    is_gone: bool,
    /// Bytes of applied entries that it keeps.
    tail_bytes: usize,
    disk: MemDisk,
    process: Option<Process>,
    /// Its clock in hundredths of the world's.
    rate: u64,
    asleep_until: u64,
    up_at: u64,
    is_cut: bool,
}

struct Process {
    node: Node,
    /// Its checkpoint, for members that lack entries which are gone.
    offered: Checkpoint,
    replica: Replica,
    writer: Writer<MemDisk>,
    saving: Option<(u64, Batch)>,
    trusted_until: Millis,
    checkpointed: u64,
}

pub struct World {
    random: Random,
    faults: Faults,
    now: u64,
    members: BTreeMap<u64, Member>,
    /// By time of arrival and number.
    network: BTreeMap<(u64, u64), (u64, Vec<u8>)>,
    sent: u64,
    /// What was committed at each index, by whoever said so first.
    committed: BTreeMap<u64, Committed>,
    leaders: BTreeMap<u64, u64>,
    proposed: u64,
    /// The highest index that a leader counted as committed.
    acknowledged: u64,
    next_fault: u64,
    /// Snapshots that members took over.
    pub taken_over: u64,
    /// Milliseconds in which more than one member took itself for the leader.
    pub rivals: u64,
    /// Members that were let in, and that were removed.
    pub let_in: u64,
    pub removed: u64,
    /// Nothing more is proposed.
    is_calm: bool,
}

impl World {
    pub fn new(size: u64, seed: u64, faults: Faults) -> World {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut members = BTreeMap::new();
        for id in 1..=size {
            let disk = MemDisk::new();
            disk.create_dir(Path::new(DIR)).unwrap();
            let rate = 100 + random.below(2 * faults.drift + 1) - faults.drift;
            members.insert(
                id,
                Member {
                    founders: size,
                    is_gone: false,
                    tail_bytes: if seed.is_multiple_of(2) { 2_000 } else { 1 << 20 },
                    disk,
                    process: None,
                    rate,
                    asleep_until: 0,
                    up_at: 0,
                    is_cut: false,
                },
            );
        }
        World {
            random,
            faults,
            now: 0,
            members,
            network: BTreeMap::new(),
            sent: 0,
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            proposed: 0,
            acknowledged: 0,
            next_fault: faults.every,
            taken_over: 0,
            rivals: 0,
            let_in: 0,
            removed: 0,
            is_calm: false,
        }
    }

    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 1;
            self.deliver();
            if self.faults.every > 0 && self.now >= self.next_fault {
                self.fail();
                self.next_fault = self.now + 1 + self.random.below(2 * self.faults.every);
            }
            if self.faults.reforms > 0 && self.random.one_in(self.faults.reforms) {
                self.reform();
            }
            let ids: Vec<u64> = self.members.keys().copied().collect();
            for id in ids {
                self.live(id);
            }
            self.check_leaders();
        }
    }

    /// Nothing goes wrong from now on.
    pub fn heal(&mut self) {
        self.faults = Faults::default();
        for member in self.members.values_mut() {
            member.is_cut = false;
            member.up_at = self.now;
            member.asleep_until = self.now;
        }
    }

    /// Nothing more is proposed, and what is under way comes to its end.
    pub fn calm(&mut self) {
        self.is_calm = true;
        self.run(500);
    }

    /// All members have applied the same, and everything that was acknowledged.
    pub fn check_agreement(&self) {
        let there = self.members.values().filter(|member| !member.is_gone);
        let states: Vec<_> =
            there.map(|member| &member.process.as_ref().unwrap().replica).collect();
        let left = self.members.iter().filter(|(_, member)| !member.is_gone).map(|(id, _)| id);
        assert!(left.eq(states[0].members.servers.keys()), "who is there and who belongs to it");
        let at: Vec<_> = states.iter().map(|state| state.index).collect();
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "members differ: {at:?}");
        assert!(states[0].index >= self.acknowledged, "something acknowledged is lost");
        assert!(states[0].state.machine.session_count() > 0, "nothing was ever committed");
        assert!(self.leader_term().is_some());
    }

    pub fn leader_term(&self) -> Option<u64> {
        let processes = self.members.values().filter_map(|member| member.process.as_ref());
        processes.map(|one| one.node.role()).filter(|role| role.is_leading).map(|r| r.term).max()
    }

    /// A summary of what happened.
    pub fn history(&self) -> Vec<u64> {
        let terms = self.committed.values().map(|one| one.term);
        terms.chain([self.sent, self.proposed, self.acknowledged]).collect()
    }

    fn local(&self, id: u64) -> Millis {
        Millis(1_000 + self.now * self.members[&id].rate / 100)
    }

    fn live(&mut self, id: u64) {
        let (now, local) = (self.now, self.local(id));
        if self.is_away(id) || !self.is_let_in(id) {
            return;
        }
        let member = self.members.get_mut(&id).unwrap();
        if member.process.is_none() {
            member.start(id, local);
        }
        let process = member.process.as_mut().unwrap();
        let mut out = Output::default();
        if process.saving.as_ref().is_some_and(|(at, _)| *at <= now)
            && let Some((_, batch)) = process.saving.take()
        {
            process.writer.handle().sync().unwrap();
            process.writer.handle().note_synced(batch.last);
            process.node.handle_saved(batch, &mut out);
        }
        process.node.handle_time(local);
        let role = process.node.role();
        if role.is_leading && !self.is_calm && self.random.below(6) == 0 {
            let commands: Vec<_> = (0..1 + self.random.below(4))
                .map(|_| {
                    self.proposed += 1;
                    register(self.proposed)
                })
                .collect();
            process.node.propose(role.term, commands);
        }
        process.node.poll(&mut out);
        if process.saving.is_none()
            && let Some(mut batch) = process.node.poll_save()
        {
            process.writer.write(&mut batch, process.node.saved()).unwrap();
            process.saving = Some((now + 1 + self.random.below(4), batch));
        }
        self.take(id, out);
    }

    /// Does what a member wants done.
    fn take(&mut self, id: u64, out: Output) {
        let role = self.members[&id].process.as_ref().unwrap().node.role();
        if out.is_removed {
            self.leave(id);
            return;
        }
        for committed in out.committed {
            let known = self.committed.entry(committed.index).or_insert_with(|| committed.clone());
            assert_eq!(*known, committed, "two entries committed at one index");
            if role.is_leading && committed.term == role.term {
                self.acknowledged = self.acknowledged.max(committed.index);
            }
            let process = self.members.get_mut(&id).unwrap().process.as_mut().unwrap();
            process.replica.apply(&committed, &mut Vec::new()).unwrap();
            process.node.handle_applied(committed.index);
            let is_let_in = |members: &Members| members.learner().is_some();
            let needs_state = matches!(&committed.what, What::Members(m) if is_let_in(m));
            if needs_state || process.replica.index >= process.checkpointed + 40 {
                let disk = self.members[&id].disk.clone();
                self.members.get_mut(&id).unwrap().process.as_mut().unwrap().checkpoint(&disk);
            }
        }
        let process = self.members.get_mut(&id).unwrap().process.as_mut().unwrap();
        process.trusted_until = out.trusted_until.unwrap_or_default().max(process.trusted_until);
        if process.node.is_handing_over() {
            process.trusted_until = Millis(0);
        }
        for message in out.messages {
            let mut bytes = Vec::new();
            encode_message(&message, &mut bytes);
            self.post(id, message.to, bytes);
        }
    }

    fn post(&mut self, from: u64, to: u64, bytes: Vec<u8>) {
        let Some(receiver) = self.members.get(&to) else { return };
        let is_cut = self.members[&from].is_cut || receiver.is_cut || receiver.is_gone;
        if is_cut || self.random.one_in(self.faults.loss) {
            return;
        }
        let copies = 1 + u64::from(self.random.one_in(self.faults.duplicate));
        for _ in 0..copies {
            self.sent += 1;
            let slow =
                if self.random.one_in(self.faults.loss) { 20 * self.faults.delay } else { 1 };
            let at = self.now + 1 + self.random.below(1 + self.faults.delay + slow);
            self.network.insert((at, self.sent), (to, bytes.clone()));
        }
    }

    fn deliver(&mut self) {
        while let Some(first) = self.network.first_entry()
            && first.key().0 <= self.now
        {
            let (to, bytes) = first.remove();
            let (now, local) = (self.now, self.local(to));
            let member = self.members.get_mut(&to).unwrap();
            if now < member.asleep_until {
                self.sent += 1;
                self.network.insert((member.asleep_until, self.sent), (to, bytes));
                continue;
            }
            let Some(process) = &member.process else { continue };
            let message = decode_message(&bytes).unwrap();
            let index = message.snapshot.as_ref().map(|one| one.get_metadata().index);
            let needs_state = process.node.needs_state(&message);
            let offered = self.members[&message.from].process.as_ref();
            let offered = offered.map(|process| process.offered.clone());
            let member = self.members.get_mut(&to).unwrap();
            let Some(process) = &mut member.process else { continue };
            if needs_state {
                // Who offers it may be gone by now, or offer another.
                let Some(offered) = offered.filter(|it| Some(it.head.index) == index) else {
                    continue;
                };
                process.take_over(offered, &member.disk);
                self.taken_over += 1;
            }
            process.node.handle_message(message, local).unwrap();
            let mut out = Output::default();
            process.node.poll(&mut out);
            if let Some(index) = index {
                process.node.handle_applied(index);
            }
            self.take(to, out);
        }
    }

    fn fail(&mut self) {
        let id = 1 + self.random.below(self.members.len() as u64);
        let (now, kind, time) = (self.now, self.random.below(6), 50 + self.random.below(600));
        let seed = self.random.next();
        let member = self.members.get_mut(&id).unwrap();
        match kind {
            // Killed: what was written stays. Power loss: what was synced stays.
            0 | 1 => {
                member.process = None;
                member.up_at = now + time / (1 + seed % 8);
                if kind == 0 {
                    member.disk = member.disk.after_power_loss(seed);
                }
            }
            2 | 3 => member.is_cut = true,
            4 => member.asleep_until = now + time,
            _ => self.members.values_mut().for_each(|member| member.is_cut = false),
        }
    }

    fn is_away(&self, id: u64) -> bool {
        let member = &self.members[&id];
        member.is_gone || self.now < member.up_at || self.now < member.asleep_until
    }

    /// An operator lets a server in, takes one out or has one lead.
    fn reform(&mut self) {
        let leads = |member: &Member| {
            let process = member.process.as_ref();
            process.is_some_and(|one| one.node.role().is_leading)
        };
        let leader = self.members.iter().find(|(id, member)| !self.is_away(**id) && leads(member));
        let Some(leader) = leader.map(|(id, _)| *id) else { return };
        let newest = self.members.keys().next_back().copied().unwrap_or_default();
        let server = 1 + self.random.below(newest);
        let (local, kind) = (self.local(leader), self.random.below(4));
        let node = &mut self.members.get_mut(&leader).unwrap().process.as_mut().unwrap().node;
        let voters = node.members().voters().count();
        match kind {
            0 if voters > 2 => drop(node.handle_reform(&Reform::Remove { server }, local)),
            1 => drop(node.handle_reform(&Reform::Transfer { server }, local)),
            _ if newest < 9 => {
                let server = newest + 1;
                node.handle_introduction(server, server, local);
                let add = Reform::Add { server, addr: server.to_string() };
                if node.handle_reform(&add, local).is_ok() {
                    self.begin(server);
                }
            }
            _ => {}
        }
    }

    /// A server asks to be let in.
    fn begin(&mut self, id: u64) {
        let disk = MemDisk::new();
        disk.create_dir(Path::new(DIR)).unwrap();
        let member = Member {
            founders: 0,
            is_gone: false,
            tail_bytes: self.members[&1].tail_bytes,
            disk,
            process: None,
            rate: 100 + self.random.below(2 * self.faults.drift + 1) - self.faults.drift,
            asleep_until: 0,
            up_at: self.now,
            is_cut: false,
        };
        self.members.insert(id, member);
    }

    /// Others say to a server whether it belongs to them, as they do when it connects: one that was
    /// removed ends, one that was let in gets a state.
    fn is_let_in(&mut self, id: u64) -> bool {
        if self.members[&id].is_cut || !self.now.is_multiple_of(ASKS_EVERY) {
            return self.members[&id].founders > 0;
        }
        let reachable = self
            .members
            .iter()
            .filter(|(other, member)| **other != id && !self.is_away(**other) && !member.is_cut);
        let reachable: Vec<&Process> =
            reachable.filter_map(|(_, member)| member.process.as_ref()).collect();
        if reachable.iter().any(|process| process.node.members().has_left(id)) {
            self.leave(id);
            return false;
        }
        if self.members[&id].founders > 0 {
            return true;
        }
        let offered = |process: &&Process| {
            let is_known = process.offered.head.members.servers.contains_key(&id);
            is_known.then(|| process.offered.clone())
        };
        let Some(mut state) = reachable.iter().find_map(offered) else {
            // Where the entry that lets it in was lost, an operator would ask again.
            let knows = |process: &&Process| process.node.members().servers.contains_key(&id);
            if self.is_calm && !reachable.iter().any(knows) {
                self.members.get_mut(&id).unwrap().is_gone = true;
            }
            return false;
        };
        let head = &mut state.head;
        head.log_from = (head.index, head.term);
        head.hard = (head.term, 0, head.index);
        let member = self.members.get_mut(&id).unwrap();
        write_checkpoint(&member.disk, Path::new(DIR), LogIndex(0), &state).unwrap();
        member.founders = 1;
        self.let_in += 1;
        true
    }

    fn leave(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        (member.process, member.is_gone) = (None, true);
        self.removed += 1;
    }

    /// One leader a term, and none elsewhere while one may count on being the only one.
    fn check_leaders(&mut self) {
        let mut leading = Vec::new();
        for (id, member) in &self.members {
            let Some(process) = &member.process else { continue };
            let role = process.node.role();
            if role.is_leading {
                let known = *self.leaders.entry(role.term).or_insert(*id);
                assert_eq!(known, *id, "two leaders in term {}", role.term);
                let is_trusting = self.local(*id) < process.trusted_until;
                leading.push((role.term, is_trusting));
            }
        }
        self.rivals += u64::from(leading.len() > 1);
        for (term, is_trusting) in &leading {
            let is_newer = leading.iter().any(|(other, _)| other > term);
            assert!(!(is_newer && *is_trusting), "the leader of term {term} is not the only one");
        }
    }
}

impl Member {
    fn start(&mut self, id: u64, now: Millis) {
        let options = wal::Options { segment_max: 4096, salt: 7, ..Default::default() };
        let founders = Members::of(&(1..=self.founders).collect::<Vec<_>>());
        let found = recover(&self.disk, Path::new(DIR), &options, &founders).unwrap();
        let applied = found.replica.index;
        let tuning = Tuning { tail_bytes: self.tail_bytes, ..Tuning::default() };
        let mut node = Node::new(id, found.log, applied, found.journal, tuning, 7, now).unwrap();
        node.offer(&found.checkpoint.head);
        self.process = Some(Process {
            node,
            offered: found.checkpoint,
            replica: found.replica,
            writer: found.writer,
            saving: None,
            trusted_until: Millis(0),
            checkpointed: applied,
        });
    }
}

impl Process {
    /// Makes a state that another member sent this member's own, durably.
    fn take_over(&mut self, mut checkpoint: Checkpoint, disk: &MemDisk) {
        let place = self.keep(&mut checkpoint, disk);
        self.writer.handle().remove_through(place).unwrap();
        if checkpoint.head.index > self.replica.index {
            let state = checkpoint.state().unwrap();
            self.replica = Replica::new(checkpoint.head, state);
        }
    }

    fn checkpoint(&mut self, disk: &MemDisk) {
        let mut checkpoint = self.replica.checkpoint().unwrap();
        let place = self.keep(&mut checkpoint, disk);
        self.writer.handle().remove_through(place).unwrap();
        self.node.compact(&checkpoint.head);
    }

    fn keep(&mut self, checkpoint: &mut Checkpoint, disk: &MemDisk) -> LogIndex {
        let place = self.node.place_checkpoint(&mut checkpoint.head);
        write_checkpoint(disk, Path::new(DIR), place, checkpoint).unwrap();
        self.offered = checkpoint.clone();
        self.node.offer(&checkpoint.head);
        self.checkpointed = checkpoint.head.index;
        place
    }
}

fn register(nonce: u64) -> Vec<u8> {
    let change = Change::Register { nonce, attempt: Attempt(0), client: ClientInfo::default() };
    let command = Command { now_ms: Millis(nonce), skip: Vec::new(), change };
    postcard::to_stdvec(&command).unwrap()
}
