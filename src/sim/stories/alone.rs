//! Stories of one server.

use super::{append, connect, section, wait};
use crate::sim::network::Direction::{ToClient, ToServer};
use crate::sim::network::Treatment::{Delay, Lose, Repeat};
use crate::sim::plan::STORY_LEASE_MS as LEASE_MS;
use crate::sim::server::Crash::{Kill, Worst};
use crate::sim::stage::Ending::{
    Expired, Lost, NoSuchFile, NotHolder, Refused, Revoked, TimedOut, Well, WouldBlock,
};
use crate::sim::stage::Line::{
    Abort, Acquire, Append, AppendTo, Close, Release, Renew, Revoke, Try, Within,
};
use crate::sim::stage::{Stage, Verdict};

const ALL: usize = usize::MAX;

pub fn workflow(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    section(stage, 0, "A")?;
    stage.call(0, Close, Well)?;
    stage.has("A")
}

pub fn queue(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "AA")?;
    wait(stage, 1)?;
    wait(stage, 2)?;
    stage.call(0, Release, Well)?;
    stage.ends(1, Acquire, Well)?;
    append(stage, 1, "BB")?;
    stage.still_waits(2)?;
    stage.call(1, Release, Well)?;
    stage.ends(2, Acquire, Well)?;
    append(stage, 2, "CC")?;
    stage.call(2, Release, Well)?;
    stage.has("AABBCC")
}

pub fn called(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    wait(stage, 1)?;
    wait(stage, 2)?;
    // So long that it has been told its place, and means to be silent for longer.
    stage.pass_ms(100)?;
    stage.call(0, Release, Well)?;
    stage.ends(1, Acquire, Well)?;
    // For longer than any client goes on without an answer.
    for _ in 0..40 {
        stage.pass_ms(LEASE_MS / 2)?;
        stage.call(1, Renew, Well)?;
    }
    stage.still_waits(2)?;
    stage.call(1, Release, Well)?;
    stage.ends(2, Acquire, Well)?;
    append(stage, 2, "C")?;
    stage.call(2, Release, Well)?;
    stage.has("C")
}

pub fn no_such_file(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    for name in ["file_4", "../etc/passwd", ""] {
        stage.call(0, AppendTo(name), NoSuchFile)?;
    }
    stage.call(0, Release, Well)?;
    stage.has("")
}

pub fn no_lock(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Append('A'), NotHolder)?;
    stage.call(0, Release, NotHolder)?;
    stage.call(0, Renew, NotHolder)?;
    section(stage, 1, "B")?;
    stage.call(1, Release, NotHolder)?;
    stage.has("B")
}

pub fn delay(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    wait(stage, 1)?;
    let late = stage.now() + 2 * LEASE_MS * 1000;
    stage.order(0, ToServer, ALL, Delay(late));
    stage.begin(0, Append('A'))?;
    stage.ends(1, Acquire, Well)?;
    stage.ends(0, Append('A'), Expired)?;
    stage.has("")
}

pub fn request_lost(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.order(0, ToServer, 1, Lose);
    stage.begin(0, Acquire)?;
    stage.call(1, Acquire, Well)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    stage.ends(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    stage.call(0, Release, Well)?;
    stage.has("BA")
}

pub fn reply_lost(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.order(0, ToClient, 1, Lose);
    stage.begin(0, Acquire)?;
    stage.pass_ms(1)?;
    stage.begin(1, Acquire)?;
    stage.ends(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    stage.still_waits(1)?;
    stage.call(0, Release, Well)?;
    stage.ends(1, Acquire, Well)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    stage.has("AB")
}

pub fn duplicates(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    let late = stage.now() + 100_000;
    stage.call(0, Acquire, Well)?;
    stage.order(0, ToServer, 2, Repeat(late));
    append(stage, 0, "A")?;
    stage.call(0, Release, Well)?;
    stage.call(1, Acquire, Well)?;
    append(stage, 1, "B")?;
    stage.pass_ms(200)?;
    wait(stage, 0)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    stage.ends(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    stage.call(0, Release, Well)?;
    stage.has("ABBA")
}

pub fn both_lost(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "1")?;
    stage.order(0, ToServer, 1, Lose);
    stage.order(0, ToClient, 1, Lose);
    append(stage, 0, "A")?;
    stage.call(0, Release, Well)?;
    section(stage, 1, "B")?;
    stage.has("1AB")
}

pub fn stuck_before(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    stuck(stage)
}

pub fn stuck_after(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    stuck(stage)
}

fn stuck(stage: &mut Stage) -> Verdict {
    stage.stall_ms(0, 2 * LEASE_MS);
    wait(stage, 1)?;
    stage.ends(1, Acquire, Well)?;
    append(stage, 1, "B")?;
    stage.call(0, Append('A'), Expired)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    section(stage, 0, "AA")?;
    stage.has("BBAA")
}

pub fn holder_dies(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    wait(stage, 1)?;
    stage.kill_client(0)?;
    stage.ends(1, Acquire, Well)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    stage.has("B")
}

pub fn waiter_dies(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    wait(stage, 1)?;
    wait(stage, 2)?;
    stage.kill_client(1)?;
    stage.pass_ms(50)?;
    stage.call(0, Release, Well)?;
    let begin = stage.now();
    stage.ends(2, Acquire, Well)?;
    // Half a lease to answer that it is its turn, and not a whole one.
    if stage.now() > begin + (LEASE_MS / 2 + 150) * 1000 {
        return Err(format!("waited {} us for the dead", stage.now() - begin));
    }
    append(stage, 2, "C")?;
    stage.call(2, Release, Well)?;
    stage.has("C")
}

pub fn slow_alone(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    stage.stall_ms(0, 3 * LEASE_MS);
    stage.pass_ms(3 * LEASE_MS)?;
    append(stage, 0, "A")?;
    stage.call(0, Release, Well)?;
    stage.has("AA")
}

pub fn restart_free(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    section(stage, 0, "AA")?;
    stage.crash_server(Kill);
    section(stage, 0, "1")?;
    stage.has("AA1")
}

pub fn restart_held(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    section(stage, 0, "A")?;
    stage.call(1, Acquire, Well)?;
    append(stage, 1, "B")?;
    stage.crash_server(Kill);
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    section(stage, 0, "A")?;
    stage.has("ABBA")
}

pub fn restart_queue(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    wait(stage, 1)?;
    wait(stage, 2)?;
    stage.crash_server(Kill);
    stage.call(0, Release, Well)?;
    stage.ends(1, Acquire, Well)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    stage.ends(2, Acquire, Well)?;
    append(stage, 2, "C")?;
    stage.call(2, Release, Well)?;
    stage.has("ABC")
}

pub fn disk_full(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    fill(stage)?;
    stage.call(1, Try, Refused)?;
    stage.call(0, Append('A'), Refused)?;
    stage.set_room(None);
    append(stage, 0, "B")?;
    stage.call(0, Release, Well)?;
    stage.has("AB")
}

pub fn give_up(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    stage.call(1, Try, WouldBlock)?;
    stage.call(1, Within(100), WouldBlock)?;
    stage.call(0, Abort, Well)?;
    section(stage, 2, "C")?;
    stage.has("C")
}

pub fn revoked(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    wait(stage, 1)?;
    stage.call(2, Revoke(0), Well)?;
    stage.ends(1, Acquire, Well)?;
    stage.crash_server(Worst);
    stage.call(0, Release, Revoked)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    stage.has("B")
}

pub fn told_lost(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    wait(stage, 1)?;
    // What was told so far is on the disk after a start, ...
    stage.crash_server(Kill);
    stage.call(0, Renew, Well)?;
    let leases = |tenths: u64| Delay(stage.now() + tenths * LEASE_MS * 100);
    let (copies, last) = ([32, 40, 48].map(leases), leases(20));
    copies.into_iter().for_each(|copy| stage.order(0, ToServer, 1, copy));
    stage.order(0, ToServer, ALL, last);
    stage.begin(0, Release)?;
    stage.ends(1, Acquire, Well)?;
    stage.ends(0, Release, Expired)?;
    // ... and what was told since only if the server has seen to it.
    stage.crash_server(Worst);
    // Meanwhile the first copies of the release arrive, one of them in the time that the server,
    // should it know nothing of the loss, takes for the lease.
    stage.pass_ms(10 * LEASE_MS)?;
    stage.has("")
}

pub fn told_late(stage: &mut Stage) -> Verdict {
    stage.world.context.plan.faults.delays = true;
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    wait(stage, 1)?;
    let late = stage.now() + 40_000_000;
    stage.order(0, ToServer, ALL, Delay(late));
    stage.begin(0, Append('A'))?;
    stage.ends(1, Acquire, Well)?;
    stage.ends(0, Append('A'), TimedOut)?;
    stage.pass_ms(20_000)?;
    // What this learns of the lock is not for whoever made it.
    stage.call(0, Revoke(2), Refused)?;
    stage.call(0, Acquire, Expired)?;
    stage.call(1, Release, Well)?;
    section(stage, 0, "A")?;
    stage.has("A")
}

/// A known limit: that a call was refused is forgotten at a restart. Its session ends then, which
/// its client is told: what it knows of its calls is not what the server knows.
pub fn refused_copy(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    fill(stage)?;
    let late = stage.now() + 4 * LEASE_MS * 1000;
    stage.order(1, ToServer, 1, Repeat(late));
    stage.call(1, Try, Refused)?;
    stage.set_room(None);
    stage.crash_server(Kill);
    stage.pass_ms(5 * LEASE_MS)?;
    stage.call(1, Try, Lost)?;
    append(stage, 0, "A")?;
    stage.call(0, Release, Well)?;
    stage.has("A")
}

/// The same under the number of a call that was done and that a power loss took: what comes after it
/// follows a call that the server never heard.
pub fn refused_instead(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    // What was told so far is on the disk after a start.
    stage.crash_server(Kill);
    stage.call(0, Renew, Well)?;
    fill(stage)?;
    let late = stage.now() + 8 * LEASE_MS * 1000;
    stage.order(0, ToServer, 1, Repeat(late));
    stage.call(0, Append('X'), Refused)?;
    stage.set_room(None);
    stage.pass_ms(600)?;
    append(stage, 0, "B")?;
    stage.crash_server(Worst);
    stage.pass_ms(9 * LEASE_MS)?;
    stage.call(0, Release, Lost)?;
    stage.has("")
}

pub fn close_refused(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    fill(stage)?;
    let (soon, late) = (stage.now() + 1_000, stage.now() + 1_000_000);
    stage.order(0, ToServer, 1, Delay(soon));
    stage.order(0, ToServer, ALL, Delay(late));
    stage.begin(0, Close)?;
    stage.pass_ms(100)?;
    stage.set_room(None);
    stage.pass_ms(600)?;
    stage.call(1, Try, WouldBlock)?;
    stage.ends(0, Close, Refused)?;
    section(stage, 2, "C")?;
    stage.has("C")
}

/// The disk is full, and the server has noticed.
fn fill(stage: &mut Stage) -> Verdict {
    stage.set_room(Some(10));
    // The server looks at the room now and then, after a write.
    stage.pass_ms(600)?;
    stage.begin(1, Try)?;
    stage.pass_ms(20)
}

pub fn given_up(stage: &mut Stage) -> Verdict {
    stage.world.context.plan.segment_max = 2_000;
    connect(stage)?;
    for _ in 0..60 {
        stage.call(0, Acquire, Well)?;
        append(stage, 0, "A")?;
        stage.call(0, Abort, Well)?;
    }
    stage.pass_ms(500)?;
    stage.world.server.check_log_is_short()?;
    stage.has("")
}

pub fn slow_start(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    append(stage, 0, "A")?;
    wait(stage, 1)?;
    stage.world.context.plan.faults.slow_disk = true;
    stage.crash_server(Kill);
    stage.call(0, Release, Well)?;
    stage.world.context.plan.faults.slow_disk = false;
    stage.ends(1, Acquire, Well)?;
    append(stage, 1, "B")?;
    stage.call(1, Release, Well)?;
    stage.has("AB")
}

/// A grant is lost, leases become longer, and the grant is told again before its client has asked again.
pub fn longer_turn(stage: &mut Stage) -> Verdict {
    connect(stage)?;
    stage.call(0, Acquire, Well)?;
    stage.begin(1, Acquire)?;
    stage.pass_ms(1)?;
    stage.order(1, ToClient, 1, Lose);
    stage.order(1, ToServer, ALL, Lose);
    stage.call(0, Release, Well)?;
    stage.begin(2, Acquire)?;
    stage.lengthen(4 * LEASE_MS)?;
    stage.ends(1, Acquire, Well)?;
    stage.stall_ms(1, 10 * LEASE_MS);
    stage.ends(2, Acquire, Well)
}
