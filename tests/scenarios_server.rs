//! Scenarios 4a to 4c, 4e and 4f: the server is killed and started again, its log is damaged, its
//! disk is full. 4d, the long one, is in `torture.rs`.

mod common;

use baton::protocol::Status;
use common::Server;
use common::disk::SmallDisk;
use common::driver::Driver;
use common::stage::Stage;
use std::path::{Path, PathBuf};
use std::process::Command;

const LEASE: &str = "60s";

#[test]
fn scenario_4a_a_restart_while_the_lock_is_free_is_only_a_pause() {
    let mut stage = Stage::with_script(LEASE, "");
    let mut c1 = stage.client();
    for command in ["acquire", "append file_0 A", "append file_0 A", "release"] {
        c1.ok(command);
    }
    stage.server.kill();
    stage.server.restart();
    for command in ["acquire", "append file_0 1", "release"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), "AA1");
}

#[test]
fn a_call_made_while_the_server_is_away_ends_when_it_is_back() {
    let mut stage = Stage::with_script(LEASE, "");
    let mut c1 = stage.client();
    for (command, message) in [
        ("acquire", "request acquire of 1"),
        ("append file_0 A", "request append of 1"),
        ("renew", "request renew of 1"),
        ("release", "request release of 1"),
        ("read file_0 0 9", "request read of 1"),
        ("close", "request close of 1"),
    ] {
        stage.server.kill();
        let sent = stage.watch(message);
        c1.send(command);
        sent.wait();
        stage.server.restart();
        c1.answered_ok();
    }
    assert_eq!(stage.file(), "A");
}

#[test]
fn scenario_4b_a_holder_keeps_lock_token_and_section_over_a_restart() {
    let mut stage = Stage::with_script(LEASE, "");
    let (mut c1, mut c2) = (stage.client(), stage.client());
    for command in ["acquire", "append file_0 A", "release"] {
        c1.ok(command);
    }
    let token = c2.ok("acquire");
    c2.ok("append file_0 B");
    stage.server.kill();
    stage.server.restart();
    c2.ok("append file_0 B");
    assert_eq!(c2.ok("token"), token);
    assert_eq!(stage.file(), "A", "nothing of a section shows before its release");
    c2.ok("release");
    for command in ["acquire", "append file_0 A", "release"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), "ABBA");
}

#[test]
fn scenario_4c_waiters_keep_their_places_over_a_restart() {
    let mut stage = Stage::with_script(LEASE, "");
    let (mut c1, mut c2, mut c3) = (stage.client(), stage.client(), stage.client());
    let mut tokens = vec![c1.ok("acquire")];
    stage.queue(&mut c2, 2);
    stage.queue(&mut c3, 3);
    let anew = ["request acquire of 2 nth 2", "request acquire of 3 nth 2"];
    let anew = anew.map(|pattern| stage.watch(pattern));
    stage.server.kill();
    stage.server.restart();
    c1.ok("append file_0 A");
    c1.ok("release");
    tokens.push(c2.answered_ok());
    c2.ok("append file_0 B");
    assert!(c3.is_blocked());
    c2.ok("release");
    tokens.push(c3.answered_ok());
    c3.ok("append file_0 C");
    c3.ok("release");
    assert_eq!(stage.file(), "ABC");
    assert!(tokens.is_sorted_by_key(|token| token.parse::<u64>().unwrap()), "{tokens:?}");
    assert!(!anew.iter().any(|acquire| acquire.has_come()), "a waiter had to ask anew");
}

#[test]
fn scenario_4e_a_torn_tail_is_dropped_and_the_server_goes_on() {
    type Harm = fn(&mut Vec<u8>, usize, usize);
    let harms: [(&str, Harm); 5] = [
        ("one byte is cut", |log, _, end| log.truncate(end - 1)),
        ("half of the last entry is cut", |log, start, end| log.truncate((start + end) / 2)),
        ("all but a byte of it is cut", |log, start, _| log.truncate(start + 1)),
        ("its last bytes are overwritten", |log, _, end| log[end - 3..end].fill(0xA5)),
        ("its first bytes are overwritten", |log, start, _| log[start..start + 3].fill(0xA5)),
    ];
    for (what, harm) in harms {
        println!("{what}");
        let mut stage = Stage::with_script(LEASE, "");
        let (mut c1, mut c2) = (stage.client(), stage.client());
        for command in ["acquire", "append file_0 A", "release"] {
            c1.ok(command);
        }
        c2.ok("acquire");
        c2.ok("append file_0 B");
        stage.server.kill();
        let path = newest_segment(stage.dir.path());
        let mut log = std::fs::read(&path).unwrap();
        let (start, end) = *entries(&log).last().unwrap();
        harm(&mut log, start, end);
        std::fs::write(&path, log).unwrap();
        stage.server.restart();
        // The append was acknowledged and is gone: its section must not appear without it.
        c2.fails("release", Status::SessionLost);
        for command in ["acquire", "append file_0 1", "release"] {
            c1.ok(command);
        }
        assert_eq!(stage.file(), "A1", "{what}");
    }
}

#[test]
fn scenario_4e_earlier_damage_stops_the_start_with_file_and_offset() {
    let mut stage = Stage::with_script(LEASE, "");
    let mut c1 = stage.client();
    for _ in 0..3 {
        for command in ["acquire", "append file_0 A", "release"] {
            c1.ok(command);
        }
    }
    stage.server.kill();
    let path = newest_segment(stage.dir.path());
    let log = std::fs::read(&path).unwrap();
    let (start, end) = entries(&log)[1];
    for at in [start, start + 4, start + 8, end - 1] {
        let mut damaged = log.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let message = refused_start(stage.dir.path());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(message.contains(name), "no file in: {message}");
        assert!(message.contains(&start.to_string()), "no offset {start} in: {message}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing is to be changed");
    }
    std::fs::write(&path, log).unwrap();
    stage.server.restart();
    c1.ok("acquire");
    c1.ok("release");
    assert_eq!(stage.file(), "AAA");
}

#[test]
fn scenario_4f_a_full_disk_is_refused_and_the_server_recovers_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let traces = tempfile::NamedTempFile::new().unwrap();
    let data = disk.path().join("data");
    let flags = ["--lease", LEASE, "--files", "3"];
    let server = Server::start_traced(&data, &flags, traces.path());
    let mut c1 = Driver::connect(server.addr());
    c1.ok("acquire");
    c1.ok("append file_0 A");
    disk.fill();
    // The room that the server had set aside is used up sooner or later.
    const PIECE: usize = 200_000;
    let mut pieces = 0;
    let refused = loop {
        let answer = c1.call(&format!("fill file_0 {PIECE}"));
        if answer.status != Status::Ok {
            break answer;
        }
        pieces += 1;
        assert!(pieces * PIECE < 64 << 20, "more than the disk holds was accepted");
    };
    assert_eq!(refused.status, Status::Refused, "{refused:?}");
    let message = c1.ok("message");
    assert!(message.contains("full"), "{message}");
    let traced = std::fs::read_to_string(traces.path()).unwrap();
    assert!(traced.contains("the disk is full"), "{traced}");
    assert_eq!(server.file("file_0"), "");
    disk.make_room();
    c1.ok("append file_0 B");
    c1.ok("release");
    assert_eq!(server.file("file_0"), format!("A{}B", "x".repeat(pieces * PIECE)));
}

#[test]
fn scenario_4f_a_release_on_a_full_disk_is_done_or_not_done_never_half() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let data = disk.path().join("data");
    let mut server = Server::start(&data, &["--lease", LEASE, "--files", "3"]);
    let mut c1 = Driver::connect(server.addr());
    c1.ok("acquire");
    c1.ok("fill file_0 1000000");
    c1.ok("fill file_1 1000000");
    disk.fill();
    let answer = c1.call("release");
    let sizes = || [0, 1].map(|n| server.file(&format!("file_{n}")).len());
    match answer.status {
        Status::Ok => assert_eq!(sizes(), [1_000_000; 2]),
        Status::Refused => {
            assert_eq!(sizes(), [0; 2]);
            disk.make_room();
            c1.ok("release");
            assert_eq!(sizes(), [1_000_000; 2]);
        }
        status => panic!("{status:?} is neither done nor refused"),
    }
    disk.make_room();
    server.kill();
    server.restart();
    c1.ok("acquire");
    c1.ok("append file_0 A");
    c1.ok("release");
    assert_eq!(server.file("file_0").len(), 1_000_001);
    assert_eq!(server.file("file_1").len(), 1_000_000);
}

/// The last entries become stable while it stops, and little room makes that a checkpoint's turn:
/// two at once took each other's file away.
#[test]
fn a_stop_makes_one_checkpoint_at_a_time() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let data = disk.path().join("data");
    let mut server = Server::start(&data, &["--lease", LEASE, "--files", "3"]);
    for _ in 0..5 {
        let mut c1 = Driver::connect(server.addr());
        c1.ok("acquire");
        c1.ok("fill file_0 1200000");
        let status = server.terminate();
        assert!(status.success(), "{status}");
        server.restart();
        c1.ok("abort");
        c1.ok("close");
    }
}

#[test]
fn scenario_4f_a_read_only_data_directory_is_refused_with_a_message() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let data = disk.path().join("data");
    let mut server = Server::start(&data, &["--files", "3"]);
    assert!(server.terminate().success());
    disk.remount("ro");
    let message = refused_start(&data);
    assert!(message.contains("ead-only"), "{message}");
    disk.remount("rw");
    server.restart();
    Driver::connect(server.addr()).ok("acquire");
}

/// What `batond` says on standard error when it does not start over this data directory.
fn refused_start(data: &Path) -> String {
    let mut child = common::hermetic(Command::new(env!("CARGO_BIN_EXE_batond")))
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let status = common::wait_for_exit(&mut child, "batond");
    assert!(!status.success(), "it started");
    std::io::read_to_string(child.stderr.take().unwrap()).unwrap()
}

fn newest_segment(data: &Path) -> PathBuf {
    let listed = std::fs::read_dir(data.join(".baton")).unwrap();
    let mut segments: Vec<PathBuf> = listed
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("wal-"))
        .collect();
    segments.sort();
    segments.pop().expect("there is a segment")
}

/// Where each entry of a segment starts and ends; docs/DISK.md has the layout.
fn entries(log: &[u8]) -> Vec<(usize, usize)> {
    const SEGMENT_HEADER: usize = 32;
    const ENTRY_HEADER: usize = 24;
    let mut found = Vec::new();
    let mut at = SEGMENT_HEADER;
    while let Some(len) = log.get(at..at + 4) {
        let len = u32::from_le_bytes(len.try_into().unwrap()) as usize;
        if len == 0 {
            break;
        }
        found.push((at, at + ENTRY_HEADER + len));
        at += ENTRY_HEADER + len;
    }
    found
}
