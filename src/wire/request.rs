//! The bytes of requests.

use super::layout::{
    AppendBody, InitBody, InspectBody, Pair, ReadBody, ReformBody, RequestHeader, TRY_ONLY, kind,
    reform,
};
use super::{
    INIT_LEN_MIN, MAGIC, Malformed, REQUEST_HEADER_LEN, VERSION, check, clip, empty, seal,
};
use crate::limits::{CLIENT_TEXT_MAX, DATAGRAM_MAX, NAME_MAX, PEER_ADDR_MAX, REASON_TEXT_MAX};
use crate::protocol::{ClientInfo, Op, Reform, Request};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

/// Writes the request into `out`, replacing what is there.
pub fn encode_request(request: &Request<'_>, out: &mut Vec<u8>) {
    let header = RequestHeader {
        magic: MAGIC,
        version: VERSION,
        kind: kind_of(&request.op),
        checksum: U32::ZERO,
        session: request.session.0.into(),
        number: request.number.0.into(),
        token: request.token.0.into(),
        stamp: request.stamp.0.into(),
        attempt: request.attempt.0.into(),
        lock: request.lock.0.into(),
        after: request.after.0.into(),
    };
    out.clear();
    out.extend_from_slice(header.as_bytes());
    encode_body(&request.op, out);
    seal(out);
}

fn kind_of(op: &Op<'_>) -> u8 {
    match op {
        Op::Init { .. } => kind::INIT,
        Op::Acquire { .. } => kind::ACQUIRE,
        Op::Cancel => kind::CANCEL,
        Op::Append { .. } => kind::APPEND,
        Op::Release => kind::RELEASE,
        Op::Abort => kind::ABORT,
        Op::Close => kind::CLOSE,
        Op::Renew => kind::RENEW,
        Op::Read { .. } => kind::READ,
        Op::Inspect { .. } => kind::INSPECT,
        Op::Revoke { .. } => kind::REVOKE,
        Op::Cluster => kind::CLUSTER,
        Op::Reform(_) => kind::REFORM,
    }
}

/// Adds what follows the header.
fn encode_body(op: &Op<'_>, out: &mut Vec<u8>) {
    match op {
        Op::Init { nonce, client } => {
            let texts = [&client.host, &client.user, &client.program]
                .map(|text| clip(text, CLIENT_TEXT_MAX));
            let body = InitBody {
                nonce: (*nonce).into(),
                pid: client.pid.into(),
                host_len: texts[0].len() as u8,
                user_len: texts[1].len() as u8,
                program_len: texts[2].len() as u8,
                reserved: 0,
            };
            out.extend_from_slice(body.as_bytes());
            for text in texts {
                out.extend_from_slice(text.as_bytes());
            }
            if out.len() < INIT_LEN_MIN {
                out.resize(INIT_LEN_MIN, 0);
            }
        }
        Op::Acquire { try_only } => {
            let flags = if *try_only { TRY_ONLY } else { 0 };
            out.extend_from_slice(Pair { first: flags.into(), second: U32::ZERO }.as_bytes());
        }
        Op::Append { file, total, offset, window, data } => {
            assert!(file.len() <= NAME_MAX, "the caller checks the name's length");
            let body = AppendBody {
                total: (*total).into(),
                offset: (*offset).into(),
                window: (*window).into(),
                name_len: file.len() as u8,
                reserved: 0,
            };
            out.extend_from_slice(body.as_bytes());
            out.extend_from_slice(file);
            out.extend_from_slice(data);
        }
        Op::Read { file, offset, max } => {
            assert!(file.len() <= NAME_MAX, "the caller checks the name's length");
            let body = ReadBody {
                offset: (*offset).into(),
                max: (*max).into(),
                name_len: file.len() as u8,
                reserved: [0; 3],
            };
            out.extend_from_slice(body.as_bytes());
            out.extend_from_slice(file);
        }
        Op::Inspect { what, from } => {
            let body = InspectBody { from: (*from).into(), what: *what, reserved: [0; 7] };
            out.extend_from_slice(body.as_bytes());
        }
        Op::Revoke { token, reason } => {
            out.extend_from_slice(U64::new(token.0).as_bytes());
            out.extend_from_slice(clip(reason, REASON_TEXT_MAX).as_bytes());
        }
        // Without a session nothing longer than the question may be answered.
        Op::Cluster => out.resize(DATAGRAM_MAX, 0),
        Op::Reform(reform) => {
            let (what, server, addr) = match reform {
                Reform::Add { server, addr } => (reform::ADD, *server, addr.as_str()),
                Reform::Remove { server } => (reform::REMOVE, *server, ""),
                Reform::Transfer { server } => (reform::TRANSFER, *server, ""),
            };
            assert!(addr.len() <= PEER_ADDR_MAX, "the caller checks the address's length");
            let addr_len = addr.len() as u8;
            let body = ReformBody { server: server.into(), what, addr_len, reserved: [0; 6] };
            out.extend_from_slice(body.as_bytes());
            out.extend_from_slice(addr.as_bytes());
        }
        Op::Cancel | Op::Release | Op::Abort | Op::Close | Op::Renew => {}
    }
}

/// Reads one request; borrows names and data from the datagram.
pub fn decode_request(datagram: &[u8]) -> Result<Request<'_>, Malformed> {
    check(datagram)?;
    let (header, body) = RequestHeader::ref_from_prefix(datagram).map_err(|_| Malformed::Length)?;
    let op = decode_body(header.kind, body)?;
    let session = SessionId(header.session.get());
    if (session.0 == 0) != matches!(op, Op::Init { .. } | Op::Cluster) {
        return Err(Malformed::Field);
    }
    Ok(Request {
        session,
        number: RequestNumber(header.number.get()),
        attempt: Attempt(header.attempt.get()),
        after: Attempt(header.after.get()),
        stamp: Stamp(header.stamp.get()),
        token: FencingToken(header.token.get()),
        lock: LockId(header.lock.get()),
        op,
    })
}

fn decode_body(kind: u8, body: &[u8]) -> Result<Op<'_>, Malformed> {
    Ok(match kind {
        kind::INIT => decode_init(body)?,
        kind::ACQUIRE => {
            let flags = Pair::ref_from_bytes(body).map_err(|_| Malformed::Length)?;
            if flags.first.get() > TRY_ONLY || flags.second.get() != 0 {
                return Err(Malformed::Field);
            }
            Op::Acquire { try_only: flags.first.get() == TRY_ONLY }
        }
        kind::APPEND => decode_append(body)?,
        kind::READ => decode_read(body)?,
        kind::INSPECT => {
            let fixed = InspectBody::ref_from_bytes(body).map_err(|_| Malformed::Length)?;
            if fixed.reserved != [0; 7] {
                return Err(Malformed::Field);
            }
            Op::Inspect { what: fixed.what, from: fixed.from.get() }
        }
        kind::REVOKE => {
            let (token, reason) = U64::ref_from_prefix(body).map_err(|_| Malformed::Length)?;
            if reason.len() > REASON_TEXT_MAX {
                return Err(Malformed::Length);
            }
            let reason = str::from_utf8(reason).map_err(|_| Malformed::Field)?;
            Op::Revoke { token: FencingToken(token.get()), reason }
        }
        kind::CLUSTER if REQUEST_HEADER_LEN + body.len() < DATAGRAM_MAX => {
            return Err(Malformed::Length);
        }
        kind::CLUSTER if body.iter().any(|&byte| byte != 0) => return Err(Malformed::Field),
        kind::CLUSTER => Op::Cluster,
        kind::REFORM => Op::Reform(decode_reform(body)?),
        kind::CANCEL => empty(body, Op::Cancel)?,
        kind::RELEASE => empty(body, Op::Release)?,
        kind::ABORT => empty(body, Op::Abort)?,
        kind::CLOSE => empty(body, Op::Close)?,
        kind::RENEW => empty(body, Op::Renew)?,
        _ => return Err(Malformed::Kind),
    })
}

fn decode_init(body: &[u8]) -> Result<Op<'_>, Malformed> {
    if REQUEST_HEADER_LEN + body.len() < INIT_LEN_MIN {
        return Err(Malformed::Length);
    }
    let (fixed, mut rest) = InitBody::ref_from_prefix(body).map_err(|_| Malformed::Length)?;
    let mut text = |len: u8| -> Result<String, Malformed> {
        if usize::from(len) > CLIENT_TEXT_MAX {
            return Err(Malformed::Field);
        }
        let (bytes, after) = rest.split_at_checked(len.into()).ok_or(Malformed::Length)?;
        rest = after;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed::Field)
    };
    let client = ClientInfo {
        host: text(fixed.host_len)?,
        user: text(fixed.user_len)?,
        program: text(fixed.program_len)?,
        pid: fixed.pid.get(),
    };
    if fixed.reserved != 0 || rest.iter().any(|&byte| byte != 0) {
        return Err(Malformed::Field);
    }
    if !rest.is_empty() && REQUEST_HEADER_LEN + body.len() > INIT_LEN_MIN {
        return Err(Malformed::Length);
    }
    Ok(Op::Init { nonce: fixed.nonce.get(), client })
}

fn decode_append(body: &[u8]) -> Result<Op<'_>, Malformed> {
    let (fixed, rest) = AppendBody::ref_from_prefix(body).map_err(|_| Malformed::Length)?;
    let (file, data) = rest.split_at_checked(fixed.name_len.into()).ok_or(Malformed::Length)?;
    let (total, offset) = (fixed.total.get(), fixed.offset.get());
    let end = u64::from(offset) + data.len() as u64;
    // An empty piece is an empty append: otherwise it would never end.
    if end > u64::from(total) || (data.is_empty() && total != 0) || fixed.reserved != 0 {
        return Err(Malformed::Field);
    }
    Ok(Op::Append { file, total, offset, window: fixed.window.get(), data })
}

fn decode_read(body: &[u8]) -> Result<Op<'_>, Malformed> {
    let (fixed, file) = ReadBody::ref_from_prefix(body).map_err(|_| Malformed::Length)?;
    if file.len() != usize::from(fixed.name_len) {
        return Err(Malformed::Length);
    }
    if fixed.reserved != [0; 3] {
        return Err(Malformed::Field);
    }
    Ok(Op::Read { file, offset: fixed.offset.get(), max: fixed.max.get() })
}

fn decode_reform(body: &[u8]) -> Result<Reform, Malformed> {
    let (fixed, addr) = ReformBody::ref_from_prefix(body).map_err(|_| Malformed::Length)?;
    let server = fixed.server.get();
    if addr.len() != usize::from(fixed.addr_len) || addr.len() > PEER_ADDR_MAX {
        return Err(Malformed::Length);
    }
    if server == 0 || fixed.reserved != [0; 6] {
        return Err(Malformed::Field);
    }
    let addr = str::from_utf8(addr).map_err(|_| Malformed::Field)?;
    match fixed.what {
        reform::ADD if !addr.is_empty() => Ok(Reform::Add { server, addr: addr.to_owned() }),
        reform::REMOVE if addr.is_empty() => Ok(Reform::Remove { server }),
        reform::TRANSFER if addr.is_empty() => Ok(Reform::Transfer { server }),
        _ => Err(Malformed::Field),
    }
}
