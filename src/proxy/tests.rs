use super::*;
use std::net::Ipv4Addr;

const LIMIT: Duration = Duration::from_secs(10);

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

fn v4(socket: &UdpSocket) -> SocketAddrV4 {
    match socket.local_addr().unwrap() {
        SocketAddr::V4(addr) => addr,
        SocketAddr::V6(_) => unreachable!(),
    }
}

fn start(server: &UdpSocket, script: &str) -> Proxy {
    let setup = Setup { script: script.parse().unwrap(), ..Setup::default() };
    Proxy::start(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), v4(server), setup).unwrap()
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), from)
}

#[test]
fn clients_reach_the_server_from_addresses_of_their_own_and_get_their_own_replies() {
    let server = socket();
    let proxy = start(&server, "");
    let clients = [socket(), socket()];
    let mut seen_from = Vec::new();
    for (client, text) in clients.iter().zip([b"one", b"two"]) {
        client.send_to(text, proxy.addr()).unwrap();
        let (bytes, from) = receive(&server);
        assert_eq!(bytes, text);
        seen_from.push(from);
    }
    assert_ne!(seen_from[0], seen_from[1]);
    for (from, text) in seen_from.iter().rev().zip([b"TWO", b"ONE"]) {
        server.send_to(text, from).unwrap();
    }
    for (client, text) in clients.iter().zip([b"ONE", b"TWO"]) {
        let (bytes, from) = receive(client);
        assert_eq!(bytes, text);
        assert_eq!(from, SocketAddr::V4(proxy.addr()));
    }
    proxy.stop().unwrap();
}

#[test]
fn a_watch_tells_of_a_datagram_and_a_new_script_frees_a_held_one_at_once() {
    let server = socket();
    let proxy = start(&server, "hold request other nth 1 until request close of 9");
    let client = socket();
    let watch = proxy.watch("request other of 1 nth 1").unwrap();
    assert!(!watch.has_come());
    client.send_to(b"held", proxy.addr()).unwrap();
    assert!(watch.wait(LIMIT));
    client.send_to(b"passes", proxy.addr()).unwrap();
    assert_eq!(receive(&server).0, b"passes", "until an event all that match are held: only nth 1");
    proxy.set_script(Script::default());
    assert_eq!(receive(&server).0, b"held");
    assert_eq!(proxy.stats().requests.held, 1);
}

#[test]
fn a_server_that_is_away_for_a_while_is_reached_again() {
    let gone = socket();
    let addr = gone.local_addr().unwrap();
    let proxy = start(&gone, "");
    drop(gone);
    let client = socket();
    let watch = proxy.watch("request other nth 2").unwrap();
    for _ in 0..2 {
        client.send_to(b"nobody hears", proxy.addr()).unwrap();
    }
    assert!(watch.wait(LIMIT));
    let server = UdpSocket::bind(addr).unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    // A refusal may still be on its way to the proxy's socket and cost one datagram; and one of
    // the first two may have been relayed only now.
    for _ in 0..2 {
        client.send_to(b"again", proxy.addr()).unwrap();
    }
    while receive(&server).0 != b"again" {}
}
