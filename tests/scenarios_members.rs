//! Servers are added to a cluster and removed from it, as operators do it, with real processes.

mod common;

use common::cluster::Cluster;
use common::driver::Driver;
use common::{eventually, hermetic};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const LEASE: &[&str] = &["--lease", "60s"];

fn section(client: &mut Driver, text: &str) {
    client.ok("acquire");
    client.ok(&format!("append file_0 {text}"));
    client.ok("release");
}

#[test]
fn a_server_is_let_in_takes_over_what_there_is_and_counts() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut client = Driver::connect(cluster.list());
    section(&mut client, "A");
    let new = cluster.add(LEASE);
    assert_eq!(cluster.roles().len(), 4);
    assert_eq!(cluster.status()["waiting"], serde_json::json!([]), "it waits no more");
    cluster.all_hold("file_0", "A");
    // With it two of the others may die, one after the other.
    section(&mut client, "B");
    cluster.all_hold("file_0", "AB");
    let leader = cluster.leader();
    cluster.kill(leader);
    section(&mut client, "C");
    cluster.all_hold("file_0", "ABC");
    // It comes back with the same flags.
    cluster.restart(leader);
    cluster.kill(new);
    cluster.restart(new);
    section(&mut client, "D");
    cluster.all_hold("file_0", "ABCD");
}

#[test]
fn a_removed_server_says_so_and_ends_and_never_comes_back() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut client = Driver::connect(cluster.list());
    section(&mut client, "A");
    let gone = cluster.follower();
    let number = (gone + 1).to_string();
    assert!(cluster.baton_ok(&["remove", &number]).contains("is removed"));
    assert_eq!(cluster.servers[gone].ended(), Some(78));
    cluster.is_up[gone] = false;
    assert!(cluster.traces_of(gone).contains("was removed from the cluster"));
    section(&mut client, "B");
    cluster.all_hold("file_0", "AB");
    // Neither by being started again, nor by being added.
    let message = cluster.servers[gone].refused_restart();
    assert!(message.contains("was removed from the cluster"), "{message}");
    let addr = cluster.peers[gone].clone();
    let output = cluster.baton(&["add", &format!("{number}={addr}")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the next one is 4"), "{output:?}");
    // What is so already is no mistake.
    cluster.baton_ok(&["remove", &number]);
}

#[test]
fn the_leader_hands_over_before_it_is_removed() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut client = Driver::connect(cluster.list());
    client.ok("acquire");
    client.ok("append file_0 A");
    let leader = cluster.leader();
    cluster.baton_ok(&["remove", &(leader + 1).to_string()]);
    assert_eq!(cluster.servers[leader].ended(), Some(78));
    cluster.is_up[leader] = false;
    client.ok("append file_0 B");
    client.ok("release");
    cluster.all_hold("file_0", "AB");
    assert!(cluster.traces_of(leader).contains("leads no more"));
}

#[test]
fn a_lost_disk_is_replaced_under_a_new_number() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut client = Driver::connect(cluster.list());
    section(&mut client, "A");
    let lost = cluster.leader();
    cluster.kill(lost);
    std::fs::remove_dir_all(cluster.data(lost)).unwrap();
    section(&mut client, "B");
    // Under its old number it has forgotten what it promised, and is turned away.
    let message = cluster.servers[lost].refused_restart();
    assert!(message.contains("with another data directory"), "{message}");
    let new = cluster.add(LEASE);
    cluster.baton_ok(&["remove", &(lost + 1).to_string()]);
    let others = [1, 2, 3].into_iter().filter(|id| *id != lost as u64 + 1);
    let expected: Vec<u64> = others.chain([new as u64 + 1]).collect();
    assert_eq!(cluster.roles().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), expected);
    section(&mut client, "C");
    cluster.all_hold("file_0", "ABC");
    // The new one counts: another may die now.
    let leader = cluster.leader();
    cluster.kill(leader);
    section(&mut client, "D");
    cluster.all_hold("file_0", "ABCD");
}

#[test]
fn an_operator_has_another_server_lead() {
    let cluster = Cluster::start(3, LEASE);
    let mut client = Driver::connect(cluster.list());
    for _ in 0..3 {
        client.ok("acquire");
        client.ok("append file_0 A");
        let to = cluster.follower();
        cluster.baton_ok(&["transfer", &(to + 1).to_string()]);
        assert_eq!(cluster.leader(), to);
        client.ok("release");
    }
    cluster.all_hold("file_0", "AAA");
    let leader = cluster.leader() + 1;
    cluster.baton_ok(&["transfer", &leader.to_string()]);
}

#[test]
fn status_tells_what_is_known_also_without_a_leader() {
    let mut cluster = Cluster::start(3, LEASE);
    let leader = cluster.leader();
    let status = cluster.status();
    assert_eq!(status["leader"], leader as u64 + 1);
    assert_eq!(status["next_number"], 4);
    // Each has told the leader where clients reach it, soon after it has started.
    eventually("all servers answer", || {
        let status = cluster.status();
        let servers = status["servers"].as_array().unwrap().clone();
        servers.iter().all(|one| one["answers"] == true && one["clients"].is_string())
    });
    let follower = cluster.follower();
    cluster.kill(leader);
    cluster.kill(follower);
    eventually("the last one knows of no leader", || cluster.status()["leader"].is_null());
    let last = (0..3).find(|at| cluster.is_up[*at]).unwrap() as u64 + 1;
    let status = cluster.status();
    assert_eq!(status["seen_by"], last);
    let answers = |one: &serde_json::Value| one["answers"] == true;
    let servers = status["servers"].as_array().unwrap();
    assert_eq!(servers.iter().filter(|one| answers(one)).count(), 1, "{status:#}");
    let text = cluster.baton_ok(&["status"]);
    assert!(text.contains("no leader is known"), "{text}");
    let mut append = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
    append.args(["append", "--server", &cluster.list(), "file_0", "x"]);
    let output = append.env("BATON_TIMEOUT_MS", "500").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a majority must run"), "{said}");
    let output = cluster.baton(&["remove", &last.to_string(), "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    cluster.kill(last as usize - 1);
    let output = cluster.baton(&["status"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut cluster = Cluster::start(3, LEASE);
    cluster.leader();
    let refused = |cluster: &Cluster, args: &[&str], code: i32, part: &str| {
        let output = cluster.baton(args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
        assert!(message.contains(part), "{args:?}: {message}");
    };
    let used = format!("4={}", cluster.peers[0]);
    refused(&cluster, &["add", &used], 1, "give this one another port");
    refused(&cluster, &["add", "2=127.0.0.1:9"], 1, "the next one is 4");
    refused(&cluster, &["add", "4=127.0.0.1:9", "--timeout", "1s"], 75, "asks to be let in");
    refused(&cluster, &["add", "4=nowhere"], 64, "HOST:PORT");
    refused(&cluster, &["add", "0=a:1"], 64, "numbers from 1");
    refused(&cluster, &["remove", "9"], 1, "no server of that number");
    refused(&cluster, &["transfer", "9"], 1, "no server of that number");
    let dead = cluster.follower();
    cluster.kill(dead);
    let number = (dead + 1).to_string();
    refused(&cluster, &["transfer", &number, "--timeout", "1s"], 75, "not heard lately");
    // Of the two who are left neither can be spared while the third is away.
    let other = (cluster.follower() + 1).to_string();
    refused(&cluster, &["remove", &other, "--timeout", "1s"], 75, "too few servers");
    cluster.baton_ok(&["remove", &number]);
    cluster.baton_ok(&["remove", &other]);
    cluster.is_up[dead] = false;
    let last = cluster.roles()[0].0.to_string();
    refused(&cluster, &["remove", &last], 1, "no other server that could go on");
}

/// Whoever knows how servers greet each other, but is none, cannot fill a server's memory.
#[test]
fn a_stranger_is_not_listened_to_for_long() {
    let cluster = Cluster::start(1, LEASE);
    cluster.leader();
    let status = cluster.status();
    let id = u64::from_str_radix(status["cluster"].as_str().unwrap(), 16).unwrap();
    let mut stream = TcpStream::connect(&cluster.peers[0]).unwrap();
    let numbers = [id, 99, 1, 0, 7].map(u64::to_le_bytes).concat();
    stream.write_all(&[b"BTPR\x04\0\0\0", &numbers[..]].concat()).unwrap();
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[6], 0, "it may be a server that was added by a change not known here yet");
    stream.write_all(&[&(64_u32 << 20).to_le_bytes()[..], &[0; 4]].concat()).unwrap();
    // It waits for no more than the head: an eighth of what was announced is not taken.
    let is_ended = (0..128).any(|_| stream.write_all(&[0; 64 << 10]).is_err());
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let is_open = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    assert!(is_ended || !stream.read(&mut answer).is_err_and(is_open), "it is listened to");
}

/// Connections to the port for other servers that end, or that say nothing, take no room from those
/// of servers.
#[test]
fn strange_connections_keep_no_server_out() {
    let mut cluster = Cluster::start(3, LEASE);
    let mut client = Driver::connect(cluster.list());
    section(&mut client, "A");
    for peer in &cluster.peers {
        for _ in 0..100 {
            TcpStream::connect(peer).unwrap();
        }
    }
    let (peers, is_over) = (cluster.peers.clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut silent = VecDeque::new();
            while !is_over.load(Ordering::Relaxed) {
                silent.extend(peers.iter().filter_map(|peer| TcpStream::connect(peer).ok()));
                silent.drain(..silent.len().saturating_sub(400));
            }
        });
        // Two who find each other only now are a quorum.
        let (stays, returns) = (cluster.follower(), cluster.leader());
        for at in (0..3).filter(|at| *at != stays) {
            cluster.kill(at);
        }
        cluster.restart(returns);
        section(&mut client, "B");
        cluster.all_hold("file_0", "AB");
        is_over.store(true, Ordering::Relaxed);
    });
}
