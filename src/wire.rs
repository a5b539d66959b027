//! The bytes of [`crate::protocol`]: one message a datagram, little-endian, versioned, checked.
//! A message has one encoding: what decodes, encodes to the same bytes again.
//! docs/PROTOCOL.md has the same layout as tables.
//!
//! Where each field stands is in `layout`; `request` and `reply` write and read the two.

mod layout;
mod reply;
mod request;

pub use reply::{decode_reply, encode_reply};
pub use request::{decode_request, encode_request};

use crate::limits::DATAGRAM_MAX;
use layout::{AppendBody, ReplyHeader, RequestHeader};

/// First two bytes of every datagram.
pub const MAGIC: [u8; 2] = *b"BT";
/// Version of the protocol; a datagram of another version is dropped.
pub const VERSION: u8 = 2;
/// Bytes of the header of a request.
pub const REQUEST_HEADER_LEN: usize = size_of::<RequestHeader>();
/// Bytes of the header of a reply.
pub const REPLY_HEADER_LEN: usize = size_of::<ReplyHeader>();
/// Length to which `Init` is padded, so that no reply to it is longer than it.
pub const INIT_LEN_MIN: usize = 128;
/// What a session's first answer says.
pub const CONNECTED: &[u8] = b"Connected!";
/// What a session's last answer says.
pub const DISCONNECTED: &[u8] = b"Disconnected!";

/// Data bytes that fit beside a file name of `name_len` bytes in one append.
pub fn piece_max(name_len: usize) -> usize {
    DATAGRAM_MAX - REQUEST_HEADER_LEN - size_of::<AppendBody>() - name_len
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

/// Whether a datagram travels from a server to a client, as far as its first bytes tell; for
/// relays and traces, which look at datagrams without being either end.
pub fn is_reply(datagram: &[u8]) -> bool {
    datagram.get(3).is_some_and(|kind| kind & 0x80 != 0)
}

/// The longest prefix of at most `max` bytes that ends at a character's end.
pub fn clip(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// CRC-32C (RFC 3720 appendix B.4) over the datagram without the four bytes of the checksum.
fn checksum(datagram: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&datagram[..4]), &datagram[8..])
}

/// Completes a datagram: its checksum is over all that is there.
fn seal(datagram: &mut [u8]) {
    assert!(datagram.len() <= DATAGRAM_MAX, "the caller splits what is too long");
    let sum = checksum(datagram);
    datagram[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn check(datagram: &[u8]) -> Result<(), Malformed> {
    if datagram.len() < REPLY_HEADER_LEN || datagram.len() > DATAGRAM_MAX {
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

fn empty<T>(body: &[u8], message: T) -> Result<T, Malformed> {
    if body.is_empty() { Ok(message) } else { Err(Malformed::Length) }
}

#[cfg(test)]
mod tests;
