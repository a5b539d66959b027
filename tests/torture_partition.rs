//! Servers of a cluster are cut off from each other or from their clients, killed and started again
//! at random moments, the leader more often than the others, while clients that know all of them or
//! only one take the lock in closed loops, and are stopped themselves in the second test until their
//! leases run out. `tests/support/check_journal.py` then decides from the clients' journals and each
//! server's data files whether every promise was kept, and all servers must have the same files.
//! Needs root and `ip`; skipped loudly otherwise. `BATON_TORTURE_CUTS` makes it longer.

mod common;

use common::eventually;
use common::network::{Net, Network};
use common::torture::{Clients, Random, is_kept};
use std::thread;

const CLIENTS: usize = 6;
/// How long a long line may be.
const LETTERS: u32 = 2_000;
/// How many sections are acknowledged at least between two storms.
const SECTIONS: u64 = 20;
/// Longer than an election takes, and than a follower waits for its leader.
const MOMENT_MS: u64 = 1_500;

#[test]
fn cut_off_and_killed_in_turn_servers_keep_what_was_acknowledged() {
    torture(3, "60s", &["--lossy"]);
}

#[test]
fn leases_that_run_out_amid_cuts_and_kills_leave_nothing_behind() {
    torture(5, "1s", &["--lossy", "--expiring"]);
}

fn cuts() -> u32 {
    let given = std::env::var("BATON_TORTURE_CUTS").ok();
    given.map_or(12, |text| text.parse().expect("BATON_TORTURE_CUTS is a number"))
}

fn torture(size: usize, lease: &str, bearing: &[&str]) {
    let Some(mut network) = Network::start(size, &["--lease", lease]) else {
        return;
    };
    let seed = common::seed();
    let mut random = Random(seed | 1);
    // Stays behind, for looking at, when the test fails.
    let dir = tempfile::tempdir().unwrap().keep();
    let known = |n: usize| match n % 3 {
        0 => network.addr(n % size + 1),
        _ => network.list(),
    };
    let servers: Vec<_> = (1..=CLIENTS).map(known).collect();
    let mut clients = Clients::start_in(&network.clients(), seed, LETTERS, &servers, &dir);
    clients.go_on_for(SECTIONS);
    for _ in 0..cuts() {
        storm(&mut network, &mut clients, &mut random, bearing.contains(&"--expiring"));
        for id in 1..=size {
            network.cut(Net::Peers, id, false);
            network.cut(Net::Clients, id, false);
            if !network.is_up(id) {
                network.restart(id);
            }
        }
        clients.go_on_for(random.one_to(SECTIONS));
    }
    clients.all_go_on();
    let journals = clients.end();
    let files = |id: usize| -> Vec<Vec<u8>> {
        let read = |file| std::fs::read(network.data(id).join(format!("file_{file}"))).unwrap();
        (0..100).map(read).collect()
    };
    eventually("all servers have the same files", || (2..=size).all(|id| files(id) == files(1)));
    for id in 1..=size {
        assert!(is_kept(&network.data(id), &journals, bearing), "server {id}: seed {seed}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A few faults one after the other, which go by only when all have been there.
fn storm(network: &mut Network, clients: &mut Clients, random: &mut Random, stops_clients: bool) {
    let size = network.size();
    let mut held = Vec::new();
    for _ in 0..random.one_to(3) {
        let leader = network.leader().map_or(1, |(_, id)| id);
        let id = match random.next() % 2 {
            0 => leader,
            _ => random.one_to(size as u64) as usize,
        };
        match random.next() % 5 {
            0 | 1 => network.cut(Net::Peers, id, true),
            2 => network.cut(Net::Clients, id, true),
            3 => network.kill(id),
            _ if stops_clients => {
                for at in (0..CLIENTS).filter(|_| random.next().is_multiple_of(2)) {
                    clients.hold(at, true);
                    held.push(at);
                }
            }
            _ => network.cut(Net::Peers, leader, true),
        }
        thread::sleep(random.up_to_ms(MOMENT_MS));
    }
    for at in held {
        clients.hold(at, false);
    }
}
