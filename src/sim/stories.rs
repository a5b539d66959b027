//! Small stories with one right ending each: the scenarios that the system exists for, and faults
//! that once led to a wrong one. Who is where at what moment comes from the seed, the ending does
//! not.

use super::cluster::World as Cluster;
use super::stage::Ending::Well;
use super::stage::Line::{Acquire, Append, Init, Release};
use super::stage::{Stage, Theatre, Verdict};

mod alone;
mod clusters;

use alone::*;
use clusters::*;

/// A story.
#[derive(Clone, Copy)]
pub struct Tale {
    pub name: &'static str,
    pub what: &'static str,
    pub(super) play: Play,
}

impl Tale {
    pub fn is_of_cluster(&self) -> bool {
        matches!(self.play, Play::Cluster(..))
    }
}

#[derive(Clone, Copy)]
pub(super) enum Play {
    One(fn(&mut Stage) -> Verdict),
    /// In a cluster of so many servers.
    Cluster(usize, fn(&mut Stage<Cluster>) -> Verdict),
}

/// All stories.
pub const TALES: &[Tale] = &[
    tale("workflow", "one client, one section", workflow),
    tale("queue", "two wait while one holds, and are served in their order", queue),
    tale("called", "the next in line is called, and waits for long all the same", called),
    tale("no-such-file", "appends to files that there are not", no_such_file),
    tale("no-lock", "append and release without the lock", no_lock),
    tale("delay", "an append comes after the lease, while another waits", delay),
    tale("request-lost", "an acquire is lost, and another client is first", request_lost),
    tale("reply-lost", "the answer to an acquire is lost", reply_lost),
    tale("duplicates", "copies of append and release come in another's section", duplicates),
    tale("both-lost", "an append is lost, then its answer", both_lost),
    tale("stuck-before", "a holder stalls before its first append", stuck_before),
    tale("stuck-after", "a holder stalls after its first append", stuck_after),
    tale("holder-dies", "a holder dies with something staged", holder_dies),
    tale("waiter-dies", "a waiter dies: nobody waits out its lease", waiter_dies),
    tale("slow-alone", "a holder stalls, and nobody wants the lock", slow_alone),
    tale("restart-free", "the server is killed while the lock is free", restart_free),
    tale("restart-held", "the server is killed while the lock is held", restart_held),
    tale("restart-queue", "the server is killed while two wait", restart_queue),
    tale("disk-full", "the disk is full, and has room again", disk_full),
    tale("give-up", "waiting with a timeout, trying, giving back", give_up),
    tale("revoked", "an operator takes the lock from a holder that is stuck", revoked),
    tale("told-lost", "who was told that its section is lost never finds it published", told_lost),
    tale("told-late", "a loss is told, however other calls have failed meanwhile", told_late),
    tale("refused-copy", "a late copy of a refused call is done after a restart", refused_copy),
    tale("refused-instead", "... in the place of one that a power loss took", refused_instead),
    tale("close-refused", "a close that was refused for want of room", close_refused),
    tale("given-up", "the log stays short though nobody releases anything", given_up),
    tale("longer-turn", "a longer lease is told and given to one whose turn it is", longer_turn),
    tale("slow-start", "a start takes long: nobody who waits is passed over", slow_start),
    cluster("replica-fast", 3, "a follower is killed and back at once", replica_fast),
    cluster("replica-slow", 3, "a follower is away for two sections", replica_slow),
    cluster("leader-between", 3, "the leader is killed between sections", leader_between),
    cluster("leader-inside", 3, "the leader is killed in a section", leader_inside),
    cluster("two-of-five", 5, "leader and follower are killed in a section", two_of_five),
    cluster("no-quorum", 3, "two of three are killed, and come back", no_quorum),
    cluster("partition", 3, "the leader is cut off, clients reach only it", partition),
    cluster("revoked-for-all", 3, "a revocation holds for the next leader, too", revoked_for_all),
    cluster("longer-lease", 3, "a longer lease is told when the others know it", longer_lease),
    cluster("just-started", 3, "who was just started helps nobody to the lead", just_started),
];

const fn tale(name: &'static str, what: &'static str, play: fn(&mut Stage) -> Verdict) -> Tale {
    Tale { name, what, play: Play::One(play) }
}

const fn cluster(
    name: &'static str,
    servers: usize,
    what: &'static str,
    play: fn(&mut Stage<Cluster>) -> Verdict,
) -> Tale {
    Tale { name, what, play: Play::Cluster(servers, play) }
}

fn connect<W: Theatre>(stage: &mut Stage<W>) -> Verdict {
    (0..3).try_for_each(|client| stage.call(client, Init, Well))
}

/// A section of this client.
fn section<W: Theatre>(stage: &mut Stage<W>, client: usize, letters: &str) -> Verdict {
    stage.call(client, Acquire, Well)?;
    append(stage, client, letters)?;
    stage.call(client, Release, Well)
}

fn append<W: Theatre>(stage: &mut Stage<W>, client: usize, letters: &str) -> Verdict {
    letters.chars().try_for_each(|letter| stage.call(client, Append(letter), Well))
}

/// The client queues behind the holder.
fn wait<W: Theatre>(stage: &mut Stage<W>, client: usize) -> Verdict {
    stage.begin(client, Acquire)?;
    stage.pass_ms(20)?;
    stage.still_waits(client)
}
