//! Starting and stopping the daemon: what it refuses, what it leaves behind, what it finds again.

mod common;

use baton::disk::RealDisk;
use baton::types::LogIndex;
use baton::{Connection, wal};
use common::{Server, hermetic, wait_for_exit};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What a start says that must fail.
fn refused(args: &[&str], data: &Path) -> String {
    ended(args, data).1
}

/// The exit code of a start that must fail, and what it says.
fn ended(args: &[&str], data: &Path) -> (Option<i32>, String) {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_batond")));
    command.args(args).arg("--data").arg(data).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let status = wait_for_exit(&mut child, "a batond that cannot start");
    assert!(!status.success());
    (status.code(), std::io::read_to_string(child.stderr.take().unwrap()).unwrap())
}

fn section(server: &Server, file: &str, data: &str) {
    let mut conn = Connection::connect(&server.addr().to_string()).unwrap();
    conn.acquire().unwrap();
    conn.append(file, data).unwrap();
    conn.release().unwrap();
    conn.close().unwrap();
}

#[test]
fn a_port_in_use_is_refused_with_advice() {
    let data = TempDir::new().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let said = refused(&["--listen", &addr], data.path());
    assert!(said.contains(&addr) && said.contains("--listen"), "{said}");
}

#[test]
fn a_data_directory_in_use_is_refused_and_its_server_goes_on() {
    let data = TempDir::new().unwrap();
    let server = Server::start(data.path(), &[]);
    let said = refused(&["--listen", "127.0.0.1:0"], data.path());
    assert!(said.contains("in use by another batond"), "{said}");
    section(&server, "file_0", "A");
}

#[test]
fn a_directory_with_somebody_elses_files_is_refused_and_left_alone() {
    let data = TempDir::new().unwrap();
    std::fs::write(data.path().join("file_3"), "precious").unwrap();
    let said = refused(&["--listen", "127.0.0.1:0"], data.path());
    assert!(said.contains("file_3"), "{said}");
    assert_eq!(std::fs::read(data.path().join("file_3")).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
}

#[test]
fn what_the_system_refuses_is_told_from_damage_and_from_another_versions_state() {
    let data = TempDir::new().unwrap();
    let mut server = Server::start(data.path(), &[]);
    section(&server, "file_0", "A");
    assert!(server.terminate().success());
    let file = data.path().join("file_3");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let (code, said) = ended(&["--listen", "127.0.0.1:0"], data.path());
    assert!(code == Some(74) && said.contains("file_3"), "{code:?}: {said}");

    let private = data.path().join(".baton");
    wal::write_checkpoint(&RealDisk, &private, LogIndex(1), &[b"\x01"]).unwrap();
    let (code, said) = ended(&["--listen", "127.0.0.1:0"], data.path());
    assert!(code == Some(65) && said.contains("of another version of the program"), "{said}");
}

#[test]
fn a_data_file_that_was_cut_by_hand_stops_the_start() {
    let data = TempDir::new().unwrap();
    let mut server = Server::start(data.path(), &[]);
    section(&server, "file_7", "0123456789");
    assert!(server.terminate().success());
    std::fs::write(data.path().join("file_7"), "0123").unwrap();
    let said = refused(&["--listen", "127.0.0.1:0"], data.path());
    assert!(said.contains("file_7"), "{said}");
    assert_eq!(std::fs::read(data.path().join("file_7")).unwrap(), b"0123");
}

#[test]
fn a_stopped_server_leaves_a_checkpoint_and_starts_from_it() {
    let data = TempDir::new().unwrap();
    let mut server = Server::start(data.path(), &[]);
    let mut conn = Connection::connect(&server.addr().to_string()).unwrap();
    let token = conn.acquire().unwrap();
    conn.append("file_0", "staged before, ").unwrap();
    assert!(server.terminate().success());
    server.restart();
    conn.append("file_0", "and after").unwrap();
    conn.release().unwrap();
    assert_eq!(server.file("file_0"), "staged before, and after");
    assert!(conn.acquire().unwrap() > token);
    conn.close().unwrap();
}

#[test]
fn more_files_can_be_asked_for_later_and_fewer_are_never_taken_away() {
    let data = TempDir::new().unwrap();
    let mut server = Server::start(data.path(), &["--files", "2"]);
    section(&server, "file_1", "A");
    assert!(server.terminate().success());
    let mut server = Server::start(data.path(), &["--files", "3"]);
    section(&server, "file_2", "B");
    server.kill();
    let said = refused(&["--listen", "127.0.0.1:0", "--files", "2"], data.path());
    assert!(said.contains("3"), "{said}");
}

#[test]
fn malformed_datagrams_are_counted() {
    let data = TempDir::new().unwrap();
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_batond")));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let addr = line.trim().rsplit(' ').next().unwrap().to_owned();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..7 {
        socket.send_to(b"rubbish", &addr).unwrap();
    }
    // Answered after them, since the socket's queue is in order and 7 fit into it.
    let mut conn = Connection::connect(&addr).unwrap();
    conn.close().unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(wait_for_exit(&mut child, "batond").success());
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(said.contains("malformed=7"), "{said}");
}
