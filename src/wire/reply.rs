//! The bytes of replies.

use super::layout::{CONSUMED, Pair, ReplyHeader, kind};
use super::{CONNECTED, DISCONNECTED, MAGIC, Malformed, VERSION, check, empty, seal};
use crate::limits::READ_MAX;
use crate::protocol::{Outcome, Reason, Reply, Status};
use crate::types::{Attempt, FencingToken, RequestNumber, SessionId, Stamp};
use std::net::{Ipv4Addr, SocketAddrV4};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

/// Writes the reply into `out`, replacing what is there.
pub fn encode_reply(reply: &Reply<'_>, out: &mut Vec<u8>) {
    let mut token = FencingToken::default();
    let (mut status, mut reason) = (Status::Ok, Reason::None);
    let kind = match &reply.outcome {
        Outcome::Connected { .. } => kind::CONNECTED,
        Outcome::Granted { token: granted, .. } => {
            token = *granted;
            kind::GRANTED
        }
        Outcome::Queued { .. } => kind::QUEUED,
        Outcome::Done { .. } => kind::DONE,
        Outcome::Disconnected => kind::DISCONNECTED,
        Outcome::Data { .. } => kind::DATA,
        Outcome::Refused { status: why, reason: detail } => {
            (status, reason) = (*why, *detail);
            kind::REFUSED
        }
        Outcome::NotLeader { leader } => {
            token = FencingToken(leader.map_or(0, pack_address));
            kind::NOT_LEADER
        }
    };
    let header = ReplyHeader {
        magic: MAGIC,
        version: VERSION,
        kind,
        checksum: U32::ZERO,
        session: reply.session.0.into(),
        number: reply.number.0.into(),
        token: token.0.into(),
        stamp: reply.stamp.0.into(),
        attempt: reply.attempt.0.into(),
        status: status.code(),
        reason: reason.code(),
        flags: if reply.is_consumed { CONSUMED } else { 0 },
        reserved: 0,
    };
    out.clear();
    out.extend_from_slice(header.as_bytes());
    let mut pair = |first: u32, second: u32| {
        out.extend_from_slice(Pair { first: first.into(), second: second.into() }.as_bytes());
    };
    match &reply.outcome {
        Outcome::Connected { client_id } => {
            pair(*client_id, 0);
            out.extend_from_slice(CONNECTED);
        }
        Outcome::Granted { lease_ms, .. } | Outcome::Done { lease_ms } => pair(*lease_ms, 0),
        Outcome::Queued { position, ask_again_ms } => pair(*position, *ask_again_ms),
        Outcome::Disconnected => out.extend_from_slice(DISCONNECTED),
        Outcome::Data { length, data } => {
            assert!(data.len() <= READ_MAX, "the server reads no more than fits");
            out.extend_from_slice(U64::new(*length).as_bytes());
            out.extend_from_slice(data);
        }
        Outcome::Refused { .. } | Outcome::NotLeader { .. } => {}
    }
    seal(out);
}

/// Reads one reply; borrows data from the datagram.
pub fn decode_reply(datagram: &[u8]) -> Result<Reply<'_>, Malformed> {
    check(datagram)?;
    let (header, body) = ReplyHeader::ref_from_prefix(datagram).map_err(|_| Malformed::Length)?;
    let status = Status::from_code(header.status).ok_or(Malformed::Field)?;
    let reason = Reason::from_code(header.reason).ok_or(Malformed::Field)?;
    let is_refused = header.kind == kind::REFUSED;
    let is_reasoned = reason != Reason::None;
    if (status != Status::Ok) != is_refused || (is_reasoned && !is_refused) {
        return Err(Malformed::Field);
    }
    if header.flags > CONSUMED || header.reserved != 0 {
        return Err(Malformed::Field);
    }
    let pair = |bytes| -> Result<(u32, u32), Malformed> {
        let pair = Pair::ref_from_bytes(bytes).map_err(|_| Malformed::Length)?;
        Ok((pair.first.get(), pair.second.get()))
    };
    let single = |bytes| match pair(bytes)? {
        (first, 0) => Ok(first),
        _ => Err(Malformed::Field),
    };
    let outcome = match header.kind {
        kind::CONNECTED => {
            let bytes = body.strip_suffix(CONNECTED).ok_or(Malformed::Field)?;
            Outcome::Connected { client_id: single(bytes)? }
        }
        kind::GRANTED => {
            Outcome::Granted { token: FencingToken(header.token.get()), lease_ms: single(body)? }
        }
        kind::QUEUED => {
            let (position, ask_again_ms) = pair(body)?;
            Outcome::Queued { position, ask_again_ms }
        }
        kind::DONE => Outcome::Done { lease_ms: single(body)? },
        kind::DISCONNECTED if body == DISCONNECTED => Outcome::Disconnected,
        kind::DISCONNECTED => return Err(Malformed::Field),
        kind::DATA => {
            let (length, data) = U64::ref_from_prefix(body).map_err(|_| Malformed::Length)?;
            if data.len() > READ_MAX {
                return Err(Malformed::Length);
            }
            Outcome::Data { length: length.get(), data }
        }
        kind::REFUSED => empty(body, Outcome::Refused { status, reason })?,
        kind::NOT_LEADER => {
            let leader = unpack_address(header.token.get())?;
            empty(body, Outcome::NotLeader { leader })?
        }
        _ => return Err(Malformed::Kind),
    };
    if header.token.get() != 0 && !matches!(header.kind, kind::GRANTED | kind::NOT_LEADER) {
        return Err(Malformed::Field);
    }
    Ok(Reply {
        session: SessionId(header.session.get()),
        number: RequestNumber(header.number.get()),
        attempt: Attempt(header.attempt.get()),
        stamp: Stamp(header.stamp.get()),
        is_consumed: header.flags == CONSUMED,
        outcome,
    })
}

/// An address in the token's place: the port, and above it the four bytes of the IPv4 address, the
/// first one highest.
fn pack_address(address: SocketAddrV4) -> u64 {
    u64::from(address.ip().to_bits()) << 16 | u64::from(address.port())
}

fn unpack_address(packed: u64) -> Result<Option<SocketAddrV4>, Malformed> {
    let (ip, port) = (packed >> 16, (packed & 0xffff) as u16);
    let ip = Ipv4Addr::from_bits(u32::try_from(ip).map_err(|_| Malformed::Field)?);
    match (packed, port) {
        (0, _) => Ok(None),
        (_, 0) => Err(Malformed::Field),
        _ if ip.is_unspecified() => Err(Malformed::Field),
        _ => Ok(Some(SocketAddrV4::new(ip, port))),
    }
}
