//! Scenarios 5a to 5f: servers of a cluster are killed and come back. 5g, where the network is cut,
//! is in `scenarios_partition.rs`.

mod common;

use baton::protocol::Status;
use common::cluster::Cluster;
use common::disk::SmallDisk;
use common::driver::Driver;
use common::eventually;

const LEASE: &[&str] = &["--lease", "60s"];

/// A section that appends each of these to its file.
fn section(client: &mut Driver, appends: &[(&str, &str)]) {
    client.ok("acquire");
    for (file, text) in appends {
        client.ok(&format!("append {file} {text}"));
    }
    client.ok("release");
}

#[test]
fn scenario_5a_a_follower_is_killed_and_started_again_at_once() {
    let mut cluster = Cluster::start(3, LEASE);
    for name in ["A", "B"] {
        let mut client = Driver::connect(cluster.list());
        client.ok("acquire");
        client.ok(&format!("append file_1 {name}"));
        client.ok(&format!("append file_2 {name}"));
        let follower = cluster.follower();
        cluster.kill(follower);
        cluster.restart(follower);
        client.ok(&format!("append file_3 {name}"));
        client.ok("release");
    }
    for file in ["file_1", "file_2", "file_3"] {
        cluster.all_hold(file, "AB");
    }
}

#[test]
fn scenario_5b_a_follower_that_stayed_away_catches_up() {
    let mut cluster = Cluster::start(3, LEASE);
    let (mut c1, mut c2) = (Driver::connect(cluster.list()), Driver::connect(cluster.list()));
    let follower = cluster.follower();
    cluster.kill(follower);
    section(&mut c1, &[("file_1", "A"), ("file_2", "A"), ("file_3", "A")]);
    section(&mut c2, &[("file_1", "B"), ("file_2", "B"), ("file_3", "B")]);
    cluster.restart(follower);
    for file in ["file_1", "file_2", "file_3"] {
        cluster.all_hold(file, "AB");
    }
}

#[test]
fn scenario_5c_the_leader_is_killed_between_sections() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut clients: Vec<_> = (0..3).map(|_| Driver::connect(cluster.list())).collect();
    section(&mut clients[0], &[("file_0", "A"); 5]);
    let leader = cluster.leader();
    cluster.kill(leader);
    section(&mut clients[1], &[("file_0", "B"); 5]);
    section(&mut clients[2], &[("file_0", "C"); 5]);
    cluster.restart(leader);
    cluster.all_hold("file_0", "AAAAABBBBBCCCCC");
}

/// 5d and 5e: these die while C2 holds the lock with half of its appends made.
fn killed_inside_a_section(size: usize, followers_too: usize) {
    let mut cluster = Cluster::start(size, LEASE);
    let mut clients: Vec<_> = (0..3).map(|_| Driver::connect(cluster.list())).collect();
    section(&mut clients[0], &[("file_0", "A"); 20]);
    let token = clients[1].ok("acquire");
    for _ in 0..10 {
        clients[1].ok("append file_0 B");
    }
    let mut dead = vec![cluster.leader()];
    cluster.kill(dead[0]);
    for _ in 0..followers_too {
        let up = (0..size).find(|at| cluster.is_up[*at]).unwrap();
        cluster.kill(up);
        dead.push(up);
    }
    for _ in 0..10 {
        clients[1].ok("append file_0 B");
    }
    assert_eq!(clients[1].ok("token"), token, "the lock is held under the token of its grant");
    clients[1].ok("release");
    section(&mut clients[2], &[("file_0", "C"); 20]);
    dead.into_iter().for_each(|at| cluster.restart(at));
    let expected = ["A", "B", "C"].map(|name| name.repeat(20)).concat();
    cluster.all_hold("file_0", &expected);
}

#[test]
fn scenario_5d_the_leader_is_killed_inside_a_section() {
    killed_inside_a_section(3, 0);
}

#[test]
fn scenario_5e_leader_and_follower_of_five_are_killed_inside_a_section() {
    killed_inside_a_section(5, 1);
}

#[test]
fn scenario_5f_without_a_quorum_nothing_is_acknowledged_until_it_is_back() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut client = Driver::connect(cluster.list());
    section(&mut client, &[("file_0", "A")]);
    let mut hasty = Driver::start_with(&[("BATON_TIMEOUT_MS", "1500")]);
    hasty.ok(&format!("init {}", cluster.list()));
    let leader = cluster.leader();
    let follower = cluster.follower();
    cluster.kill(follower);
    cluster.kill(leader);
    // Whether the acquire got through is not known; what comes after it was not even sent.
    hasty.fails("acquire", Status::TimedOut);
    hasty.fails("read file_0 0 9", Status::Unavailable);
    client.send("acquire");
    let mut newcomer = Driver::start_with(&[("BATON_TIMEOUT_MS", "1500")]);
    newcomer.fails(&format!("init {}", cluster.list()), Status::Unavailable);
    assert!(client.is_blocked(), "it was asked before the newcomer tried, and waits longer");
    cluster.restart(follower);
    client.answered_ok();
    client.ok("append file_0 B");
    client.ok("release");
    section(&mut hasty, &[("file_0", "C")]);
    cluster.restart(leader);
    cluster.all_hold("file_0", "ABC");
}

#[test]
fn a_follower_that_missed_more_than_the_log_keeps_takes_over_state_and_files() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut client = Driver::connect(cluster.list());
    section(&mut client, &[("file_0", "A"), ("file_1", "A")]);
    cluster.all_hold("file_0", "A");
    let follower = cluster.follower();
    cluster.kill(follower);
    for _ in 0..10 {
        client.ok("acquire");
        for _ in 0..5 {
            client.ok("fill file_0 1000000");
        }
        client.ok("release");
    }
    let leader = cluster.leader();
    let is_cut = || cluster.traces().matches(" checkpoint index=").count() >= 4;
    common::eventually("leader and follower have made two checkpoints each", is_cut);
    cluster.restart(follower);
    section(&mut client, &[("file_1", "B")]);
    let expected = cluster.servers[leader].file("file_0");
    assert_eq!(expected.len(), 50_000_001);
    common::eventually("it has caught up", || cluster.servers[follower].file("file_0") == expected);
    cluster.all_hold("file_1", "AB");
    assert!(cluster.traces().contains("took over a state"));
    // It is as good as any other: with the leader gone it is part of the quorum.
    cluster.kill(leader);
    section(&mut client, &[("file_1", "C")]);
    // And it starts again from what it took over.
    cluster.restart(leader);
    cluster.all_hold("file_1", "ABC");
    cluster.kill(follower);
    cluster.restart(follower);
    section(&mut client, &[("file_1", "D")]);
    cluster.all_hold("file_1", "ABCD");
    cluster.all_hold("file_0", &expected);
}

#[test]
fn scenario_4c_of_a_cluster_waiters_keep_their_places_over_a_change_of_leader() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut clients: Vec<_> = (0..3).map(|_| Driver::connect(cluster.list())).collect();
    let mut tokens = vec![clients[0].ok("acquire")];
    for at in [1, 2] {
        clients[at].send("acquire");
        common::eventually("it waits", || waiting(&cluster) == at);
    }
    let leader = cluster.leader();
    cluster.kill(leader);
    for (at, name) in ["A", "B", "C"].into_iter().enumerate() {
        if at > 0 {
            tokens.push(clients[at].answered_ok());
        }
        clients[at].ok(&format!("append file_0 {name}"));
        clients[at].ok("release");
    }
    cluster.restart(leader);
    cluster.all_hold("file_0", "ABC");
    assert!(tokens.is_sorted_by_key(|token| token.parse::<u64>().unwrap()), "{tokens:?}");
}

/// How many wait for the lock.
fn waiting(cluster: &Cluster) -> usize {
    let output = common::hermetic(std::process::Command::new(env!("CARGO_BIN_EXE_baton")))
        .args(["status", "--json", "--server", &cluster.list()])
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["lock"]["waiters"].as_u64().unwrap_or_else(|| panic!("no count in {document}"))
        as usize
}

#[test]
fn a_leader_whose_disk_is_full_hands_over_and_catches_up_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(disk.path().join("data"), dir.path().join("1")).unwrap();
    std::fs::create_dir(disk.path().join("data")).unwrap();
    let mut cluster = Cluster::start_over(3, &["--lease", "60s", "--files", "3"], dir);
    let mut client = Driver::connect(cluster.list());
    section(&mut client, &[("file_0", "A")]);
    cluster.all_hold("file_0", "A");
    cluster.baton_ok(&["transfer", "1"]);
    disk.fill();
    // Refused at first, as by a server of its own.
    eventually("another one leads", || client.call("acquire").status == Status::Ok);
    let leader = cluster.leader();
    assert_ne!(leader, 0, "the one without room");
    assert!(cluster.traces_of(0).contains("no room on the disk: another server is to lead"));
    client.ok("append file_0 B");
    client.ok("release");
    cluster.is_up[0] = false;
    cluster.all_hold("file_0", "AB");
    // It counts as heard from again once it can write.
    disk.make_room();
    cluster.is_up[0] = true;
    section(&mut client, &[("file_0", "C")]);
    cluster.all_hold("file_0", "ABC");
}
