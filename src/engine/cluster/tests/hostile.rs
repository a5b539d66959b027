//! One member and what others may say to it, also what no right one says.

use crate::engine::cluster::checkpoint::Head;
use crate::engine::cluster::codec::KINDS;
use crate::engine::cluster::journal::Replay;
use crate::engine::cluster::log::Log;
use crate::engine::cluster::members::{Change, Members};
use crate::engine::cluster::node::{Node, Output, Tuning};
use crate::types::{LogIndex, Millis};
use raft::eraftpb::{Entry, HardState, Message, MessageType, Snapshot};

const NOW: Millis = Millis(1_000);

/// Server 2 of three, which has not heard anything yet.
fn member() -> Node {
    let mut log = Log::new((1, 1), Members::of(&[1, 2, 3]));
    log.set_hard(HardState { term: 1, commit: 1, ..HardState::default() });
    Node::new(2, log, 1, LogIndex(0), Tuning::default(), 7, NOW).unwrap()
}

fn message(kind: MessageType, from: u64) -> Message {
    let mut message = Message { from, to: 2, term: 1, ..Message::default() };
    message.set_msg_type(kind);
    message
}

/// The leader's entries from this index to that one, and how much of all is committed.
fn append(node: &mut Node, from: u64, to: u64, commit: u64) {
    let mut append = message(MessageType::MsgAppend, 1);
    (append.index, append.log_term, append.commit) = (from - 1, 1, commit);
    let entry = |index| Entry { index, term: 1, data: vec![7; 9].into(), ..Entry::default() };
    append.entries = (from..=to).map(entry).collect::<Vec<_>>().into();
    node.handle_message(append, NOW).unwrap();
    node.poll(&mut Output::default());
}

fn save(node: &mut Node) {
    while let Some(batch) = node.poll_save() {
        node.handle_saved(batch, &mut Output::default());
    }
}

fn state(index: u64) -> Head {
    Head { index, term: 1, members: Members::of(&[1, 2, 3]), ..Head::default() }
}

fn offer(state: &Head) -> Message {
    let mut snapshot = Snapshot { data: state.encode().unwrap().into(), ..Snapshot::default() };
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (state.index, state.term);
    metadata.set_conf_state(state.members.to_conf());
    let mut message = message(MessageType::MsgSnapshot, 1);
    message.set_snapshot(snapshot);
    message
}

/// Otherwise it could be started again, lead a second time in that term and give the learner other entries of it.
#[test]
fn the_only_voter_says_nothing_of_a_term_that_is_not_stable() {
    let mut members = Members::of(&[1]);
    members.apply(&Change::Add { id: 2, addr: "b".into(), life: 7 });
    let mut log = Log::new((1, 1), members);
    log.set_hard(HardState { term: 1, commit: 1, ..HardState::default() });
    let mut node = Node::new(1, log, 1, LogIndex(0), Tuning::default(), 7, NOW).unwrap();
    let mut out = Output::default();
    for _ in 0..100 {
        node.handle_time(node.next_deadline());
        node.poll(&mut out);
    }
    assert!(node.role().is_leading);
    assert_eq!(out.messages, []);
    while let Some(batch) = node.poll_save() {
        node.handle_saved(batch, &mut out);
    }
    assert!(out.messages.iter().all(|message| message.term == 2));
    assert!(!out.messages.is_empty());
}

/// It may have heard a leader that counts on it before it was started again.
#[test]
fn a_member_that_has_just_started_helps_nobody_to_the_lead() {
    let answers_at = |now: u64| {
        let mut node = member();
        let mut vote = message(MessageType::MsgRequestVote, 3);
        (vote.term, vote.index, vote.log_term) = (2, 1, 1);
        node.handle_message(vote, Millis(now)).unwrap();
        let mut out = Output::default();
        node.poll(&mut out);
        while let Some(batch) = node.poll_save() {
            node.handle_saved(batch, &mut out);
        }
        out.messages.len()
    };
    let election_ms = Tuning::default().election_ms();
    assert_eq!(answers_at(NOW.0 + election_ms - 1), 0);
    assert_eq!(answers_at(NOW.0 + election_ms), 1);
}

/// A state is kept while the log comes to it by another leader's entries, and is not needed any
/// more: the journal before it is gone all the same.
#[test]
fn a_checkpoint_counts_on_nothing_that_an_earlier_one_has_given_up() {
    let mut node = member();
    append(&mut node, 2, 10, 5);
    save(&mut node);
    let (mut taken, offered) = (state(20), offer(&state(20)));
    assert!(node.needs_state(&offered));
    let given_up = node.place_checkpoint(&mut taken);
    assert_eq!((given_up, taken.log_from), (node.saved(), (20, 1)));
    append(&mut node, 11, 25, 25);
    save(&mut node);
    node.handle_message(offered, NOW).unwrap();
    node.poll(&mut Output::default());
    let mut next = state(22);
    let place = node.place_checkpoint(&mut next);
    assert!(place >= given_up, "{place} was given up with all before {given_up}");
    assert_eq!(next.log_from, (10, 1));
}

/// The entries of a state that is taken over have come meanwhile, and a crash takes them.
#[test]
fn a_state_is_kept_without_entries_that_are_not_stable() {
    let mut node = member();
    append(&mut node, 2, 25, 25);
    let mut taken = state(20);
    assert_eq!(node.place_checkpoint(&mut taken), node.saved());
    assert_eq!(Replay::new(&taken).finish().map(|log| log.last()), Ok(20));
    save(&mut node);
    let mut later = state(20);
    node.place_checkpoint(&mut later);
    assert_eq!(later.log_from, (1, 1), "stable entries are kept for members that lag");
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    fn number(&mut self) -> u64 {
        match self.below(12) {
            0 => u64::MAX - self.below(3),
            1 => 1 << self.below(63),
            _ => self.below(12),
        }
    }
}

fn rubbish(random: &mut Random) -> Message {
    // One kind has no place among the others.
    let at = random.below(KINDS.len() as u64 + 1) as usize;
    let kind = *KINDS.get(at).unwrap_or(&MessageType::MsgRequestPreVoteResponse);
    let mut message = message(kind, 1 + 2 * random.below(2));
    message.term = match random.below(50) {
        0 => random.number(),
        _ => 1 + random.below(6),
    };
    (message.index, message.log_term, message.commit) =
        (random.number(), random.below(6), random.number());
    (message.reject, message.reject_hint) = (random.below(2) == 0, random.number());
    message.commit_term = random.below(6);
    let first = match random.below(2) {
        0 => message.index.wrapping_add(1),
        _ => random.number(),
    };
    for at in 0..random.below(4) {
        let term = 1 + random.below(6);
        let index = first.wrapping_add(at);
        message.entries.push(Entry { index, term, data: vec![1].into(), ..Entry::default() });
    }
    if kind == MessageType::MsgSnapshot {
        let state = Head { term: random.below(6), ..state(random.number()) };
        message.set_snapshot(offer(&state).take_snapshot());
    }
    message
}

/// Whatever well-formed messages come: they are dropped or taken, and the member goes on.
#[test]
fn no_messages_end_a_member() {
    for seed in 0..rounds() {
        println!("seed {seed}");
        let (mut random, mut node, mut now) = (Random(seed), member(), NOW);
        append(&mut node, 2, 6, 4);
        for _ in 0..60 {
            let message = rubbish(&mut random);
            println!("{message:?}");
            let _ = node.handle_message(message, now);
            now.0 += random.below(40);
            node.handle_time(now);
            let mut out = Output::default();
            node.poll(&mut out);
            if let Some(last) = out.committed.last() {
                node.handle_applied(last.index);
            }
            if random.below(2) == 0 {
                save(&mut node);
            }
        }
    }
}

fn rounds() -> u64 {
    std::env::var("BATON_CLUSTER_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}
