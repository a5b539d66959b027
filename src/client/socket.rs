//! The UDP socket of a connection: not connected, so that replies come from any server of the
//! list, and never fatal because of the network: what cannot be sent or received now counts as
//! lost, and the exchange sends again.

use super::clock::now_us;
use crate::limits::{DATAGRAM_MAX, SPIN_US_MAX};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, bind, getsockname,
    recvfrom, sendmsg, sendto, socket,
};
use nix::sys::time::TimeSpec;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long to wait for room in the send buffer before counting a datagram as lost.
const SEND_WAIT: Duration = Duration::from_millis(10);
/// What leaves by one call: the server takes in the first half of a window while the second is on
/// its way.
const BURST_MAX: usize = 32 * DATAGRAM_MAX;
const SPIN_MAX: Duration = Duration::from_micros(SPIN_US_MAX);

#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// How long to look for a datagram without blocking.
    spin_us: u64,
    /// The kernel takes several datagrams at once and divides them (UDP GSO).
    is_dividing: AtomicBool,
}

/// Datagrams on their way out: those of one size to one server leave together.
#[derive(Debug)]
pub(crate) struct Burst {
    next: Vec<u8>,
    bytes: Vec<u8>,
    /// Of each but the last, which may be shorter.
    size: usize,
    to: SocketAddrV4,
}

impl Burst {
    /// Where the next datagram is written, for [`Burst::add`].
    pub(crate) fn next(&mut self) -> &mut Vec<u8> {
        &mut self.next
    }

    /// The datagram that was written leaves for this server, with those that follow.
    pub(crate) fn add(&mut self, socket: &Socket, to: SocketAddrV4) {
        let (len, size) = (self.next.len(), self.size);
        let is_like = to == self.to && len <= size && self.bytes.len().is_multiple_of(size);
        if !is_like || self.bytes.len() + len > BURST_MAX {
            self.leave(socket);
            (self.size, self.to) = (len, to);
        }
        self.bytes.extend_from_slice(&self.next);
    }

    /// All that were added leave.
    pub(crate) fn leave(&mut self, socket: &Socket) {
        if !self.bytes.is_empty() {
            socket.send_all(&self.bytes, self.size, self.to);
            self.bytes.clear();
        }
    }
}

impl Default for Burst {
    fn default() -> Self {
        let to = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let next = Vec::with_capacity(DATAGRAM_MAX);
        Burst { next, bytes: Vec::new(), size: 0, to }
    }
}

impl Socket {
    /// Binds the port on all addresses; 0 is any free port.
    pub(crate) fn open(port: u16, spin: Duration) -> io::Result<Socket> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)))?;
        let spin_us = spin.min(SPIN_MAX).as_micros() as u64;
        Ok(Socket { fd, spin_us, is_dividing: AtomicBool::new(true) })
    }

    /// Lets go of a descriptor that was closed behind our back: closing it once more could hit
    /// whoever has got its number since.
    pub(crate) fn disown(socket: Arc<Socket>) {
        std::mem::forget(socket);
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Sends a datagram, or loses it.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddrV4) {
        let to = SockaddrIn::from(to);
        let _ = self.try_send(|| sendto(self.raw_fd(), datagram, &to, MsgFlags::MSG_NOSIGNAL));
    }

    /// Sends datagrams of this size, of which the last may be shorter, or loses them: by one call
    /// where the kernel can take them apart.
    fn send_all(&self, datagrams: &[u8], size: usize, to: SocketAddrV4) {
        if datagrams.len() > size && self.is_dividing.load(Ordering::Relaxed) {
            let (to, parts) = (SockaddrIn::from(to), [IoSlice::new(datagrams)]);
            let sizes = [ControlMessage::UdpGsoSegments(&(size as u16))];
            let flags = MsgFlags::MSG_NOSIGNAL;
            let sent = self.try_send(|| sendmsg(self.raw_fd(), &parts, &sizes, flags, Some(&to)));
            match sent {
                Ok(_) | Err(Errno::EAGAIN | Errno::ECONNREFUSED) => return,
                // It, or the device that leads there, cannot.
                Err(_) => self.is_dividing.store(false, Ordering::Relaxed),
            }
        }
        for datagram in datagrams.chunks(size) {
            self.send(datagram, to);
        }
    }

    fn try_send(&self, send: impl Fn() -> nix::Result<usize>) -> nix::Result<usize> {
        let mut result = send();
        if result == Err(Errno::EAGAIN) {
            self.block(PollFlags::POLLOUT, SEND_WAIT);
            result = send();
        }
        if result == Err(Errno::ECONNREFUSED) {
            // The answer of the network to an earlier datagram; this one was not tried.
            result = send();
        }
        result
    }

    /// Wakes whoever is blocked in [`Socket::receive_until`], by a datagram that is no message. Where
    /// it cannot be sent, the wait ends when a server is to be asked again.
    pub(crate) fn wake(&self) {
        if let Ok(bound) = getsockname::<SockaddrIn>(self.raw_fd()) {
            self.send(&[], SocketAddrV4::new(Ipv4Addr::LOCALHOST, bound.port()));
        }
    }

    /// A datagram that is there already, and where it came from.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddrV4)>> {
        loop {
            match recvfrom::<SockaddrIn>(self.raw_fd(), buffer) {
                Ok((len, Some(from))) => return Ok(Some((len, from.into()))),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno @ (Errno::EBADF | Errno::ENOTSOCK | Errno::EFAULT | Errno::EINVAL)) => {
                    return Err(errno.into());
                }
                // A signal, or what the network says about an earlier datagram.
                Ok((_, None)) | Err(_) => {}
            }
        }
    }

    /// How long a quick wait looks for a datagram without blocking.
    pub(crate) fn spin_us(&self) -> u64 {
        self.spin_us
    }

    /// Waits for a datagram until `until_us`: when it should be quick for a moment without
    /// blocking, because waking a thread takes several times as long as the whole round trip on
    /// one machine; then blocked.
    pub(crate) fn receive_until(
        &self,
        until_us: u64,
        buffer: &mut [u8],
        is_quick: bool,
    ) -> io::Result<Option<(usize, SocketAddrV4)>> {
        let started = now_us();
        let mut now = started;
        let spin_us = if is_quick { self.spin_us } else { 0 };
        while now < until_us.min(started + spin_us) {
            if let Some(received) = self.receive(buffer)? {
                return Ok(Some(received));
            }
            // It may be the server that this processor is wanted for.
            thread::yield_now();
            now = now_us();
        }
        self.block(PollFlags::POLLIN, Duration::from_micros(until_us.saturating_sub(now)));
        self.receive(buffer)
    }

    /// Blocks until the socket is ready, the time has passed or a signal came.
    fn block(&self, events: PollFlags, time: Duration) {
        let mut fds = [PollFd::new(self.fd.as_fd(), events)];
        // Whatever ends the wait early, the caller looks again.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(time)), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, UdpSocket};

    #[test]
    fn what_leaves_together_arrives_one_by_one_and_in_order() {
        let receivers = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let addrs = receivers.each_ref().map(|receiver| match receiver.local_addr().unwrap() {
            SocketAddr::V4(addr) => addr,
            SocketAddr::V6(_) => panic!("not IPv4"),
        });
        for is_dividing in [true, false] {
            let socket = Socket::open(0, Duration::ZERO).unwrap();
            socket.is_dividing.store(is_dividing, Ordering::Relaxed);
            let mut burst = Burst::default();
            // More than go at once, then shorter ones, a longer one, and one for somebody else.
            let lengths = [[DATAGRAM_MAX; 40].as_slice(), &[60, 60, 48, DATAGRAM_MAX]].concat();
            for (at, len) in lengths.iter().enumerate() {
                burst.next().clear();
                burst.next().resize(*len, at as u8);
                burst.add(&socket, addrs[0]);
            }
            burst.add(&socket, addrs[1]);
            burst.leave(&socket);
            let mut buffer = [0; DATAGRAM_MAX + 1];
            for (at, len) in lengths.iter().enumerate() {
                assert_eq!(receivers[0].recv(&mut buffer).unwrap(), *len);
                assert_eq!(buffer[..*len], vec![at as u8; *len]);
            }
            assert_eq!(receivers[1].recv(&mut buffer).unwrap(), DATAGRAM_MAX);
            assert_eq!(socket.is_dividing.load(Ordering::Relaxed), is_dividing);
        }
    }
}
