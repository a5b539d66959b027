//! Several servers that act as one: only the leader decides, the others send clients to it.

use super::world::{SERVER, config};
use crate::client::call::{Answer, Call};
use crate::client::exchange::Exchange;
use crate::protocol::{Outcome, Reply};
use crate::types::SessionId;
use crate::wire;
use std::net::SocketAddrV4;

/// An exchange that registers, and the datagram that it has sent last.
struct Stage {
    exchange: Exchange,
    now: u64,
    to: SocketAddrV4,
    datagram: Vec<u8>,
}

fn server(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new([10, 0, 0, last].into(), 10_000)
}

impl Stage {
    fn new(servers: &[SocketAddrV4]) -> Stage {
        let mut config = config(1);
        config.servers = servers.to_vec();
        let mut exchange = Exchange::new(config);
        exchange.begin(Call::Connect, 0);
        let mut stage = Stage { exchange, now: 0, to: servers[0], datagram: Vec::new() };
        stage.send();
        stage
    }

    /// Lets time pass until something is sent; returns how much.
    fn send(&mut self) -> u64 {
        let began = self.now;
        loop {
            if let Some(to) = self.exchange.poll_transmit(self.now, &mut self.datagram) {
                self.to = to;
                return self.now - began;
            }
            self.now = self.exchange.poll_timeout().unwrap();
            self.exchange.handle_timeout(self.now);
        }
    }

    /// The server that was asked answers.
    fn answer(&mut self, outcome: Outcome<'static>) {
        let request = wire::decode_request(&self.datagram).unwrap();
        let is_consumed = !matches!(outcome, Outcome::NotLeader { .. });
        let reply = Reply {
            session: SessionId(7),
            number: request.number,
            attempt: request.attempt,
            stamp: request.stamp,
            is_consumed,
            outcome,
        };
        let mut bytes = Vec::new();
        wire::encode_reply(&reply, &mut bytes);
        self.now += 100;
        self.exchange.handle_datagram(self.now, self.to, &bytes);
    }

    fn refer(&mut self, leader: Option<SocketAddrV4>) {
        self.answer(Outcome::NotLeader { leader });
    }
}

#[test]
fn a_hint_is_followed_at_once_also_to_a_server_that_is_not_in_the_list() {
    let mut stage = Stage::new(&[SERVER]);
    stage.refer(Some(server(9)));
    assert_eq!((stage.send(), stage.to), (0, server(9)));
    stage.answer(Outcome::Connected { client_id: 1 });
    assert!(matches!(stage.exchange.poll_outcome(), Some(Ok(Answer::Done))));
    assert_eq!(stage.exchange.server(), server(9));
}

#[test]
fn servers_that_know_no_leader_are_asked_in_turn_with_pauses() {
    let mut stage = Stage::new(&[server(1), server(2), server(3)]);
    for next in [2, 3, 1, 2] {
        stage.refer(None);
        assert_eq!((stage.send(), stage.to), (20_000, server(next)));
    }
}

#[test]
fn servers_that_name_each_other_are_not_asked_without_end() {
    let mut stage = Stage::new(&[server(1), server(2)]);
    let mut waited = 0;
    for _ in 0..10 {
        let other = if stage.to == server(1) { server(2) } else { server(1) };
        stage.refer(Some(other));
        waited += stage.send();
    }
    assert!(waited > 50_000, "{waited} µs");
}

#[test]
fn a_leader_that_is_silent_is_not_believed_in() {
    let mut stage = Stage::new(&[server(1), server(2), server(3)]);
    while stage.to == server(1) {
        stage.send();
    }
    assert_eq!(stage.to, server(2));
    stage.refer(Some(server(1)));
    stage.send();
    assert_eq!(stage.to, server(3));
    stage.refer(Some(server(2)));
    stage.send();
    assert_eq!(stage.to, server(2));
}

#[test]
fn being_sent_around_is_no_answer() {
    let mut stage = Stage::new(&[server(1), server(2)]);
    let outcome = loop {
        stage.refer(None);
        while stage.exchange.poll_transmit(stage.now, &mut stage.datagram).is_none() {
            let Some(at) = stage.exchange.poll_timeout() else { break };
            stage.now = at;
            stage.exchange.handle_timeout(at);
        }
        if let Some(outcome) = stage.exchange.poll_outcome() {
            break outcome;
        }
        stage.to = stage.exchange.server();
    };
    assert!(matches!(outcome, Err(crate::Error::Unavailable)), "{outcome:?}");
    assert!(stage.now <= super::world::TIMEOUT_US + 30_000);
}
