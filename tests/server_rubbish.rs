//! A live server under a million random and mutated datagrams: what is malformed is never
//! answered, and the server goes on to serve. `BATON_RUBBISH=N` sets how many,
//! `BATON_TEST_SEED=N` replays a run.

mod common;

use baton::Connection;
use baton::wire::decode_request;
use common::Server;
use common::rubbish::{Mutator, count};
use common::seed;
use std::io::ErrorKind;
use std::net::UdpSocket;
use tempfile::TempDir;

/// Datagrams between two requests that wait for an answer, so that the server's socket buffer
/// does not overflow and what was sent is really looked at.
const BURST: u64 = 64;

#[test]
fn malformed_datagrams_are_never_answered_and_the_server_goes_on() {
    let dir = TempDir::new().unwrap();
    // Well-formed requests of made-up sessions are among the mutants; they need not be traced.
    let mut server = Server::start(&dir.path().join("data"), &["--trace", "error"]);
    let mut honest = Connection::connect(&server.addr().to_string()).unwrap();
    let [malformed, well_formed] = [(); 2].map(|()| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    });

    let seed = seed();
    let mut mutator = Mutator::new(seed);
    let (mut sent_malformed, mut answers) = (0, 0);
    for number in 0..count(1_000_000) {
        let datagram = mutator.datagram();
        let is_malformed = decode_request(datagram).is_err();
        sent_malformed += u64::from(is_malformed);
        let socket = if is_malformed { &malformed } else { &well_formed };
        match socket.send_to(datagram, server.addr()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}, BATON_TEST_SEED={seed}"),
        }
        if number % BURST == 0 {
            honest.read("file_0", 0, &mut [0; 16]).unwrap();
            answers += drain(&well_formed);
        }
    }

    honest.acquire().unwrap();
    honest.append("file_0", "unharmed").unwrap();
    honest.release().unwrap();
    assert_eq!(server.file("file_0"), "unharmed");
    assert!(sent_malformed > 0 && answers + drain(&well_formed) > 0, "BATON_TEST_SEED={seed}");
    assert_eq!(drain(&malformed), 0, "a malformed datagram was answered, BATON_TEST_SEED={seed}");
    assert!(server.terminate().success());
}

/// How many datagrams a socket has received.
fn drain(socket: &UdpSocket) -> u64 {
    let mut received = 0;
    while socket.recv(&mut [0; 2048]).is_ok() {
        received += 1;
    }
    received
}
