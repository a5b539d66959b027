//! `baton proxy` as a process: its ready line, relaying between a real client and a real server,
//! and its ends.

mod common;

use common::Server;
use common::driver::Driver;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

fn proxy(arguments: &[&str]) -> Child {
    common::hermetic(Command::new(env!("CARGO_BIN_EXE_baton")))
        .arg("proxy")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn read(stream: impl Read) -> String {
    std::io::read_to_string(stream).unwrap()
}

#[test]
fn it_relays_with_faults_until_a_signal_and_tells_what_it_did() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = TempDir::new().unwrap();
        let server = Server::start(&dir.path().join("data"), &[]);
        let script = dir.path().join("script");
        std::fs::write(&script, "drop request append of 1 nth 1\n").unwrap();
        let target = server.addr().to_string();
        let script = script.to_str().unwrap();
        let mut child = proxy(&["127.0.0.1:0", &target, "--script", script, "-v", "--dup", "1,0"]);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("baton proxy: listening on ").unwrap();
        let mut client = Driver::connect(addr);
        for command in ["acquire", "append file_0 A", "release", "close"] {
            client.ok(command);
        }
        assert_eq!(server.file("file_0"), "A");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert!(common::wait_for_exit(&mut child, "baton proxy").success());
        assert_eq!(read(out), "", "nothing but the ready line");
        let told = read(child.stderr.take().unwrap());
        assert!(told.contains("request append of 1 nth 1 copy 1: dropped, line 1"), "{told}");
        assert!(told.contains(" seen, 1 dropped, 0 held, "), "{told}");
    }
}

#[test]
fn mistakes_are_told_with_what_was_expected() {
    let dir = TempDir::new().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "\nhold request init\n").unwrap();
    let script = script.to_str().unwrap();
    for (arguments, expected) in [
        (["--script", script], "line 2: expected \"until\" and an event"),
        (["--drop", "2"], "is no number from 0 to 1"),
        (["--delay", "9ms..2ms"], "is longer than"),
    ] {
        let mut child = proxy(&[&["127.0.0.1:0", "127.0.0.1:9"], &arguments[..]].concat());
        let status = common::wait_for_exit(&mut child, "baton proxy");
        assert_eq!(status.code(), Some(64), "{arguments:?}");
        let told = read(child.stderr.take().unwrap());
        assert!(told.contains(expected), "{told}");
    }
}
