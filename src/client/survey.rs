//! Asks every server of a cluster how it sees the cluster. That needs no session and no leader: an
//! operator wants to know most when there is none.

use super::clock::now_us;
use super::error::Error;
use super::options::{Options, resolve};
use super::process::random;
use super::socket::Socket;
use crate::limits::{DATAGRAM_MAX, SERVERS_MAX};
use crate::protocol::inspect::ClusterView;
use crate::protocol::{Op, Outcome, Reason, Request};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use crate::wire;
use std::net::SocketAddrV4;
use std::time::Duration;

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub from: SocketAddrV4,
    pub view: ClusterView,
}

/// Asks the servers of this list, and those that they name, until all have answered or `patience`
/// is over. The first answer is from the server that knows best: the leader of the newest term.
///
/// # Errors
/// [`Error::Unavailable`] when none answers, [`Error::Refused`] when it is in no cluster,
/// [`Error::InvalidArgument`] when the list is malformed.
pub fn survey(servers: &str, patience: Duration) -> Result<Vec<Answer>, Error> {
    let options = Options::default();
    let mut asked = resolve(servers, options.default_port)?;
    let socket = Socket::open(0, Duration::ZERO)?;
    let number = random()?;
    let end = now_us() + patience.as_micros() as u64;
    let mut answers: Vec<Answer> = Vec::new();
    let mut refusal = None;
    let (mut out, mut buffer) = (Vec::new(), [0; DATAGRAM_MAX + 1]);
    while now_us() < end {
        let silent = |server: &&SocketAddrV4| answers.iter().all(|one| one.from != **server);
        let silent: Vec<SocketAddrV4> = asked.iter().filter(silent).copied().collect();
        if silent.is_empty() || refusal.is_some() {
            break;
        }
        for server in silent {
            question(number, &mut out);
            socket.send(&out, server);
        }
        let next = end.min(now_us() + ASK_AGAIN_US);
        while let Some((len, from)) = socket.receive_until(next, &mut buffer, false)? {
            match read(&buffer[..len], number) {
                Some(Ok(view)) if answers.iter().all(|one| one.from != from) => {
                    let named = view.members.iter().filter_map(|member| member.clients);
                    for server in named {
                        if !asked.contains(&server) && asked.len() < ASKED_MAX {
                            asked.push(server);
                        }
                    }
                    answers.push(Answer { from, view });
                }
                Some(Err(reason)) => refusal = Some(reason),
                _ => {}
            }
            if asked.iter().all(|server| answers.iter().any(|one| one.from == *server)) {
                break;
            }
        }
    }
    if let Some(reason) = refusal {
        return Err(Error::Refused(reason));
    }
    // One server may have been asked at two addresses.
    let knowledge = |one: &Answer| (one.view.term, one.view.leader == one.view.server);
    answers.sort_by_key(|one| std::cmp::Reverse((knowledge(one), one.view.committed)));
    let mut seen = Vec::new();
    answers.retain(|one| {
        let is_new = !seen.contains(&one.view.server);
        seen.push(one.view.server);
        is_new
    });
    if answers.is_empty() { Err(Error::Unavailable) } else { Ok(answers) }
}

fn question(number: u64, out: &mut Vec<u8>) {
    let request = Request {
        session: SessionId(0),
        number: RequestNumber(number),
        attempt: Attempt(0),
        after: Attempt(0),
        stamp: Stamp(now_us()),
        token: FencingToken(0),
        lock: LockId(0),
        op: Op::Cluster,
    };
    wire::encode_request(&request, out);
}

fn read(datagram: &[u8], number: u64) -> Option<Result<ClusterView, Reason>> {
    let reply = wire::decode_reply(datagram).ok().filter(|reply| reply.number.0 == number)?;
    match reply.outcome {
        Outcome::Data { data, .. } => postcard::from_bytes(data).ok().map(Ok),
        Outcome::Refused { reason, .. } => Some(Err(reason)),
        _ => None,
    }
}

/// Silent servers are asked again after this time.
const ASK_AGAIN_US: u64 = 150_000;
/// Servers asked at most: those of a list, and as many as a cluster may have.
const ASKED_MAX: usize = 32 + SERVERS_MAX;
