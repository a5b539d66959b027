//! Servers of a cluster are killed at random moments, the leader more often than the others, under
//! clients in closed loops; `tests/support/check_journal.py` then decides from the clients'
//! journals and each server's data files whether every promise was kept, and all servers must
//! have the same files. `BATON_TORTURE_KILLS` makes it longer. And how long a client waits for the
//! next leader is measured.

mod common;

use common::cluster::{Cluster, timed};
use common::driver::{Driver, compile};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const CLIENTS: usize = 4;
const FLAGS: &[&str] = &["--lease", "60s"];

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
    println!("journals in {}", dir.display());
    let clients: Vec<_> =
        (1..=CLIENTS).map(|number| client(number, seed, &cluster.list(), &dir)).collect();
    // One that clients were told of stays: they find the others by it.
    const STAYS: usize = 2;
    for _ in 0..kills().div_ceil(4).min(6) {
        thread::sleep(random.up_to_ms(300));
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
    let up: Vec<usize> = (0..cluster.servers.len()).filter(|at| cluster.is_up[*at]).collect();
    assert_eq!(cluster.roles().len(), up.len());
    judge(&cluster, &up, clients, seed);
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
    println!("journals in {}", dir.display());
    let clients: Vec<_> =
        (1..=CLIENTS).map(|number| client(number, seed, &cluster.list(), &dir)).collect();
    for kill in 0..kills {
        thread::sleep(random.up_to_ms(500));
        let at = match random.next() % 2 {
            0 => cluster.leader(),
            _ => (random.next() % size as u64) as usize,
        };
        if cluster.is_up[at] {
            cluster.kill(at);
        }
        let down = cluster.is_up.iter().filter(|is_up| !**is_up).count();
        if down * 2 >= size - 1 || kill + 1 == kills {
            thread::sleep(random.up_to_ms(600));
            for at in 0..size {
                if !cluster.is_up[at] {
                    cluster.restart(at);
                }
            }
        }
    }
    judge(&cluster, &(0..size).collect::<Vec<_>>(), clients, seed);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Ends the clients, and decides from what they were promised whether each of these servers has
/// kept it.
fn judge(cluster: &Cluster, up: &[usize], clients: Vec<(Child, PathBuf)>, seed: u64) {
    let length = |journal: &Path| std::fs::metadata(journal).map_or(0, |found| found.len());
    for (_, journal) in &clients {
        let before = length(journal);
        common::eventually("every client goes on", || length(journal) > before);
    }
    let journals: Vec<PathBuf> = clients.into_iter().map(end).collect();
    let files = |at: usize| -> Vec<Vec<u8>> {
        let read = |id| std::fs::read(cluster.data(at).join(format!("file_{id}"))).unwrap();
        (0..100).map(read).collect()
    };
    common::eventually("all servers have the same files", || {
        let first = files(up[0]);
        up[1..].iter().all(|at| files(*at) == first)
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_journal.py");
    for &at in up {
        let mut check = Command::new("python3");
        let status = check.arg(&script).arg(cluster.data(at)).args(&journals).status();
        assert!(status.expect("python3 is needed").success(), "server {}: seed {seed}", at + 1);
    }
}

fn client(number: usize, seed: u64, servers: &str, dir: &Path) -> (Child, PathBuf) {
    let journal = dir.join(format!("c{number}.journal"));
    let child = common::hermetic(Command::new(compile("torture_client.c")))
        .arg(servers)
        .arg(number.to_string())
        .arg(seed.to_string())
        .arg(&journal)
        .arg("2000")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    (child, journal)
}

/// Lets a client finish its section, and waits for that.
fn end((mut child, journal): (Child, PathBuf)) -> PathBuf {
    drop(child.stdin.take());
    let status = common::wait_for_exit(&mut child, "a client");
    assert!(status.success(), "{}: {status}", journal.display());
    journal
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

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn up_to_ms(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.next() % (most * 1000))
    }
}
