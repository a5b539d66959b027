//! One member of a cluster: the consensus library, driven. A pure function of (time, input) to
//! what is to be sent, kept and applied; no socket, clock, thread or chance, so that the same code
//! runs in `batond` and in tests from a seed.
//!
//! What a follower promises leaves only when what it promises is on stable storage: [`Node::poll`]
//! holds such messages back until [`Node::handle_saved`]. A leader's own entries count towards the
//! quorum likewise.
//!
//! How a member is set up is in `tuning`, what it says in `output`. What goes into the journal is in
//! `saving`, the state in place of entries in `state`, what concerns the lead alone in `lead`.

mod lead;
mod output;
mod saving;
mod state;
mod tuning;

pub use output::{Committed, Output, Role, What};
pub use tuning::Tuning;

use super::checkpoint::Head;
use super::log::Log;
use super::members::{Change, Members};
use super::reform::Acquaintance;
use super::validate::{Rejected, validate};
use crate::mutant;
use crate::types::{LogIndex, Millis};
use crate::wal::Pending;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, StateRole, Storage};
use saving::Unsaved;
use std::collections::VecDeque;

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
    /// The term, and where the journal says so.
    term: (u64, LogIndex),
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
            max_size_per_msg: MESSAGE_MAX.min(tuning.uncommitted_max),
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            // Followers learn of it with the next entries, or the next beat.
            skip_bcast_commit: true,
            max_uncommitted_size: tuning.uncommitted_max,
            max_committed_size_per_ready: MESSAGE_MAX * 4,
            ..Config::default()
        };
        let members = log.members().clone();
        let term = log.initial_state()?.hard_state.term;
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
            faithful_until: match mutant::is("faithless_at_start") {
                true => now,
                false => Millis(now.0 + tuning.election_ms()),
            },
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
            term: (term, journal),
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
            let mut messages = ready.take_persisted_messages();
            if !ready.snapshot().is_empty() {
                let metadata = ready.snapshot().get_metadata();
                let before = (metadata.index, metadata.term);
                // validate() has let through what can be read only.
                if let Ok(head) = Head::read(&ready.snapshot().data) {
                    self.members = head.members;
                }
                self.raw.mut_store().restart(before, self.members.clone());
            }
            let entries = ready.take_entries();
            let needs_journal = !entries.is_empty() || ready.must_sync();
            if needs_journal {
                let hard = ready.hs().cloned().unwrap_or_else(|| self.raw.raft.hard_state());
                self.keep(&hard, entries);
                if hard.term > self.term.0 {
                    self.term = (hard.term, self.journal);
                }
            }
            // What a leader says need not wait for the journal, since its votes have; but the only voter
            // needs none but its own, and must not lead twice in one term either.
            let is_kept = self.term.1 <= self.saved;
            let told = ready.take_messages();
            if is_kept {
                out.messages.extend(told);
            } else {
                messages.extend(told);
            }
            for read in ready.take_read_states() {
                self.trust(&read.request_ctx);
            }
            let committed = ready.take_committed_entries();
            let number = ready.number();
            self.raw.advance_append_async(ready);
            self.commit(committed, out);
            let place = (needs_journal || !is_kept).then_some(self.journal);
            self.unsaved.push_back(Unsaved { number, place, messages });
            self.release(out);
            self.push_proposals();
        }
        out.trusted_until = self.trusted_until.take().max(out.trusted_until);
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
                if mutant::is("uncommitted_dropped") {
                    self.proposals.clear();
                }
                // Too much is on its way, or the lead is being handed over: later, or never.
                return;
            }
            self.proposals.drain(..count);
        }
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
}

fn to_entry(command: &[u8]) -> Entry {
    Entry { data: command.to_vec().into(), ..Entry::default() }
}

/// What the library writes into a vote that a transfer of the lead asks for.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";
/// A snapshot that was not taken is sent again after this many ticks.
const SNAPSHOT_TICKS: u64 = 100;
/// Bytes of entries in one message.
const MESSAGE_MAX: u64 = 1 << 20;
