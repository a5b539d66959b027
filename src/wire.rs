//! The bytes of [`crate::protocol`]: one message a datagram, little-endian, versioned, checked.
//! A message has one encoding: what decodes, encodes to the same bytes again.
//! docs/PROTOCOL.md has the same layout as tables.

use crate::limits::{
    CLIENT_TEXT_MAX, DATAGRAM_MAX, NAME_MAX, PEER_ADDR_MAX, READ_MAX, REASON_TEXT_MAX,
};
use crate::protocol::{ClientInfo, Op, Outcome, Reason, Reform, Reply, Request, Status};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use std::net::{Ipv4Addr, SocketAddrV4};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First two bytes of every datagram.
pub const MAGIC: [u8; 2] = *b"BT";
/// Version of the protocol; a datagram of another version is dropped.
pub const VERSION: u8 = 1;
/// Bytes of the header of a request and of a reply.
pub const HEADER_LEN: usize = size_of::<RequestHeader>();
/// Length to which `Init` is padded, so that no reply to it is longer than it.
pub const INIT_LEN_MIN: usize = 128;
/// What a session's first answer says.
pub const CONNECTED: &[u8] = b"Connected!";
/// What a session's last answer says.
pub const DISCONNECTED: &[u8] = b"Disconnected!";

/// Data bytes that fit beside a file name of `name_len` bytes in one append.
pub fn piece_max(name_len: usize) -> usize {
    DATAGRAM_MAX - HEADER_LEN - size_of::<AppendBody>() - name_len
}

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than its kind requires, or longer than a datagram may be")]
    Length,
    #[error("not a datagram of this protocol")]
    Magic,
    #[error("a version of the protocol that this program does not speak")]
    Version,
    #[error("checksum mismatch")]
    Checksum,
    #[error("unknown kind of message")]
    Kind,
    #[error("a field is out of range")]
    Field,
}

impl Malformed {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Malformed; 6] = [
        Malformed::Length,
        Malformed::Magic,
        Malformed::Version,
        Malformed::Checksum,
        Malformed::Kind,
        Malformed::Field,
    ];

    /// The word for it in counts.
    pub fn word(self) -> &'static str {
        match self {
            Malformed::Length => "length",
            Malformed::Magic => "magic",
            Malformed::Version => "version",
            Malformed::Checksum => "checksum",
            Malformed::Kind => "kind",
            Malformed::Field => "field",
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RequestHeader {
    magic: [u8; 2],
    version: u8,
    kind: u8,
    checksum: U32,
    session: U64,
    number: U64,
    token: U64,
    stamp: U64,
    attempt: U32,
    lock: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ReplyHeader {
    magic: [u8; 2],
    version: u8,
    kind: u8,
    checksum: U32,
    session: U64,
    number: U64,
    token: U64,
    stamp: U64,
    attempt: U32,
    status: u8,
    reason: u8,
    flags: u8,
    reserved: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct InitBody {
    nonce: U64,
    pid: U32,
    host_len: u8,
    user_len: u8,
    program_len: u8,
    reserved: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AppendBody {
    total: U32,
    offset: U32,
    window: U16,
    name_len: u8,
    reserved: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ReadBody {
    offset: U64,
    max: U32,
    name_len: u8,
    reserved: [u8; 3],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct InspectBody {
    from: U64,
    what: u8,
    reserved: [u8; 7],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ReformBody {
    server: U64,
    what: u8,
    addr_len: u8,
    reserved: [u8; 6],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Pair {
    first: U32,
    second: U32,
}

/// Kinds of message; replies have the high bit set.
mod kind {
    pub const INIT: u8 = 0x01;
    pub const ACQUIRE: u8 = 0x02;
    pub const CANCEL: u8 = 0x03;
    pub const APPEND: u8 = 0x04;
    pub const RELEASE: u8 = 0x05;
    pub const ABORT: u8 = 0x06;
    pub const CLOSE: u8 = 0x07;
    pub const RENEW: u8 = 0x08;
    pub const READ: u8 = 0x09;
    pub const INSPECT: u8 = 0x0A;
    pub const REVOKE: u8 = 0x0B;
    pub const CLUSTER: u8 = 0x0C;
    pub const REFORM: u8 = 0x0D;

    pub const CONNECTED: u8 = 0x81;
    pub const GRANTED: u8 = 0x82;
    pub const QUEUED: u8 = 0x83;
    pub const DONE: u8 = 0x84;
    pub const DISCONNECTED: u8 = 0x85;
    pub const DATA: u8 = 0x86;
    pub const REFUSED: u8 = 0x87;
    pub const NOT_LEADER: u8 = 0x88;
}

/// What a reform is about.
mod reform {
    pub const ADD: u8 = 1;
    pub const REMOVE: u8 = 2;
    pub const TRANSFER: u8 = 3;
}

const TRY_ONLY: u32 = 1;
const CONSUMED: u8 = 1;

/// Writes the request into `out`, replacing what is there.
pub fn encode_request(request: &Request<'_>, out: &mut Vec<u8>) {
    let kind = match &request.op {
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
    };
    let header = RequestHeader {
        magic: MAGIC,
        version: VERSION,
        kind,
        checksum: U32::ZERO,
        session: request.session.0.into(),
        number: request.number.0.into(),
        token: request.token.0.into(),
        stamp: request.stamp.0.into(),
        attempt: request.attempt.0.into(),
        lock: request.lock.0.into(),
    };
    out.clear();
    out.extend_from_slice(header.as_bytes());
    match &request.op {
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
    seal(out);
}

/// Reads one request; borrows names and data from the datagram.
pub fn decode_request(datagram: &[u8]) -> Result<Request<'_>, Malformed> {
    check(datagram)?;
    let (header, body) = RequestHeader::ref_from_prefix(datagram).map_err(|_| Malformed::Length)?;
    let op = match header.kind {
        kind::INIT => decode_init(body)?,
        kind::ACQUIRE => {
            let flags = Pair::ref_from_bytes(body).map_err(|_| Malformed::Length)?;
            if flags.first.get() > TRY_ONLY || flags.second.get() != 0 {
                return Err(Malformed::Field);
            }
            Op::Acquire { try_only: flags.first.get() == TRY_ONLY }
        }
        kind::APPEND => {
            let (fixed, rest) = AppendBody::ref_from_prefix(body).map_err(|_| Malformed::Length)?;
            let (file, data) =
                rest.split_at_checked(fixed.name_len.into()).ok_or(Malformed::Length)?;
            let (total, offset) = (fixed.total.get(), fixed.offset.get());
            let end = u64::from(offset) + data.len() as u64;
            // An empty piece is an empty append: otherwise it would never end.
            if end > u64::from(total) || (data.is_empty() && total != 0) || fixed.reserved != 0 {
                return Err(Malformed::Field);
            }
            Op::Append { file, total, offset, window: fixed.window.get(), data }
        }
        kind::READ => {
            let (fixed, file) = ReadBody::ref_from_prefix(body).map_err(|_| Malformed::Length)?;
            if file.len() != usize::from(fixed.name_len) {
                return Err(Malformed::Length);
            }
            if fixed.reserved != [0; 3] {
                return Err(Malformed::Field);
            }
            Op::Read { file, offset: fixed.offset.get(), max: fixed.max.get() }
        }
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
        kind::CLUSTER if datagram.len() < DATAGRAM_MAX => return Err(Malformed::Length),
        kind::CLUSTER if body.iter().any(|&byte| byte != 0) => return Err(Malformed::Field),
        kind::CLUSTER => Op::Cluster,
        kind::REFORM => Op::Reform(decode_reform(body)?),
        kind::CANCEL => empty(body, Op::Cancel)?,
        kind::RELEASE => empty(body, Op::Release)?,
        kind::ABORT => empty(body, Op::Abort)?,
        kind::CLOSE => empty(body, Op::Close)?,
        kind::RENEW => empty(body, Op::Renew)?,
        _ => return Err(Malformed::Kind),
    };
    let session = SessionId(header.session.get());
    if (session.0 == 0) != matches!(op, Op::Init { .. } | Op::Cluster) {
        return Err(Malformed::Field);
    }
    Ok(Request {
        session,
        number: RequestNumber(header.number.get()),
        attempt: Attempt(header.attempt.get()),
        stamp: Stamp(header.stamp.get()),
        token: FencingToken(header.token.get()),
        lock: LockId(header.lock.get()),
        op,
    })
}

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

/// Whether a datagram travels from a server to a client, as far as its first bytes tell; for
/// relays and traces, which look at datagrams without being either end.
pub fn is_reply(datagram: &[u8]) -> bool {
    datagram.get(3).is_some_and(|kind| kind & 0x80 != 0)
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

fn decode_init(body: &[u8]) -> Result<Op<'_>, Malformed> {
    if HEADER_LEN + body.len() < INIT_LEN_MIN {
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
    if !rest.is_empty() && HEADER_LEN + body.len() > INIT_LEN_MIN {
        return Err(Malformed::Length);
    }
    Ok(Op::Init { nonce: fixed.nonce.get(), client })
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

/// The longest prefix of at most `max` bytes that ends at a character's end.
pub fn clip(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn empty<T>(body: &[u8], message: T) -> Result<T, Malformed> {
    if body.is_empty() { Ok(message) } else { Err(Malformed::Length) }
}

/// CRC-32C (RFC 3720 appendix B.4) over the datagram without the four bytes of the checksum.
fn checksum(datagram: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&datagram[..4]), &datagram[8..])
}

fn seal(datagram: &mut [u8]) {
    assert!(datagram.len() <= DATAGRAM_MAX, "the caller splits what is too long");
    let sum = checksum(datagram);
    datagram[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn check(datagram: &[u8]) -> Result<(), Malformed> {
    if datagram.len() < HEADER_LEN || datagram.len() > DATAGRAM_MAX {
        return Err(Malformed::Length);
    }
    if datagram[..2] != MAGIC {
        return Err(Malformed::Magic);
    }
    if datagram[2] != VERSION {
        return Err(Malformed::Version);
    }
    if datagram[4..8] != checksum(datagram).to_le_bytes() {
        return Err(Malformed::Checksum);
    }
    Ok(())
}

const _: () = assert!(HEADER_LEN == 48 && size_of::<ReplyHeader>() == HEADER_LEN);
const _: () = assert!(HEADER_LEN + size_of::<U64>() + READ_MAX <= DATAGRAM_MAX);
const _: () = assert!(
    HEADER_LEN + size_of::<InitBody>() + 3 * CLIENT_TEXT_MAX <= DATAGRAM_MAX
        && CLIENT_TEXT_MAX <= u8::MAX as usize
        && NAME_MAX <= u8::MAX as usize
);

#[cfg(test)]
mod tests;
