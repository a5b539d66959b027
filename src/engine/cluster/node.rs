//! One member of a cluster: the consensus library, driven. A pure function of (time, input) to
//! what is to be sent, kept and applied; no socket, clock, thread or chance, so that the same code
//! runs in `batond` and in tests from a seed.
//!
//! What a follower promises leaves only when what it promises is on stable storage: [`Node::poll`]
//! holds such messages back until [`Node::handle_saved`]. A leader's own entries count towards the
//! quorum likewise.

use super::journal::{self, Checkpoint};
use super::log::Log;
use super::members::{Change, Members};
use super::reform::Acquaintance;
use super::validate::{Rejected, validate};
use crate::mutant;
use crate::types::{LogIndex, Millis};
use crate::wal::{Batch, Pending};
use raft::eraftpb::{Entry, EntryType, HardState, Message, MessageType, Snapshot};
use raft::{Config, ProgressState, RawNode, SnapshotStatus, StateRole};
use std::collections::VecDeque;

/// How long things take, a tick being the unit, and how much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub tick_ms: u64,
    pub heartbeat_ticks: usize,
    /// A follower that hears nothing stands for election after this many ticks, or up to twice
    /// as many.
    pub election_ticks: usize,
    /// Bytes of applied entries kept for members that lag.
    pub tail_bytes: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { tick_ms: 10, heartbeat_ticks: 3, election_ticks: 15, tail_bytes: 16 << 20 }
    }
}

impl Tuning {
    /// No member that heard a leader helps to elect another for this long, in milliseconds.
    pub(super) fn election_ms(&self) -> u64 {
        self.tick_ms * self.election_ticks as u64
    }

    /// How long after asking the others a leader may count on being the only one: a tenth less,
    /// for clocks that do not run alike.
    fn trust_ms(&self) -> u64 {
        if mutant::is("leader_trusted_long") {
            return self.election_ms() * 6;
        }
        self.election_ms() * 9 / 10
    }
}

/// Where this member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub term: u64,
    /// The leader as far as is known, 0 if none is.
    pub leader: u64,
    /// This member leads.
    pub is_leading: bool,
}

/// Something committed, to be applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    pub term: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A command's bytes.
    Command(Vec<u8>),
    /// A leader's first entry of its term.
    Start,
    /// Who belongs to the cluster from here on.
    Members(Members),
}

/// What there is to do.
#[derive(Debug, Default)]
pub struct Output {
    pub messages: Vec<Message>,
    pub committed: Vec<Committed>,
    /// This member is the only leader until then: a quorum has said so.
    pub trusted_until: Option<Millis>,
    /// This member does not belong to the cluster any more: it is to end.
    pub is_removed: bool,
}

/// Messages that wait for the journal.
#[derive(Debug)]
struct Unsaved {
    number: u64,
    /// What of the journal must be stable; none if nothing of it.
    place: Option<LogIndex>,
    messages: Vec<Message>,
}

pub struct Node {
    raw: RawNode<Log>,
    tuning: Tuning,
    pub(super) members: Members,
    pub(super) others: Acquaintance,
    /// The lead is being handed to another member.
    is_handing_over: bool,
    seed: u64,
    /// For which state the election timeout was drawn last, and how often one was.
    drawn: (Role, StateRole),
    draws: u64,
    next_tick: Millis,
    ticks: u64,
    /// No other member is helped to become the leader before.
    faithful_until: Millis,
    journal: LogIndex,
    saved: LogIndex,
    /// Up to here the journal may be gone, as a checkpoint takes its place.
    given_up: LogIndex,
    pending: Pending,
    spare: Vec<u8>,
    is_saving: bool,
    unsaved: VecDeque<Unsaved>,
    proposals: VecDeque<Vec<u8>>,
    trusted_until: Option<Millis>,
    /// What was said to be applied.
    applied: u64,
}

impl Node {
    /// A member that goes on with the log that was kept up to `journal`, of which all up to
    /// `applied` has been applied. `seed` decides its election timeouts.
    pub fn new(
        id: u64,
        log: Log,
        applied: u64,
        journal: LogIndex,
        tuning: Tuning,
        seed: u64,
        now: Millis,
    ) -> Result<Self, raft::Error> {
        let config = Config {
            id,
            applied,
            election_tick: tuning.election_ticks,
            heartbeat_tick: tuning.heartbeat_ticks,
            max_size_per_msg: MESSAGE_MAX,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            // Followers learn of it with the next entries, or the next beat.
            skip_bcast_commit: true,
            max_uncommitted_size: UNCOMMITTED_MAX,
            max_committed_size_per_ready: MESSAGE_MAX * 4,
            ..Config::default()
        };
        let members = log.members().clone();
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, log, &silent)?;
        Ok(Node {
            raw,
            tuning,
            members,
            others: Acquaintance::default(),
            is_handing_over: false,
            seed: seed ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            drawn: (Role::default(), StateRole::Follower),
            draws: 0,
            next_tick: Millis(now.0 + tuning.tick_ms),
            ticks: 0,
            // Before it was started it may have heard a leader that counts on it.
            faithful_until: Millis(now.0 + tuning.election_ms()),
            journal,
            saved: journal,
            given_up: LogIndex(0),
            pending: Pending::new(),
            spare: Vec::new(),
            is_saving: false,
            unsaved: VecDeque::new(),
            proposals: VecDeque::new(),
            trusted_until: None,
            applied,
        })
    }

    pub fn role(&self) -> Role {
        let raft = &self.raw.raft;
        Role {
            term: raft.term,
            leader: raft.leader_id,
            is_leading: raft.state == StateRole::Leader,
        }
    }

    pub fn id(&self) -> u64 {
        self.raw.raft.id
    }

    /// When [`Node::handle_time`] is to be called next.
    pub fn next_deadline(&self) -> Millis {
        self.next_tick
    }

    /// Time has passed. After a pause of this process only one tick is made up for: what came
    /// meanwhile is to be looked at first.
    pub fn handle_time(&mut self, now: Millis) {
        if now < self.next_tick {
            return;
        }
        let late = now.0 - self.next_tick.0;
        let next = if late > self.tuning.tick_ms { now } else { self.next_tick };
        self.next_tick = Millis(next.0 + self.tuning.tick_ms);
        self.ticks += 1;
        self.draw_timeout();
        if !self.is_settling() {
            self.raw.tick();
        }
        let is_beat = self.ticks.is_multiple_of(self.tuning.heartbeat_ticks as u64);
        if is_beat && self.role().is_leading {
            self.ask_for_trust(now);
        }
        if self.ticks.is_multiple_of(SNAPSHOT_TICKS) && self.role().is_leading {
            self.offer_again();
        }
        self.change_by_itself(now);
        self.end_handing_over();
    }

    /// Has snapshots sent again to members that have not taken theirs: it may have been lost.
    fn offer_again(&mut self) {
        let is_waiting = |(id, progress): (&u64, &raft::Progress)| match progress.state
            == ProgressState::Snapshot
        {
            true => Some(*id),
            false => None,
        };
        let waiting: Vec<u64> = self.raw.raft.prs().iter().filter_map(is_waiting).collect();
        for id in waiting {
            self.raw.report_snapshot(id, SnapshotStatus::Failure);
        }
    }

    /// A durable checkpoint, for members that lack entries which are gone.
    pub fn offer(&mut self, checkpoint: &Checkpoint) {
        let Ok(data) = postcard::to_stdvec(checkpoint) else { return };
        let mut snapshot = Snapshot { data: data.into(), ..Snapshot::default() };
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (checkpoint.index, checkpoint.term);
        metadata.set_conf_state(checkpoint.members.to_conf());
        self.offer_taken(snapshot);
    }

    /// The same of a state that was taken over from another member and is durable here.
    pub fn offer_taken(&mut self, snapshot: Snapshot) {
        self.raw.mut_store().set_snapshot(snapshot);
    }

    /// The state that this message brings, if this member needs it. It is to be made durable,
    /// data files and all, before the message is given to [`Node::handle_message`].
    pub fn needed_snapshot(&self, message: &Message) -> Option<Checkpoint> {
        let is_valid = validate(&self.raw, message).is_ok();
        let raft = &self.raw.raft;
        let metadata = message.snapshot.as_ref()?.get_metadata();
        if !is_valid || message.term < raft.term || metadata.index <= raft.raft_log.committed {
            return None;
        }
        // It has the entry, and only does not know that it is committed: the library finds that.
        if self.log().term_of(metadata.index) == Some(metadata.term) {
            return None;
        }
        postcard::from_bytes(&message.get_snapshot().data).ok()
    }

    /// Has the others confirm that this member leads; what they say counts from now on.
    pub fn ask_for_trust(&mut self, now: Millis) {
        self.raw.read_index(now.0.to_le_bytes().to_vec());
    }

    /// A message of another member has come.
    pub fn handle_message(&mut self, message: Message, now: Millis) -> Result<(), Rejected> {
        validate(&self.raw, &message)?;
        self.note_heard(message.from, now);
        let kind = message.get_msg_type();
        if kind == MessageType::MsgTimeoutNow && self.is_settling() {
            return Ok(());
        }
        let is_vote = matches!(kind, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        let is_transfer = *message.context == *CAMPAIGN_TRANSFER;
        if is_vote && !is_transfer && now < self.faithful_until && !mutant::is("faithless") {
            return Ok(());
        }
        let is_from_leader = matches!(
            kind,
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        );
        if is_from_leader && message.term >= self.raw.raft.term {
            self.faithful_until = Millis(now.0 + self.tuning.election_ms());
        }
        match self.raw.step(message) {
            // From a member that has left, or while it is not known yet.
            Ok(()) | Err(raft::Error::StepPeerNotFound) => Ok(()),
            Err(error) => Err(Rejected::Library(error.to_string())),
        }
    }

    /// Commands to be appended, if this member still leads in that term; otherwise nothing
    /// happens, and whoever waits for them learns of it by [`Node::role`].
    pub fn propose(&mut self, term: u64, commands: impl IntoIterator<Item = Vec<u8>>) {
        let role = self.role();
        if role.is_leading && role.term == term {
            self.proposals.extend(commands);
        }
    }

    /// Hands the lead to another member, which others help to the lead although they hear this one:
    /// from now on this one may not be the only leader, and must not answer as if it were.
    pub fn transfer(&mut self, to: u64) {
        self.is_handing_over = true;
        self.raw.transfer_leader(to);
    }

    /// Whether the lead is being handed to another member.
    pub fn is_handing_over(&self) -> bool {
        self.is_handing_over
    }

    /// Where the other member has not taken the lead within an election timeout, the library would
    /// go on leading. But it may still take it, so this one does not: there is an election.
    fn end_handing_over(&mut self) {
        if self.is_handing_over && self.raw.raft.lead_transferee.is_none() {
            self.is_handing_over = false;
            self.step_down();
        }
    }

    /// Gives up the lead.
    fn step_down(&mut self) {
        if self.role().is_leading {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    /// A state was taken over, and the journal does not say so yet. Until then the library looks for
    /// the entries before it when it is to stand for election.
    fn is_settling(&self) -> bool {
        self.log().before().0 > self.raw.raft.raft_log.applied
    }

    /// Messages to this member are not getting through.
    pub fn handle_unreachable(&mut self, id: u64) {
        self.raw.report_unreachable(id);
    }

    /// Entries up to `index` have been applied.
    pub fn handle_applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
        let log = &self.raw.raft.raft_log;
        // A state that was taken over may be ahead of what the library knows to be committed here,
        // and of what it knows to be kept.
        let index = self.applied.min(log.committed).min(log.persisted);
        if index > log.applied {
            self.raw.advance_apply_to(index);
        }
    }

    /// Moves on; what is to be done is added to `out`.
    pub fn poll(&mut self, out: &mut Output) {
        self.push_proposals();
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            out.messages.extend(ready.take_messages());
            let messages = ready.take_persisted_messages();
            if !ready.snapshot().is_empty() {
                let metadata = ready.snapshot().get_metadata();
                let before = (metadata.index, metadata.term);
                // validate() has let through what can be read only.
                if let Ok(state) = postcard::from_bytes::<Checkpoint>(&ready.snapshot().data) {
                    self.members = state.members;
                }
                self.raw.mut_store().restart(before, self.members.clone());
            }
            let entries = ready.take_entries();
            let needs_journal = !entries.is_empty() || ready.must_sync();
            if needs_journal {
                let hard = ready.hs().cloned().unwrap_or_else(|| self.raw.raft.hard_state());
                self.keep(&hard, entries);
            }
            for read in ready.take_read_states() {
                self.trust(&read.request_ctx);
            }
            let committed = ready.take_committed_entries();
            let number = ready.number();
            self.raw.advance_append_async(ready);
            self.commit(committed, out);
            let place = needs_journal.then_some(self.journal);
            self.unsaved.push_back(Unsaved { number, place, messages });
            self.release(out);
            self.push_proposals();
        }
        out.trusted_until = self.trusted_until.take().max(out.trusted_until);
    }

    /// The next entries for the journal, if none are under way.
    pub fn poll_save(&mut self) -> Option<Batch> {
        if self.is_saving || self.pending.is_empty() {
            return None;
        }
        self.is_saving = true;
        Some(self.pending.take(std::mem::take(&mut self.spare)))
    }

    /// Entries for the journal are on stable storage.
    pub fn handle_saved(&mut self, batch: Batch, out: &mut Output) {
        self.is_saving = false;
        self.saved = batch.last;
        self.spare = batch.into_buffer();
        self.release(out);
        self.poll(out);
    }

    /// Completes a checkpoint, of what has been applied here or of a state that is taken over; where
    /// it belongs in the journal, of which nothing before that place is counted on any more. Some
    /// entries before the state stay, for members that lag.
    pub fn place_checkpoint(&mut self, checkpoint: &mut Checkpoint) -> LogIndex {
        let (log, hard) = (self.raw.store(), self.raw.raft.hard_state());
        let Checkpoint { index, term, .. } = *checkpoint;
        checkpoint.hard = (hard.term, hard.vote, hard.commit.max(index));
        checkpoint.log_from = (index, term);
        let place = if log.term_of(index) == Some(term) {
            // The log may have got there beside a state that was taken over, and not be stable yet:
            // then it begins behind the state, which does not need it.
            let is_saved = log.place_after(index - 1).is_none_or(|place| place <= self.saved);
            let tail = if is_saved { self.tuning.tail_bytes } else { 0 };
            let from = log.tail_from(index, tail, self.given_up);
            checkpoint.log_from = (from, log.term_of(from).unwrap_or_default());
            let place = log.place_after(from).map_or(self.journal, |place| LogIndex(place.0 - 1));
            place.min(self.saved)
        } else {
            // Behind all that was put there so far: none of it counts any more.
            self.journal
        };
        self.given_up = self.given_up.max(place);
        if mutant::is("journal_cut_early") { self.saved } else { place }
    }

    /// This checkpoint is durable: what it covers is forgotten.
    pub fn compact(&mut self, checkpoint: &Checkpoint) {
        // The library goes on from what it takes for applied, which may wait for the journal yet.
        let applied = self.raw.raft.raft_log.applied;
        self.raw.mut_store().compact(checkpoint.log_from.0.min(applied));
    }

    /// How far the journal is stable.
    pub fn saved(&self) -> LogIndex {
        self.saved
    }

    pub fn raw(&self) -> &RawNode<Log> {
        &self.raw
    }

    pub(super) fn raw_mut(&mut self) -> &mut RawNode<Log> {
        &mut self.raw
    }

    pub(super) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    pub fn log(&self) -> &Log {
        self.raw.store()
    }

    pub fn log_mut(&mut self) -> &mut Log {
        self.raw.mut_store()
    }

    /// The library draws its timeouts by chance; they come from the seed instead.
    fn draw_timeout(&mut self) {
        let state = (self.role(), self.raw.raft.state);
        if state != self.drawn || self.draws == 0 {
            self.drawn = state;
            self.draws += 1;
        }
        let (min, draw) = (self.tuning.election_ticks, mix(self.seed.wrapping_add(self.draws)));
        self.raw.raft.set_randomized_election_timeout(min + (draw % min as u64) as usize);
    }

    fn push_proposals(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        if !self.role().is_leading {
            self.proposals.clear();
            return;
        }
        while !self.proposals.is_empty() {
            let mut size = 0;
            let fits = |command: &&Vec<u8>| {
                size += command.len() as u64 + 64;
                size <= MESSAGE_MAX
            };
            let count = self.proposals.iter().take_while(fits).count().max(1);
            let entries: Vec<_> =
                self.proposals.iter().take(count).map(|command| to_entry(command)).collect();
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgPropose);
            message.from = self.raw.raft.id;
            message.set_entries(entries.into());
            if self.raw.raft.step(message).is_err() {
                // Too much is on its way, or the lead is being handed over: later, or never.
                return;
            }
            self.proposals.drain(..count);
        }
    }

    fn keep(&mut self, hard: &HardState, entries: Vec<Entry>) {
        let places = journal::push(&mut self.pending, &mut self.journal, hard, &entries);
        let log = self.raw.mut_store();
        for (entry, place) in entries.into_iter().zip(places) {
            assert!(log.append(entry, place), "the library appends behind what there is");
        }
    }

    fn trust(&mut self, context: &[u8]) {
        if self.is_handing_over {
            return;
        }
        let Ok(bytes) = <[u8; 8]>::try_from(context) else { return };
        let until = Millis(u64::from_le_bytes(bytes) + self.tuning.trust_ms());
        self.trusted_until = self.trusted_until.max(Some(until));
    }

    fn commit(&mut self, entries: Vec<Entry>, out: &mut Output) {
        for entry in entries {
            let what = match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => What::Start,
                EntryType::EntryNormal => What::Command(entry.data.to_vec()),
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                    self.change_members(&entry.context);
                    out.is_removed |= !self.members.servers.contains_key(&self.id())
                        && !mutant::is("removed_stays");
                    What::Members(self.members.clone())
                }
            };
            out.committed.push(Committed { index: entry.index, term: entry.term, what });
        }
    }

    /// A change of the members is committed.
    pub(super) fn change_members(&mut self, bytes: &[u8]) {
        let Ok(change) = Change::decode(bytes) else { return };
        if let Ok(conf) = self.raw.apply_conf_change(&change.to_library()) {
            self.members.apply(&change);
            assert!(self.members.is_as(&conf), "the library has other members: {conf:?}");
        }
    }

    /// Lets go of the messages whose promises are kept.
    fn release(&mut self, out: &mut Output) {
        let mut through = None;
        while let Some(first) = self.unsaved.front()
            && (first.place.is_none_or(|place| place <= self.saved)
                || mutant::is("promise_unsaved"))
        {
            through = Some(first.number);
            if let Some(unsaved) = self.unsaved.pop_front() {
                out.messages.extend(unsaved.messages);
            }
        }
        if let Some(number) = through {
            self.raw.on_persist_ready(number);
            self.handle_applied(0);
        }
    }
}

fn to_entry(command: &[u8]) -> Entry {
    Entry { data: command.to_vec().into(), ..Entry::default() }
}

/// SplitMix64: spreads a counter over all numbers.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What the library writes into a vote that a transfer of the lead asks for.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";
/// A snapshot that was not taken is sent again after this many ticks.
const SNAPSHOT_TICKS: u64 = 100;
/// Bytes of entries in one message.
const MESSAGE_MAX: u64 = 1 << 20;
/// Bytes of commands that may be on their way to a quorum.
const UNCOMMITTED_MAX: u64 = 64 << 20;
