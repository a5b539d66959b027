//! What a thread takes from the socket at once: a datagram, or several of one size that a client has
//! sent together and the kernel has kept together (UDP GRO), as it does with the pieces of an append.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, RawFd};
use tracing::debug;

/// The kernel gathers no more than what one datagram could have.
const BYTES_MAX: usize = 1 << 16;

#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    control: Vec<u8>,
    /// What was received, and how much of it is one datagram.
    len: usize,
    size: usize,
}

impl Inbox {
    pub fn new() -> Self {
        Inbox { bytes: vec![0; BYTES_MAX], control: cmsg_space!(i32), len: 0, size: 0 }
    }

    /// Has the kernel keep together what comes together; one that cannot hands it out one by one.
    pub fn gather(socket: &impl AsFd) {
        if let Err(error) = setsockopt(socket, sockopt::UdpGroSegment, &true) {
            debug!(%error, "the kernel hands out datagrams one by one");
        }
    }

    /// Receives; whom from, if that is known.
    pub fn receive(&mut self, socket: RawFd, flags: MsgFlags) -> Result<Option<SockaddrIn>, Errno> {
        let mut parts = [IoSliceMut::new(&mut self.bytes)];
        let message = recvmsg(socket, &mut parts, Some(&mut self.control), flags)?;
        let size = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
            _ => None,
        });
        self.len = message.bytes;
        self.size = size.filter(|&size| size > 0).unwrap_or(message.bytes);
        Ok(message.address)
    }

    /// What was received last, at least one datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let (first, others) = self.bytes[..self.len].split_at(self.size.min(self.len));
        std::iter::once(first).chain(others.chunks(self.size.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::IoSlice;
    use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
    use std::os::fd::AsRawFd;

    /// What comes of these sendings, each divided into datagrams of a size, by the calls that took it.
    fn exchange(sendings: &[(&[u8], u16)], is_gathering: bool) -> Vec<Vec<Vec<u8>>> {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        if is_gathering {
            Inbox::gather(&receiver);
        }
        let SocketAddr::V4(to) = receiver.local_addr().unwrap() else { panic!("not IPv4") };
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (bytes, size) in sendings {
            let (parts, to) = ([IoSlice::new(bytes)], SockaddrIn::from(to));
            let sizes = [ControlMessage::UdpGsoSegments(size)];
            let sizes = if bytes.len() > usize::from(*size) { &sizes[..] } else { &[] };
            sendmsg(sender.as_raw_fd(), &parts, sizes, MsgFlags::empty(), Some(&to)).unwrap();
        }
        // Until nothing comes any more: what is sent on this machine has arrived.
        let (mut inbox, mut calls) = (Inbox::new(), Vec::new());
        while let Ok(from) = inbox.receive(receiver.as_raw_fd(), MsgFlags::MSG_DONTWAIT) {
            assert_eq!(from.map(SocketAddrV4::from).map(SocketAddr::V4), sender.local_addr().ok());
            calls.push(inbox.datagrams().map(<[u8]>::to_vec).collect());
        }
        calls
    }

    #[test]
    fn datagrams_stay_what_they_were_however_they_come() {
        let many: Vec<u8> = (0..5_000).map(|at| (at / 1_200) as u8).collect();
        let all: Vec<&[u8]> = many.chunks(1_200).chain([&many[..7], &[], &many[..1_201]]).collect();
        for is_gathering in [false, true] {
            let sendings =
                [(&many[..], 1_200), (&many[..7], 1_200), (&[], 1), (&many[..1_201], 1_201)];
            assert_eq!(exchange(&sendings, is_gathering).concat(), all);
        }
    }

    #[test]
    fn datagrams_of_one_sending_come_together() {
        assert_eq!(exchange(&[(&[7; 16 * 1_200], 1_200)], true), [vec![vec![7; 1_200]; 16]]);
    }
}
