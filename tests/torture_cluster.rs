//! Servers of a cluster are killed at random moments, the leader more often than the others, under
//! clients in closed loops, mostly after they got some way; `tests/support/check_journal.py` then
//! decides from the clients' journals and each server's data files whether every promise was kept,
//! and all servers must have the same files. `BATON_TORTURE_KILLS` makes it longer. And how long a
//! client waits for the next leader is measured.

mod common;

use common::cluster::{Cluster, timed};
use common::driver::Driver;
use common::torture::{Clients, Random, is_kept};
use std::thread;

const CLIENTS: usize = 4;
/// How long a long line may be.
const LETTERS: u32 = 2_000;
const FLAGS: &[&str] = &["--lease", "60s"];
/// How many sections are acknowledged at most between two kills, and a few.
const SECTIONS: u64 = 20;
/// About as long as a section takes, so that a kill meets every part of one.
const MOMENT_MS: u64 = 20;

#[test]
fn killed_in_turn_servers_lose_double_and_tear_nothing_that_was_acknowledged() {
    torture(3, kills());
}

/// Servers are replaced under load, one after the other, while others are killed: a lost disk each
/// time, whose server comes back under a new number.
#[test]
fn servers_that_are_replaced_one_after_the_other_lose_double_and_tear_nothing() {
    let seed = common::seed();
    let mut random = Random(seed | 1);
    let mut cluster = Cluster::start(3, FLAGS);
    cluster.leader();
    let dir = tempfile::tempdir().unwrap().keep();
    let mut clients = Clients::start(CLIENTS, seed, LETTERS, &cluster.list(), &dir);
    // One that clients were told of stays: they find the others by it.
    const STAYS: usize = 2;
    for _ in 0..kills().div_ceil(4).min(6) {
        clients.go_on_for(random.one_to(SECTIONS));
        thread::sleep(random.up_to_ms(MOMENT_MS));
        let leader = cluster.leader();
        let lost = if leader == STAYS { cluster.follower() } else { leader };
        cluster.kill(lost);
        std::fs::remove_dir_all(cluster.data(lost)).unwrap();
        let new = cluster.add(FLAGS);
        let other = cluster.follower();
        if other != new {
            cluster.kill(other);
            cluster.restart(other);
        }
        cluster.baton_ok(&["remove", &(lost + 1).to_string()]);
    }
    assert_eq!(cluster.roles().len(), cluster.up().len());
    judge(&cluster, clients, seed);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn two_of_five_servers_at_a_time_may_be_dead() {
    torture(5, kills() / 2);
}

fn kills() -> u32 {
    let given = std::env::var("BATON_TORTURE_KILLS").ok();
    given.map_or(12, |text| text.parse().expect("BATON_TORTURE_KILLS is a number"))
}

fn torture(size: usize, kills: u32) {
    let seed = common::seed();
    let mut random = Random(seed | 1);
    let mut cluster = Cluster::start(size, FLAGS);
    cluster.leader();
    let dir = tempfile::tempdir().unwrap().keep();
    let mut clients = Clients::start(CLIENTS, seed, LETTERS, &cluster.list(), &dir);
    for kill in 0..kills {
        // Now and then while they elect, or one catches up.
        if kill > 0 && random.next().is_multiple_of(4) {
            thread::sleep(random.up_to_ms(300));
        } else {
            clients.go_on_for(random.one_to(SECTIONS));
            thread::sleep(random.up_to_ms(MOMENT_MS));
        }
        let at = match random.next() % 2 {
            0 => cluster.leader(),
            _ => cluster.up()[random.next() as usize % cluster.up().len()],
        };
        cluster.kill(at);
        let down = cluster.is_up.iter().filter(|is_up| !**is_up).count();
        if down * 2 >= size - 1 || kill + 1 == kills {
            clients.go_on_for(random.one_to(SECTIONS));
            for at in 0..size {
                if !cluster.is_up[at] {
                    cluster.restart(at);
                }
            }
        }
    }
    judge(&cluster, clients, seed);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Ends the clients, and decides from what they were promised whether each server that is up has
/// kept it.
fn judge(cluster: &Cluster, mut clients: Clients, seed: u64) {
    clients.all_go_on();
    let journals = clients.end();
    let up = cluster.up();
    let files = |at: usize| -> Vec<Vec<u8>> {
        let read = |id| std::fs::read(cluster.data(at).join(format!("file_{id}"))).unwrap();
        (0..100).map(read).collect()
    };
    common::eventually("all servers have the same files", || {
        let first = files(up[0]);
        up[1..].iter().all(|at| files(*at) == first)
    });
    for at in up {
        assert!(is_kept(&cluster.data(at), &journals, &[]), "server {}: seed {seed}", at + 1);
    }
}

/// From the leader's SIGKILL to the end of the section that a client is in the middle of.
#[test]
fn a_client_waits_for_the_next_leader_no_longer_than_an_election() {
    let rounds = std::env::var("BATON_FAILOVERS").ok().map_or(5, |text| text.parse().unwrap());
    let mut cluster = Cluster::start(3, FLAGS);
    let mut client = Driver::connect(cluster.list());
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        client.ok("acquire");
        client.ok("append file_0 x");
        let leader = cluster.leader();
        cluster.kill(leader);
        let ((), pause) = timed(|| drop(client.ok("release")));
        pauses.push(pause.as_millis());
        cluster.restart(leader);
        cluster.all_hold("file_0", &"x".repeat(pauses.len()));
    }
    pauses.sort_unstable();
    let (median, worst) = (pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
    println!("failover: median {median} ms, worst {worst} ms of {pauses:?}");
    assert!(median < 3_000, "{pauses:?}");
}

#[test]
fn a_leader_that_is_stopped_hands_over_first() {
    let rounds = std::env::var("BATON_FAILOVERS").ok().map_or(3, |text| text.parse().unwrap());
    let mut cluster = Cluster::start(3, FLAGS);
    let mut client = Driver::connect(cluster.list());
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        let leader = cluster.leader();
        client.ok("acquire");
        client.ok("append file_0 x");
        let server = &mut cluster.servers[leader];
        let status = thread::scope(|scope| {
            let stopping = scope.spawn(|| server.terminate());
            let ((), pause) = timed(|| drop(client.ok("release")));
            pauses.push(pause.as_millis());
            stopping.join().unwrap()
        });
        assert!(status.success(), "{status}");
        cluster.restart(leader);
        cluster.all_hold("file_0", &"x".repeat(pauses.len()));
    }
    println!("planned stop: a release took {pauses:?} ms");
    assert!(cluster.traces().contains("handing the lead over"));
}
