//! Where each field of a message stands: docs/PROTOCOL.md as structures.

use super::{REPLY_HEADER_LEN, REQUEST_HEADER_LEN};
use crate::limits::{CLIENT_TEXT_MAX, DATAGRAM_MAX, NAME_MAX, READ_MAX};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RequestHeader {
    pub(super) magic: [u8; 2],
    pub(super) version: u8,
    pub(super) kind: u8,
    pub(super) checksum: U32,
    pub(super) session: U64,
    pub(super) number: U64,
    pub(super) token: U64,
    pub(super) stamp: U64,
    pub(super) attempt: U32,
    pub(super) lock: U32,
    pub(super) after: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ReplyHeader {
    pub(super) magic: [u8; 2],
    pub(super) version: u8,
    pub(super) kind: u8,
    pub(super) checksum: U32,
    pub(super) session: U64,
    pub(super) number: U64,
    pub(super) token: U64,
    pub(super) stamp: U64,
    pub(super) attempt: U32,
    pub(super) status: u8,
    pub(super) reason: u8,
    pub(super) flags: u8,
    pub(super) reserved: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct InitBody {
    pub(super) nonce: U64,
    pub(super) pid: U32,
    pub(super) host_len: u8,
    pub(super) user_len: u8,
    pub(super) program_len: u8,
    pub(super) reserved: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct AppendBody {
    pub(super) total: U32,
    pub(super) offset: U32,
    pub(super) window: U16,
    pub(super) name_len: u8,
    pub(super) reserved: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ReadBody {
    pub(super) offset: U64,
    pub(super) max: U32,
    pub(super) name_len: u8,
    pub(super) reserved: [u8; 3],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct InspectBody {
    pub(super) from: U64,
    pub(super) what: u8,
    pub(super) reserved: [u8; 7],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ReformBody {
    pub(super) server: U64,
    pub(super) what: u8,
    pub(super) addr_len: u8,
    pub(super) reserved: [u8; 6],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Pair {
    pub(super) first: U32,
    pub(super) second: U32,
}

/// Kinds of message; replies have the high bit set.
pub(super) mod kind {
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
pub(super) mod reform {
    pub const ADD: u8 = 1;
    pub const REMOVE: u8 = 2;
    pub const TRANSFER: u8 = 3;
}

pub(super) const TRY_ONLY: u32 = 1;
pub(super) const CONSUMED: u8 = 1;

const _: () = assert!(REQUEST_HEADER_LEN == 52 && REPLY_HEADER_LEN == 48);
const _: () = assert!(REPLY_HEADER_LEN + size_of::<U64>() + READ_MAX <= DATAGRAM_MAX);
const _: () = assert!(
    REQUEST_HEADER_LEN + size_of::<InitBody>() + 3 * CLIENT_TEXT_MAX <= DATAGRAM_MAX
        && CLIENT_TEXT_MAX <= u8::MAX as usize
        && NAME_MAX <= u8::MAX as usize
);
