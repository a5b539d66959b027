//! How servers of a cluster introduce themselves to each other: the first bytes on a connection,
//! both ways. Who connects says whom it is and whom it looks for; who is connected to says the same
//! and whether the other is welcome.

use crate::engine::cluster::codec::{Input as Reader, put_u64};
use crate::limits::PEER_ADDR_MAX;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Messages of who has connected.
    Messages,
    /// Questions for parts of the data files.
    Fetch,
    /// To be let in: the members, the state, and then questions for parts of the data files.
    Join,
}

/// Whether who has connected is welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// It is.
    Fine,
    /// Not a server of the cluster yet.
    Unknown,
    /// Not any more: that number was removed.
    Left,
    /// That number is another data directory's.
    Replaced,
    /// Of another cluster.
    Stranger,
    /// Somebody else was looked for.
    Misdirected,
}

impl Welcome {
    /// By their numbers on the wire.
    const ALL: [Welcome; 6] = [
        Welcome::Fine,
        Welcome::Unknown,
        Welcome::Left,
        Welcome::Replaced,
        Welcome::Stranger,
        Welcome::Misdirected,
    ];
}

/// Who speaks, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub purpose: Purpose,
    /// 0 of a server that asks to be let in and does not know it yet.
    pub cluster: u64,
    pub from: u64,
    /// 0 where any will do.
    pub to: u64,
    /// Where clients find the speaker.
    pub clients: SocketAddrV4,
    /// Tells the speaker's data directory from others.
    pub life: u64,
    /// In an answer; [`Welcome::Fine`] otherwise.
    pub welcome: Welcome,
    /// Where other servers reach the speaker; empty where it does not know.
    pub addr: String,
}

impl Hello {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        out.push(self.purpose as u8);
        out.push(self.welcome as u8);
        out.push(self.addr.len() as u8);
        for number in [self.cluster, self.from, self.to] {
            put_u64(&mut out, number);
        }
        let ip = u64::from(self.clients.ip().to_bits());
        put_u64(&mut out, ip << 16 | u64::from(self.clients.port()));
        put_u64(&mut out, self.life);
        out.extend_from_slice(self.addr.as_bytes());
        out
    }

    pub fn read(stream: &mut impl Read) -> io::Result<Hello> {
        let mut head = [0; HEAD_LEN];
        stream.read_exact(&mut head)?;
        let strange = || {
            io::Error::other(
                "it is no server of a cluster, or of a version that this one does not know",
            )
        };
        let (mut hello, addr_len) = Hello::decode(&head).ok_or_else(strange)?;
        let mut addr = vec![0; addr_len];
        stream.read_exact(&mut addr)?;
        hello.addr = String::from_utf8(addr).map_err(|_| strange())?;
        Ok(hello)
    }

    /// All but the address, whose length is to follow.
    fn decode(head: &[u8; HEAD_LEN]) -> Option<(Hello, usize)> {
        let mut input = Reader(head.strip_prefix(&MAGIC)?);
        if input.u8().ok()? != VERSION {
            return None;
        }
        let purpose = match input.u8().ok()? {
            0 => Purpose::Messages,
            1 => Purpose::Fetch,
            2 => Purpose::Join,
            _ => return None,
        };
        let welcome = *Welcome::ALL.get(usize::from(input.u8().ok()?))?;
        let addr_len = usize::from(input.u8().ok()?);
        let (cluster, from, to) = (input.u64().ok()?, input.u64().ok()?, input.u64().ok()?);
        let packed = input.u64().ok()?;
        let ip = Ipv4Addr::from_bits(u32::try_from(packed >> 16).ok()?);
        let clients = SocketAddrV4::new(ip, (packed & 0xffff) as u16);
        let life = input.u64().ok()?;
        let addr = String::new();
        let hello = Hello { purpose, cluster, from, to, clients, life, welcome, addr };
        (addr_len <= PEER_ADDR_MAX).then_some((hello, addr_len))
    }
}

const MAGIC: [u8; 4] = *b"BTPR";
/// The version of what servers say to each other.
const VERSION: u8 = 4;
const HEAD_LEN: usize = 4 + 4 + 5 * 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Hello {
        Hello {
            purpose: Purpose::Join,
            cluster: 0x0102,
            from: 3,
            to: 4,
            clients: "127.0.0.1:10000".parse().unwrap(),
            life: 0x0708,
            welcome: Welcome::Left,
            addr: "db3:1".into(),
        }
    }

    #[test]
    fn a_hello_has_these_bytes_and_comes_back() {
        let bytes = example().encode();
        let golden = [
            b"BTPR\x04\x02\x02\x05".as_slice(),
            &[2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
            &[0x10, 0x27, 1, 0, 0, 0x7f, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0],
            b"db3:1",
        ];
        assert_eq!(bytes, golden.concat());
        assert_eq!(Hello::read(&mut &bytes[..]).unwrap(), example());
        for len in 0..bytes.len() {
            assert!(Hello::read(&mut &bytes[..len]).is_err(), "cut to {len}");
        }
        for welcome in Welcome::ALL {
            let hello = Hello { welcome, ..example() };
            assert_eq!(Hello::read(&mut &hello.encode()[..]).unwrap(), hello);
        }
    }

    #[test]
    fn what_is_no_hello_is_turned_away() {
        let with = |at: usize, byte: u8| {
            let mut bytes = example().encode();
            bytes[at] = byte;
            Hello::read(&mut &bytes[..])
        };
        // Another magic, version, purpose, welcome, an address that is too long or no text, and
        // an address of clients that is none.
        for (at, byte) in [(0, b'G'), (4, 1), (5, 3), (6, 6), (7, 65), (39, 1), (48, 0xFF)] {
            assert!(with(at, byte).is_err(), "byte {at}");
        }
    }
}
