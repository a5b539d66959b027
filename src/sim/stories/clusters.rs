//! Stories of several servers.

use super::{append, section, wait};
use crate::sim::cluster::World as Cluster;
use crate::sim::plan::STORY_LEASE_MS;
use crate::sim::stage::Ending::{Revoked, TimedOut, Unavailable, Well};
use crate::sim::stage::Line::{Acquire, Append, AppendIn, Release, Renew, Revoke};
use crate::sim::stage::{Stage, Verdict};

type Servers = Stage<Cluster>;

/// There is a leader, and all clients have found it.
fn connect(stage: &mut Servers) -> Result<(usize, Vec<usize>), String> {
    stage.roles()?;
    super::connect(stage)?;
    stage.roles()
}

/// Two clients append to three files; a follower is killed in the first section, and started at once or
/// after the second.
fn replica(stage: &mut Servers, is_fast: bool) -> Verdict {
    let (_, followers) = connect(stage)?;
    for (client, letter) in [(0, 'A'), (1, 'B')] {
        stage.call(client, Acquire, Well)?;
        stage.call(client, AppendIn(1, letter), Well)?;
        stage.call(client, AppendIn(2, letter), Well)?;
        if client == 0 {
            stage.kill(followers[0]);
        }
        if client == 0 && is_fast {
            stage.start(followers[0]);
        }
        stage.call(client, AppendIn(3, letter), Well)?;
        stage.call(client, Release, Well)?;
    }
    if !is_fast {
        stage.start(followers[0]);
    }
    (1..=3).try_for_each(|file| stage.all_have(file, "AB"))
}

pub fn replica_fast(stage: &mut Servers) -> Verdict {
    replica(stage, true)
}

pub fn replica_slow(stage: &mut Servers) -> Verdict {
    replica(stage, false)
}

pub fn leader_between(stage: &mut Servers) -> Verdict {
    connect(stage)?;
    section(stage, 0, "AAAAA")?;
    let (leader, _) = stage.roles()?;
    stage.kill(leader);
    section(stage, 1, "BBBBB")?;
    section(stage, 2, "CCCCC")?;
    stage.start(leader);
    stage.all_have(0, "AAAAABBBBBCCCCC")
}

/// The leader, and so many followers, are killed in the second of three sections.
fn inside(stage: &mut Servers, followers: usize) -> Verdict {
    let [a, b, c] = ["A", "B", "C"].map(|letter| letter.repeat(20));
    connect(stage)?;
    section(stage, 0, &a)?;
    stage.call(1, Acquire, Well)?;
    append(stage, 1, &b[..10])?;
    let token = stage.client(1).token();
    let (leader, others) = stage.roles()?;
    let killed: Vec<_> = others.into_iter().take(followers).chain([leader]).collect();
    killed.iter().for_each(|server| stage.kill(*server));
    append(stage, 1, &b[10..])?;
    if stage.client(1).token() != token {
        return Err("the client has another token".into());
    }
    stage.call(1, Release, Well)?;
    section(stage, 2, &c)?;
    killed.iter().for_each(|server| stage.start(*server));
    stage.all_have(0, &format!("{a}{b}{c}"))
}

pub fn leader_inside(stage: &mut Servers) -> Verdict {
    inside(stage, 0)
}

pub fn two_of_five(stage: &mut Servers) -> Verdict {
    inside(stage, 1)
}

pub fn no_quorum(stage: &mut Servers) -> Verdict {
    // So that calls may time out.
    stage.context().plan.faults.cuts = true;
    connect(stage)?;
    section(stage, 0, "A")?;
    let (_, followers) = stage.roles()?;
    followers.iter().for_each(|server| stage.kill(*server));
    stage.pass_ms(500)?;
    // Whether the acquire got through is not known; what comes after it was not even sent.
    stage.call(1, Acquire, TimedOut)?;
    stage.call(1, Renew, Unavailable)?;
    stage.begin(0, Acquire)?;
    stage.pass_ms(1_000)?;
    stage.still_waits(0)?;
    followers.iter().for_each(|server| stage.start(*server));
    stage.ends(0, Acquire, Well)?;
    append(stage, 0, "B")?;
    stage.call(0, Release, Well)?;
    section(stage, 1, "C")?;
    stage.all_have(0, "ABC")
}

pub fn partition(stage: &mut Servers) -> Verdict {
    let (old, others) = connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    stage.show_only(old);
    others.iter().for_each(|other| stage.separate(old, *other));
    stage.begin(0, Append('B'))?;
    stage.begin(1, Acquire)?;
    stage.pass_ms(1_000)?;
    stage.still_waits(0)?;
    stage.still_waits(1)?;
    let (new, _) = stage.roles()?;
    if new == old {
        return Err("who is cut off leads".into());
    }
    stage.show_all();
    stage.ends(0, Append('B'), Well)?;
    stage.call(0, Release, Well)?;
    stage.ends(1, Acquire, Well)?;
    append(stage, 1, "C")?;
    stage.join();
    stage.call(1, Release, Well)?;
    stage.all_have(0, "ABC")
}

pub fn revoked_for_all(stage: &mut Servers) -> Verdict {
    let (leader, _) = connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    wait(stage, 1)?;
    stage.call(2, Revoke(0), Well)?;
    stage.kill(leader);
    stage.ends(1, Acquire, Well)?;
    stage.call(0, Release, Revoked)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    stage.start(leader);
    stage.all_have(0, "B")
}

/// One follower does not hear the leader and asks for votes; the other, on whom the leader counts, is
/// started again just when it does not hear the leader any more either. If it voted at once, there were two
/// who answer.
pub fn just_started(stage: &mut Servers) -> Verdict {
    connect(stage)?;
    for letter in ["A", "B", "C", "D"] {
        let (old, others) = stage.roles()?;
        stage.separate(old, others[0]);
        stage.pass_ms(400)?;
        if stage.roles()?.0 != old {
            return Err("who hears the leader has helped another to the lead".into());
        }
        stage.kill(others[1]);
        stage.separate(old, others[1]);
        stage.start(others[1]);
        section(stage, 0, letter)?;
        stage.join();
    }
    stage.all_have(0, "ABCD")
}

/// The leader is given a longer lease, and is cut off before others know: its holder is not told of it before
/// they do, so who waits for the next leader waits for no lease that nobody knows of.
pub fn longer_lease(stage: &mut Servers) -> Verdict {
    let (leader, others) = connect(stage)?;
    stage.call(0, Acquire, Well)?;
    wait(stage, 1)?;
    for &other in &others {
        stage.separate(leader, other);
    }
    stage.lengthen(leader, 4 * STORY_LEASE_MS)?;
    stage.call(0, Renew, Well)?;
    stage.stall_ms(0, 10 * STORY_LEASE_MS);
    stage.kill(leader);
    stage.ends(1, Acquire, Well)?;
    stage.call(1, Append('B'), Well)?;
    stage.call(1, Release, Well)?;
    stage.join();
    stage.start(leader);
    stage.all_have(0, "B")
}
