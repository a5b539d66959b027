//! What a member decides, but for what it applies ([`super::applier`]): who leads, what clients are
//! told of it, which states are taken over and kept. A function of (time, input) to [`Order`]s, with
//! neither thread nor lock, so that the simulator runs the same.

use super::Due;
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::members::Members;
use crate::engine::cluster::node::{Committed, Node, Output, Role, What};
use crate::engine::cluster::validate::Rejected;
use crate::mutant;
use crate::protocol::{Outcome, Reform, Reply, Status};
use crate::server::core::Standing;
use crate::types::{LogIndex, Millis};
use crate::wal::Batch;
use raft::eraftpb::{Message, MessageType};
use std::net::{SocketAddr, SocketAddrV4};
use tracing::{info, warn};

/// What the driver is told.
#[derive(Debug)]
pub enum Input {
    /// Another member says this.
    Message(Message),
    /// Another member cannot be reached.
    Unreachable(u64),
    /// Of the journal, this is stable.
    Saved(Batch),
    /// Entries up to this one are applied, and what they publish is in the data files.
    Applied(u64),
    /// The state to be kept, its place in the journal still missing.
    Cut(Box<Checkpoint>),
    /// It is kept.
    Kept(Box<Checkpoint>),
    /// It is not, and need not be: there is no room.
    NotKept,
    /// The state that another member's message told of is in the data files and in force; not kept
    /// yet.
    Fetched(Message, Box<Checkpoint>),
    /// The state that another member's message told of has been applied here before: it was taken
    /// over from another member, whose message then came too late for the library.
    Ahead(Message),
    /// It could not be had.
    NotFetched,
    /// It is kept; now the library may learn of it.
    TakenOver(Message, Box<Checkpoint>),
    /// Another member is to lead; this one stops.
    Retire,
    /// Another server, or this one, has named its data directory.
    Introduction { id: u64, life: u64 },
    /// An operator wants this; the reply says that it is done, or under way.
    Reform { to: SocketAddr, reply: Reply<'static>, reform: Reform },
}

/// What is to be done, in this order. What takes long is answered by an [`Input`].
#[derive(Debug)]
pub enum Order {
    /// Goes to another member.
    Send(Message),
    /// Goes into the journal, and becomes stable: [`Input::Saved`].
    Save(Batch),
    /// Is for who applies.
    Apply(Due),
    /// The core learns of it.
    Core(Standing),
    /// Is kept, as it belongs behind this place in the journal: [`Input::Kept`] or
    /// [`Input::NotKept`].
    Keep(LogIndex, Box<Checkpoint>),
    /// Must be kept, as this message told of it: [`Input::TakenOver`].
    KeepTaken(LogIndex, Box<Checkpoint>, Message),
    /// Goes to a client.
    Answer(SocketAddr, Reply<'static>),
    /// These are the members from now on.
    Follow(Members),
    /// This durable checkpoint is for servers that have to take it over.
    Offer(Checkpoint),
    /// This member was removed: it ends.
    End,
}

/// Messages that are dropped are traced this often at most.
const WARN_EVERY_MS: u64 = 10_000;
/// A leader without room hands over, at most this often: the others may have none either.
const GIVE_WAY_MS: u64 = 5_000;
/// When there was no room for a checkpoint, it is made again after so long: a server that is let in may
/// wait for it, and without clients none would be due.
const CUT_AGAIN_MS: u64 = 5_000;

/// The driver and what it remembers from one round to the next.
pub struct Driver {
    node: Node,
    role: Role,
    hint: Option<SocketAddrV4>,
    /// The term in which this member leads and goes on to; 0: it does not.
    leading: u64,
    /// Commands of that term that a quorum has.
    committed: u64,
    is_taking_over: bool,
    may_give_way: Millis,
    /// When the checkpoint is due for which there was no room.
    cut_again: Option<Millis>,
    /// When a message that is dropped is traced again.
    may_warn: Millis,
    out: Output,
}

impl Driver {
    pub fn new(node: Node) -> Self {
        Driver {
            node,
            role: Role::default(),
            hint: None,
            leading: 0,
            committed: 0,
            is_taking_over: false,
            may_give_way: Millis(0),
            cut_again: None,
            may_warn: Millis(0),
            out: Output::default(),
        }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where this member stood at the end of the last round.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The core may have proposals.
    pub fn is_leading(&self) -> bool {
        self.leading != 0
    }

    /// When the next round is due, whatever happens.
    pub fn next_deadline(&self) -> Millis {
        self.node.next_deadline()
    }

    /// Takes in what has happened; a round has to follow. An error is the end of this member: the
    /// consensus library gives up.
    pub fn take(
        &mut self,
        input: Input,
        now: Millis,
        orders: &mut Vec<Order>,
    ) -> Result<(), String> {
        match input {
            Input::Message(message) => return self.hear(message, now, orders),
            Input::Unreachable(id) => self.node.handle_unreachable(id),
            Input::Saved(batch) => self.node.handle_saved(batch, &mut self.out),
            Input::Applied(index) => self.node.handle_applied(index),
            Input::Cut(mut checkpoint) => {
                let place = self.node.place_checkpoint(&mut checkpoint.head);
                orders.push(Order::Keep(place, checkpoint));
            }
            Input::Kept(kept) => {
                let covered = self.node.compact(&kept.head);
                self.node.offer(&kept.head);
                orders.extend([
                    Order::Offer(*kept),
                    Order::Apply(Due::Free),
                    Order::Apply(Due::Gone(Box::new(covered))),
                ]);
            }
            Input::NotKept => {
                // A state of another member need not wait until there is room for this one's.
                orders.push(Order::Apply(Due::Free));
                self.cut_again = Some(Millis(now.0 + CUT_AGAIN_MS));
            }
            Input::Fetched(message, mut checkpoint) => {
                let place = self.node.place_checkpoint(&mut checkpoint.head);
                if mutant::is("state_not_kept") {
                    self.take_over(message, *checkpoint, now, orders);
                    return Ok(());
                }
                orders.push(Order::KeepTaken(place, checkpoint, message));
            }
            Input::Ahead(message) => self.go_on_from(message, now, orders),
            Input::NotFetched => self.is_taking_over = false,
            Input::TakenOver(message, kept) => self.take_over(message, *kept, now, orders),
            Input::Retire => self.retire(now, orders),
            Input::Introduction { id, life } => self.node.handle_introduction(id, life, now),
            Input::Reform { to, reply, reform } => self.reform(to, reply, &reform, now, orders),
        }
        Ok(())
    }

    /// What the core of this member has proposed in a term.
    pub fn propose(&mut self, term: u64, commands: Vec<Vec<u8>>) {
        self.node.propose(term, commands);
    }

    /// The end of a round: says what follows from all that was taken in and from the time.
    /// `client_addr` is where clients find a member.
    pub fn advance(
        &mut self,
        now: Millis,
        client_addr: impl Fn(u64) -> Option<SocketAddrV4>,
        orders: &mut Vec<Order>,
    ) {
        self.node.handle_time(now);
        loop {
            self.node.poll(&mut self.out);
            self.note_role(&client_addr, orders);
            if !self.pass_on(orders) {
                break;
            }
            // From now on it can be confirmed that this member is the only leader.
            self.node.ask_for_trust(now);
        }
        if self.cut_again.take_if(|at| now >= *at).is_some() {
            orders.push(Order::Apply(Due::Again));
        }
        orders.extend(self.node.poll_save().map(Order::Save));
    }

    fn hear(
        &mut self,
        message: Message,
        now: Millis,
        orders: &mut Vec<Order>,
    ) -> Result<(), String> {
        let from = message.from;
        let Some(message) = self.divert(message, orders) else { return Ok(()) };
        match self.node.handle_message(message, now) {
            Ok(()) => {}
            Err(why @ Rejected::Library(_)) => return Err(format!("message of {from}: {why}")),
            // A leader that goes on as if this member had what it lost says so at each beat.
            Err(why) if now >= self.may_warn => {
                self.may_warn = Millis(now.0 + WARN_EVERY_MS);
                warn!(%why, from, "dropped a message of another server");
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// A message that tells of a state which this member needs goes to who takes it over.
    fn divert(&mut self, message: Message, orders: &mut Vec<Order>) -> Option<Message> {
        if message.get_msg_type() != MessageType::MsgSnapshot {
            return Some(message);
        }
        if !self.node.needs_state(&message) {
            return Some(message);
        }
        if !std::mem::replace(&mut self.is_taking_over, true) {
            let index = message.get_snapshot().get_metadata().index;
            info!(from = message.from, index, "taking over a state");
            orders.push(Order::Apply(Due::State(message)));
        }
        None
    }

    /// The state is kept: the library goes on from it.
    fn take_over(
        &mut self,
        message: Message,
        kept: Checkpoint,
        now: Millis,
        orders: &mut Vec<Order>,
    ) {
        self.go_on_from(message, now, orders);
        // Should this member lead before its next checkpoint, others may lack the same entries.
        self.node.offer(&kept.head);
        info!(index = kept.head.index, "took over a state");
        orders.extend([Order::Offer(kept), Order::Apply(Due::Free)]);
    }

    fn go_on_from(&mut self, message: Message, now: Millis, orders: &mut Vec<Order>) {
        let index = message.get_snapshot().get_metadata().index;
        // Of an earlier term it is dropped.
        if let Err(why) = self.node.handle_message(message, now) {
            warn!(%why, "the state that was taken over came too late");
        }
        self.node.poll(&mut self.out);
        self.node.handle_applied(index);
        self.is_taking_over = false;
        orders.push(Order::Follow(self.node.members().clone()));
    }

    /// Another member is to lead.
    fn retire(&mut self, now: Millis, orders: &mut Vec<Order>) {
        if let Some(to) = self.node.heir(now) {
            info!(to, "handing the lead over");
            // Before the other is asked to stand: it is elected although this one is trusted.
            if !mutant::is("serves_handing_over") {
                self.stop_leading(orders);
            }
            self.node.transfer(to);
        }
    }

    /// There is no room on the disk: where this member leads, another one is to.
    pub fn give_way(&mut self, now: Millis, orders: &mut Vec<Order>) {
        if self.leading != 0 && now >= self.may_give_way {
            warn!("no room on the disk: another server is to lead");
            self.may_give_way = Millis(now.0 + GIVE_WAY_MS);
            self.retire(now, orders);
        }
    }

    /// An operator wants the cluster changed. Where this member does not lead any more there is no
    /// answer: the client asks the next leader.
    fn reform(
        &mut self,
        to: SocketAddr,
        mut reply: Reply<'static>,
        reform: &Reform,
        now: Millis,
        orders: &mut Vec<Order>,
    ) {
        if self.leading == 0 {
            return;
        }
        let done = self.node.handle_reform(reform, now);
        info!(?reform, ?done, "asked for by an operator");
        if let Err(reason) = done {
            reply.outcome = Outcome::Refused { status: Status::Refused, reason };
        }
        orders.push(Order::Answer(to, reply));
        if self.node.is_handing_over() && !mutant::is("serves_handing_over") {
            self.stop_leading(orders);
        }
    }

    /// Notes who leads now.
    fn note_role(
        &mut self,
        client_addr: impl Fn(u64) -> Option<SocketAddrV4>,
        orders: &mut Vec<Order>,
    ) {
        let role = self.node.role();
        if role != self.role {
            let old = std::mem::replace(&mut self.role, role);
            if old.is_leading && (!role.is_leading || role.term != old.term) {
                warn!(term = role.term, leader = role.leader, "leads no more");
                self.stop_leading(orders);
            }
            if role.is_leading && (!old.is_leading || role.term != old.term) {
                info!(term = role.term, "leads");
                (self.leading, self.committed) = (role.term, 0);
                orders.push(Order::Core(Standing::Elected(role.term)));
            } else if role.leader != old.leader {
                info!(term = role.term, leader = role.leader, "follows");
            }
        }
        let hint = client_addr(role.leader);
        if hint != self.hint {
            self.hint = hint;
            orders.push(Order::Core(Standing::Hint(hint)));
        }
    }

    fn stop_leading(&mut self, orders: &mut Vec<Order>) {
        self.leading = 0;
        orders.push(Order::Core(Standing::Deposed));
    }

    /// Says whether a quorum has the first entry of the term in which this member leads.
    fn pass_on(&mut self, orders: &mut Vec<Order>) -> bool {
        let out = std::mem::take(&mut self.out);
        let term = self.leading;
        if let Some(until) = out.trusted_until
            && term != 0
        {
            orders.push(Order::Core(Standing::Trusted { term, until }));
        }
        let ours = || out.committed.iter().filter(|one| term != 0 && one.term == term);
        let count = ours().filter(|one| matches!(one.what, What::Command(_))).count() as u64;
        if count > 0 {
            self.committed += count;
            orders.push(Order::Core(Standing::Committed { term, count: self.committed }));
        }
        // Clients wait for what is above.
        orders.extend(out.messages.into_iter().map(Order::Send));
        let begins = ours().any(|one| one.what == What::Start);
        orders.extend(out.is_removed.then_some(Order::End));
        let changed = |one: &Committed| matches!(one.what, What::Members(_));
        if out.committed.iter().any(changed) {
            orders.push(Order::Follow(self.node.members().clone()));
        }
        if !out.committed.is_empty() {
            orders.push(Order::Apply(Due::Entries(out.committed, term)));
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cluster::log::Log;
    use crate::engine::cluster::node::Tuning;

    #[test]
    fn a_checkpoint_that_was_not_kept_holds_nothing_up() {
        let log = Log::new((1, 1), Members::of(&[1, 2, 3]));
        let node = Node::new(1, log, 1, LogIndex(0), Tuning::default(), 1, Millis(0)).unwrap();
        let (mut driver, mut orders) = (Driver::new(node), Vec::new());
        driver.take(Input::NotKept, Millis(0), &mut orders).unwrap();
        assert!(matches!(orders[..], [Order::Apply(Due::Free)]));
        orders.clear();
        driver.advance(Millis(CUT_AGAIN_MS), |_| None, &mut orders);
        let is_again = |order: &Order| matches!(order, Order::Apply(Due::Again));
        assert!(orders.iter().any(is_again));
    }
}
