//! `baton::Connection` against a real server: what only sockets, threads and time show.

mod common;

use baton::{Connection, Error, Options};
use common::Server;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

/// Short enough for tests that wait for it to pass.
const TIMEOUT: Duration = Duration::from_millis(300);

fn server(flags: &[&str]) -> (Server, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    (Server::start(data.path(), flags), data)
}

fn connect(server: &Server) -> Connection {
    Connection::connect(&server.addr().to_string()).unwrap()
}

#[test]
fn a_section_of_a_mebibyte_arrives_whole_and_can_be_read_back() {
    let (server, _data) = server(&[]);
    let mut connection = connect(&server);
    let text: String = (0..150_000).map(|n| format!("{n:06};")).collect();
    connection.acquire().unwrap();
    connection.append("file_0", &text).unwrap();
    connection.append("file_0", "").unwrap();
    connection.append("file_0", "end").unwrap();
    let mut start = [0; 10];
    assert_eq!(connection.read("file_0", 0, &mut start).unwrap(), 0);
    connection.release().unwrap();
    let mut back = vec![0; text.len() + 100];
    let len = connection.read("file_0", 7, &mut back).unwrap();
    assert!(back[..len] == [&text.as_bytes()[7..], b"end"].concat());
    assert_eq!(connection.read("file_0", 1 << 40, &mut start).unwrap(), 0);
    assert_eq!(server.file("file_0").len(), text.len() + 3);
    connection.close().unwrap();
}

#[test]
fn what_a_guard_did_not_release_is_discarded() {
    let (server, _data) = server(&[]);
    let mut connection = connect(&server);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = connection.lock().unwrap();
        guard.append("file_0", "lost").unwrap();
        panic!("half-way");
    }));
    assert!(panicked.is_err() && connection.fencing_token().is_none());
    let mut guard = connection.lock().unwrap();
    let first = guard.token();
    guard.append("file_0", "kept").unwrap();
    assert!(guard.lease_remaining() > Duration::ZERO);
    guard.release().unwrap();
    let guard = connection.lock().unwrap();
    assert!(guard.token() > first);
    guard.abort().unwrap();
    assert_eq!(server.file("file_0"), "kept");
}

#[test]
fn waiting_ends_with_its_timeout_and_leaves_the_queue() {
    let (server, _data) = server(&[]);
    let (mut holder, mut waiter, mut last) = (connect(&server), connect(&server), connect(&server));
    let first = holder.acquire().unwrap();
    assert!(matches!(waiter.try_acquire(), Err(Error::WouldBlock)));
    let began = Instant::now();
    assert!(matches!(waiter.acquire_timeout(TIMEOUT), Err(Error::WouldBlock)));
    assert!(began.elapsed() >= TIMEOUT);
    assert!(matches!(waiter.acquire_timeout(Duration::ZERO), Err(Error::WouldBlock)));
    holder.release().unwrap();
    assert!(last.try_acquire().unwrap() > first);
    last.abort().unwrap();
}

#[test]
fn other_threads_can_watch_the_lease_while_a_call_blocks() {
    let (server, _data) = server(&["--lease", "5s"]);
    let (mut holder, mut waiter) = (connect(&server), connect(&server));
    holder.acquire().unwrap();
    let view = waiter.watch();
    assert_eq!((view.token(), view.remaining()), (None, Duration::ZERO));
    let waiting = thread::spawn(move || waiter.acquire().map(|token| (token, waiter)));
    common::eventually("the holder's lease shrinks", || {
        holder.lease_remaining() < Duration::from_millis(4_990)
    });
    holder.release().unwrap();
    let (token, waiter) = waiting.join().unwrap().unwrap();
    assert_eq!((view.token(), waiter.fencing_token()), (Some(token), Some(token)));
    assert!(view.remaining() > Duration::ZERO && view.remaining() <= Duration::from_secs(5));
}

#[test]
fn a_server_that_is_not_there_is_unavailable_at_the_timeout() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Options { timeout: TIMEOUT, ..Options::default() };
    let began = Instant::now();
    let result = Connection::connect_with(&free.to_string(), &options);
    assert!(matches!(result, Err(Error::Unavailable)));
    assert!(began.elapsed() >= TIMEOUT && began.elapsed() < common::PATIENCE);
}

#[test]
fn the_second_server_is_found_when_the_first_is_silent() {
    let (server, _data) = server(&[]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let servers = format!("{},{}", silent.local_addr().unwrap(), server.addr());
    let mut connection = Connection::connect(&servers).unwrap();
    assert_eq!(connection.send_addr().to_string(), server.addr().to_string());
    assert_eq!(connection.recv_addr(), connection.send_addr());
    connection.close().unwrap();
}

#[test]
fn a_killed_server_is_a_pause_and_a_dead_one_a_timeout() {
    let (mut server, _data) = server(&[]);
    let options = Options { timeout: TIMEOUT, ..Options::default() };
    let mut connection = Connection::connect_with(&server.addr().to_string(), &options).unwrap();
    connection.acquire().unwrap();
    connection.append("file_0", "a").unwrap();
    server.kill();
    assert!(matches!(connection.append("file_0", "b"), Err(Error::TimedOut)));
    assert!(matches!(connection.renew(), Err(Error::Unavailable)));
    assert!(matches!(connection.release(), Err(Error::Unavailable)));
    server.restart();
    // The append that timed out is found out about first, and was its number's only taker.
    connection.append("file_0", "c").unwrap();
    connection.release().unwrap();
    assert_eq!(server.file("file_0"), "abc");
}

#[test]
fn closing_frees_the_socket_and_ends_every_use() {
    let (mut server, _data) = server(&[]);
    let mut connection = connect(&server);
    assert_eq!(connection.last_message(), "Connected!");
    assert!(connection.client_id() > 0 && connection.socket_fd() >= 0);
    connection.acquire().unwrap();
    connection.append("file_0", "published").unwrap();
    connection.close().unwrap();
    assert_eq!((connection.last_message(), connection.socket_fd()), ("Disconnected!", -1));
    assert_eq!(server.file("file_0"), "published");
    assert!(matches!(connection.acquire(), Err(Error::NotOpen)));
    assert!(matches!(connection.close(), Err(Error::NotOpen)));

    let options = Options { timeout: TIMEOUT, ..Options::default() };
    let mut connection = Connection::connect_with(&server.addr().to_string(), &options).unwrap();
    server.kill();
    assert!(matches!(connection.close(), Err(Error::TimedOut)));
    assert_eq!(connection.socket_fd(), -1);
}

#[test]
fn a_dropped_connection_gives_the_lock_back_and_publishes_nothing() {
    let (server, _data) = server(&["--lease", "60s"]);
    let mut dropped = connect(&server);
    dropped.acquire().unwrap();
    dropped.append("file_0", "unfinished").unwrap();
    drop(dropped);
    let mut next = connect(&server);
    next.acquire_timeout(common::PATIENCE).unwrap();
    next.release().unwrap();
    assert_eq!(server.file("file_0"), "");
}

#[test]
fn a_port_in_use_is_a_system_error() {
    let (server, _data) = server(&[]);
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = Options { source_port: port, ..Options::default() };
    match Connection::connect_with(&server.addr().to_string(), &options) {
        Err(Error::System(error)) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_that_no_file_can_have_are_not_found() {
    let (server, _data) = server(&[]);
    let mut connection = connect(&server);
    connection.acquire().unwrap();
    for name in [&b""[..], b"../etc/passwd", b"file_0\0", &[b'f'; 255], &[b'f'; 300]] {
        assert!(matches!(connection.append(name, "x"), Err(Error::FileNotFound)), "{name:?}");
        assert!(matches!(connection.read(name, 0, &mut [0]), Err(Error::FileNotFound)));
    }
    connection.release().unwrap();
}

#[test]
fn a_section_beyond_the_limit_is_too_large_and_goes_on_without_it() {
    let (server, _data) = server(&["--section-limit", "64KiB"]);
    let mut connection = connect(&server);
    connection.acquire().unwrap();
    connection.append("file_0", "small").unwrap();
    assert!(matches!(connection.append("file_0", vec![b'x'; 70_000]), Err(Error::TooLarge)));
    connection.append("file_0", " enough").unwrap();
    connection.release().unwrap();
    assert_eq!(server.file("file_0"), "small enough");
}
