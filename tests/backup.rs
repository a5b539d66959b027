//! `baton backup` and `batond --restore`, with real processes.

mod common;

use baton::{Connection, Error};
use common::cluster::{Cluster, free_ports};
use common::{Server, comes_true, eventually, hermetic, wait_for_exit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use tempfile::TempDir;

const LEASE: &[&str] = &["--lease", "60s"];
/// Takes some tenths of a second to be copied.
const LARGE: usize = 24 << 20;

struct Stage {
    dir: TempDir,
}

impl Stage {
    fn new() -> Stage {
        Stage { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self, name: &str) -> Server {
        Server::start(&self.path(name), LEASE)
    }

    /// A server over a new directory that begins with a backup.
    fn restored(&self, name: &str, backup: &str) -> Server {
        let backup = self.path(backup);
        let flags = [LEASE, &["--restore", backup.to_str().unwrap()]].concat();
        Server::start(&self.path(name), &flags)
    }

    fn back_up(&self, server: &str, name: &str) -> Value {
        let output = backup(server, &self.path(name), &["--json"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn check(&self, name: &str) -> (Option<i32>, String) {
        said(backup("127.0.0.1:1", &self.path(name), &["--check"]).output().unwrap())
    }

    /// What a start says that must fail.
    fn refused(&self, data: &str, flags: &[&str]) -> (Option<i32>, String) {
        let mut child = start(&self.path(data), flags).spawn().unwrap();
        if !comes_true(|| child.try_wait().unwrap().is_some()) {
            // One that serves instead has no exit code then.
            let _ = child.kill();
        }
        said(child.wait_with_output().unwrap())
    }
}

fn backup(server: &str, dir: &Path, flags: &[&str]) -> Command {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
    command.arg("backup").args(flags).arg(dir).env("BATON_SERVER", server);
    command
}

fn start(data: &Path, flags: &[&str]) -> Command {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_batond")));
    command.args(["--listen", "127.0.0.1:0"]).args(flags).arg("--data").arg(data);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn said(output: Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn addr(server: &Server) -> String {
    server.addr().to_string()
}

fn section(server: &str, file: &str, data: impl AsRef<[u8]>) -> u64 {
    let mut conn = Connection::connect(server).unwrap();
    let token = conn.acquire().unwrap();
    conn.append(file, data).unwrap();
    conn.release().unwrap();
    conn.close().unwrap();
    token.0
}

fn events(server: &Server) -> Vec<(String, Option<u64>)> {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
    let output = command.args(["history", "--json"]).env("BATON_SERVER", addr(server)).output();
    let document: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let records = document["records"].as_array().unwrap().iter();
    let event =
        |record: &Value| (record["event"].as_str().unwrap().to_owned(), record["token"].as_u64());
    records.map(event).collect()
}

/// Writes sections of the same line in two files until it is told to end.
fn write_lines(server: &str, name: usize, ends: &AtomicBool, done: &Mutex<Vec<String>>) -> u64 {
    let mut conn = Connection::connect(server).unwrap();
    let mut token = 0;
    for number in 0.. {
        let line = format!("{name}.{number}\n");
        token = conn.acquire().unwrap().0;
        conn.append("file_0", &line).unwrap();
        conn.append("file_1", &line).unwrap();
        conn.release().unwrap();
        done.lock().unwrap().push(line);
        if ends.load(Ordering::Relaxed) {
            break;
        }
    }
    conn.close().unwrap();
    token
}

/// Has a backup made while clients write. Returns what had been acknowledged before, and the
/// newest token.
fn back_up_under_load(stage: &Stage, server: &str, name: &str) -> (Vec<String>, u64) {
    let (ends, done, newest) = (AtomicBool::new(false), Mutex::default(), AtomicU64::new(0));
    let before = thread::scope(|scope| {
        for writer in 0..3 {
            let (ends, done, newest) = (&ends, &done, &newest);
            scope.spawn(move || {
                let token = write_lines(server, writer, ends, done);
                newest.fetch_max(token, Ordering::Relaxed);
            });
        }
        eventually("clients write", || done.lock().unwrap().len() >= 60);
        let before = done.lock().unwrap().clone();
        stage.back_up(server, name);
        ends.store(true, Ordering::Relaxed);
        before
    });
    (before, newest.into_inner())
}

fn assert_whole(server: &Server, before: &[String], original: &str) {
    let lines = server.file("file_0");
    assert_eq!(lines, server.file("file_1"), "sections are whole");
    assert!(original.starts_with(&lines), "it is what was there at one moment");
    for line in before {
        assert_eq!(lines.lines().filter(|one| *one == line.trim_end()).count(), 1, "{line}");
    }
}

#[test]
fn a_backup_under_load_has_all_that_was_acknowledged_before_whole_and_once() {
    let stage = Stage::new();
    let mut server = stage.server("data");
    let (before, newest) = back_up_under_load(&stage, &addr(&server), "copy");
    assert_eq!(stage.check("copy").0, Some(0));
    let original = server.file("file_0");
    server.kill();
    let restored = stage.restored("new", "copy");
    assert_whole(&restored, &before, &original);
    assert!(section(&addr(&restored), "file_2", "x") > newest);
    assert_eq!(restored.file("file_2"), "x");
}

#[test]
fn nothing_of_an_open_section_is_restored_and_its_client_is_told() {
    let stage = Stage::new();
    let mut server = stage.server("data");
    section(&addr(&server), "file_0", "A");
    let mut conn = Connection::connect(&addr(&server)).unwrap();
    let token = conn.acquire().unwrap().0;
    conn.append("file_0", "half").unwrap();
    stage.back_up(&addr(&server), "copy");
    let at = server.addr();
    server.kill();
    let copy = stage.path("copy");
    let flags = ["--lease", "60s", "--restore", copy.to_str().unwrap()];
    let restored = Server::start_at(at, &stage.path("new"), &flags);
    assert!(matches!(conn.release(), Err(Error::SessionLost)));
    assert!(section(&at.to_string(), "file_0", "B") > token);
    assert_eq!(restored.file("file_0"), "AB");
    let events = events(&restored);
    assert!(events.contains(&("evicted".into(), Some(token))), "{events:?}");
}

#[test]
fn of_an_earlier_backup_only_what_is_new_is_fetched_and_another_servers_is_left_alone() {
    let stage = Stage::new();
    let (server, other) = (stage.server("data"), stage.server("other"));
    section(&addr(&server), "file_0", "hello");
    assert_eq!(stage.back_up(&addr(&server), "copy")["fetched_bytes"], 5);
    section(&addr(&server), "file_0", " again");
    section(&addr(&server), "file_5", "five");
    let document = stage.back_up(&addr(&server), "copy");
    assert_eq!((&document["bytes"], &document["fetched_bytes"]), (&15.into(), &10.into()));
    for (content, part) in [("x", "is longer than"), ("another server's", "does not begin with")] {
        section(&addr(&other), "file_0", content);
        let output = backup(&addr(&other), &stage.path("copy"), &[]).output().unwrap();
        let (code, text) = said(output);
        assert_eq!(code, Some(65), "{text}");
        assert!(text.contains(part), "{text}");
        assert_eq!(stage.check("copy").0, Some(0), "the earlier one is whole");
    }
    assert_eq!(stage.restored("new", "copy").file("file_0"), "hello again");
}

/// Begins something that is to be killed half-way, when `is_half_way`; says whether it was.
fn kill_half_way(mut child: Child, mut is_half_way: impl FnMut() -> bool) -> bool {
    let mut is_over = false;
    eventually("it is half-way, or over", || {
        is_over = child.try_wait().unwrap().is_some();
        is_over || is_half_way()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    !is_over
}

fn len(path: &Path) -> usize {
    path.metadata().map_or(0, |metadata| metadata.len() as usize)
}

#[test]
fn an_interrupted_backup_is_no_backup_and_is_gone_on_with() {
    let stage = Stage::new();
    let server = stage.server("data");
    section(&addr(&server), "file_3", vec![b'x'; LARGE]);
    let (mut name, mut copied) = (String::new(), LARGE);
    for attempt in 0..20 {
        name = format!("copy{attempt}");
        let file = stage.path(&name).join("file_3");
        let child = backup(&addr(&server), &stage.path(&name), &[]).spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        kill_half_way(child, || len(&file) > 0 && kill(pid, Signal::SIGSTOP).is_ok());
        copied = len(&file);
        if copied > 0 && copied < LARGE {
            break;
        }
    }
    assert!(copied < LARGE, "never half-way");
    let (code, text) = stage.check(&name);
    assert_eq!(code, Some(66), "{text}");
    assert!(text.contains("was not finished"), "{text}");
    let copy = stage.path(&name);
    let (code, text) = stage.refused("new", &["--restore", copy.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("was not finished"), "{text}");
    let document = stage.back_up(&addr(&server), &name);
    assert_eq!(document["fetched_bytes"], LARGE - copied);
    assert_eq!(stage.check(&name).0, Some(0));
    assert_eq!(len(&copy.join("file_3")), LARGE);
    assert!(!copy.join("unfinished").exists());
}

#[test]
fn a_flipped_byte_is_found_by_the_check_and_by_the_restore_and_the_directory_is_left_alone() {
    let stage = Stage::new();
    let server = stage.server("data");
    section(&addr(&server), "file_3", vec![b'x'; 300_000]);
    stage.back_up(&addr(&server), "copy");
    let copy = stage.path("copy");
    for (file, at) in [("file_3", 299_999), ("file_3", 0), ("manifest", 17), ("manifest", 3)] {
        let mut bytes = fs::read(copy.join(file)).unwrap();
        bytes[at] ^= 1;
        fs::write(copy.join(file), &bytes).unwrap();
        let checked = stage.check("copy");
        let restored = stage.refused("new", &["--restore", copy.to_str().unwrap()]);
        for (code, text) in [checked, restored] {
            assert_eq!(code, Some(65), "{file} {at}: {text}");
            assert!(text.contains(&format!("{file} is damaged")), "{text}");
        }
        bytes[at] ^= 1;
        fs::write(copy.join(file), &bytes).unwrap();
    }
    assert_eq!(stage.restored("new", "copy").file("file_3").len(), 300_000);
}

#[test]
fn nothing_is_restored_over_what_a_server_has_used() {
    let stage = Stage::new();
    let mut server = stage.server("data");
    section(&addr(&server), "file_0", "A");
    stage.back_up(&addr(&server), "one");
    section(&addr(&server), "file_0", "B");
    stage.back_up(&addr(&server), "two");
    server.terminate();
    let (one, two) = (stage.path("one"), stage.path("two"));
    let restore =
        |data: &str, backup: &Path| stage.refused(data, &["--restore", backup.to_str().unwrap()]);
    let (code, text) = restore("data", &one);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("has been used by a server already"), "{text}");
    assert_eq!(server.file("file_0"), "AB");
    let mut restored = stage.restored("new", "one");
    section(&addr(&restored), "file_0", "C");
    restored.terminate();
    let (code, text) = restore("new", &two);
    assert_eq!(code, Some(78), "{text}");
    // With the same backup, or none, it goes on.
    restored.restart();
    section(&addr(&restored), "file_0", "D");
    restored.terminate();
    let restored = stage.server("new");
    assert_eq!(restored.file("file_0"), "ACD");
    let (code, text) = restore("nowhere", &stage.path("none"));
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("holds no backup"), "{text}");
    let few = ["--files", "3", "--restore", one.to_str().unwrap()];
    let (code, text) = stage.refused("few", &few);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("at least --files 100"), "{text}");
}

#[test]
fn a_directory_that_is_not_for_backups_is_refused() {
    let stage = Stage::new();
    let server = stage.server("data");
    fs::create_dir(stage.path("home")).unwrap();
    fs::write(stage.path("home").join("diary"), "x").unwrap();
    for (name, part) in [("data", "a data directory of batond"), ("home", "neither empty nor")] {
        let (code, text) = said(backup(&addr(&server), &stage.path(name), &[]).output().unwrap());
        assert_eq!(code, Some(78), "{text}");
        assert!(text.contains(part), "{text}");
    }
    let (code, text) = stage.check("home");
    assert_eq!(code, Some(66), "{text}");
    assert!(text.contains("holds no backup"), "{text}");
}

#[test]
fn a_restore_that_was_killed_is_begun_anew_and_never_served_by_halves() {
    let stage = Stage::new();
    let mut server = stage.server("data");
    section(&addr(&server), "file_3", vec![b'x'; LARGE]);
    section(&addr(&server), "file_4", "four");
    stage.back_up(&addr(&server), "copy");
    server.terminate();
    let copy = stage.path("copy");
    let flags = ["--restore", copy.to_str().unwrap()];
    let data = stage.path("new");
    let marker = data.join(".baton/restoring");
    for _ in 0..20 {
        let child = start(&data, &flags).spawn().unwrap();
        kill_half_way(child, || marker.exists());
        if marker.exists() {
            break;
        }
        fs::remove_dir_all(&data).unwrap();
    }
    assert!(marker.exists(), "never half-way");
    let (code, text) = stage.refused("new", &[]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("was interrupted"), "{text}");
    let restored = stage.restored("new", "copy");
    assert!(!marker.exists());
    assert_eq!((restored.file("file_3").len(), restored.file("file_4").len()), (LARGE, 4));
}

/// A cluster of three that begins with a backup.
fn restored_cluster(backup: &Path) -> Cluster {
    let flags = [LEASE, &["--restore", backup.to_str().unwrap()]].concat();
    Cluster::start(3, &flags)
}

#[test]
fn a_cluster_begins_with_the_backup_of_a_server_of_its_own_and_that_with_the_clusters() {
    let stage = Stage::new();
    let mut server = stage.server("data");
    let token = section(&addr(&server), "file_0", "A");
    stage.back_up(&addr(&server), "copy");
    server.terminate();
    let mut cluster = restored_cluster(&stage.path("copy"));
    cluster.leader();
    let next = section(&cluster.list(), "file_0", "B");
    assert!(next > token);
    cluster.all_hold("file_0", "AB");
    let leader = cluster.leader();
    cluster.kill(leader);
    section(&cluster.list(), "file_0", "C");
    // With the same flags it goes on.
    cluster.restart(leader);
    let newest = section(&cluster.list(), "file_0", "D");
    cluster.all_hold("file_0", "ABCD");
    // Any server will do to ask.
    let follower = cluster.follower();
    stage.back_up(&addr(&cluster.servers[follower]), "second");
    assert_eq!(stage.check("second").0, Some(0));
    drop(cluster);
    let alone = stage.restored("alone", "second");
    assert_eq!(alone.file("file_0"), "ABCD");
    assert!(section(&addr(&alone), "file_0", "E") > newest);
    let cluster = restored_cluster(&stage.path("second"));
    assert!(section(&cluster.list(), "file_0", "F") > newest);
    cluster.all_hold("file_0", "ABCDF");
}

#[test]
fn a_backup_of_a_cluster_under_load_has_all_that_was_acknowledged_before() {
    let stage = Stage::new();
    let cluster = Cluster::start(3, LEASE);
    cluster.leader();
    let (before, newest) = back_up_under_load(&stage, &cluster.list(), "copy");
    let original = cluster.servers[cluster.leader()].file("file_0");
    drop(cluster);
    let cluster = restored_cluster(&stage.path("copy"));
    let leader = cluster.leader();
    assert!(section(&cluster.list(), "file_2", "x") > newest);
    assert_whole(&cluster.servers[leader], &before, &original);
}

#[test]
fn a_backup_goes_on_when_the_leader_dies() {
    let stage = Stage::new();
    let mut cluster = Cluster::start(3, LEASE);
    cluster.leader();
    section(&cluster.list(), "file_3", vec![b'x'; LARGE]);
    let mut child = backup(&cluster.list(), &stage.path("copy"), &[]).spawn().unwrap();
    let file = stage.path("copy").join("file_3");
    eventually("it has begun to copy", || len(&file) > 0);
    let leader = cluster.leader();
    cluster.kill(leader);
    assert!(wait_for_exit(&mut child, "baton backup").success());
    assert_eq!(stage.check("copy").0, Some(0));
}

#[test]
fn a_founder_that_begins_without_the_backup_is_turned_away() {
    let stage = Stage::new();
    let mut server = stage.server("data");
    section(&addr(&server), "file_0", "A");
    stage.back_up(&addr(&server), "copy");
    server.terminate();
    let peers = free_ports(3);
    let list: Vec<_> = (1..).zip(&peers).map(|(id, addr)| format!("{id}={addr}")).collect();
    let list = list.join(",");
    let copy = stage.path("copy");
    let servers: Vec<Server> = (1..=3)
        .map(|id| {
            let (name, id) = (format!("node{id}"), id.to_string());
            let mut flags = vec!["--node", &id, "--cluster", &list];
            if id != "3" {
                flags.extend(["--restore", copy.to_str().unwrap()]);
            }
            Server::start_traced(
                &stage.path(&name),
                &flags,
                &stage.path(&name).with_extension("log"),
            )
        })
        .collect();
    let both = format!("{},{}", addr(&servers[0]), addr(&servers[1]));
    section(&both, "file_0", "B");
    let traces = || fs::read_to_string(stage.path("node3.log")).unwrap_or_default();
    eventually("the third is turned away", || traces().contains("Stranger"));
    assert_eq!(servers[2].file("file_0"), "");
    // Nor does one join with a backup.
    let join = ["--node", "4", "--join", &peers[0], "--peer-listen", "127.0.0.1:0"];
    let (code, text) =
        stage.refused("node4", &[&join[..], &["--restore", copy.to_str().unwrap()]].concat());
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("--restore is for"), "{text}");
}
