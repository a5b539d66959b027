//! The UDP socket of a connection: not connected, so that replies come from any server of the
//! list, and never fatal because of the network: what cannot be sent or received now counts as
//! lost, and the exchange sends again.

use super::clock::now_us;
use crate::limits::SPIN_US_MAX;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, getsockname, recvfrom, sendto,
    socket,
};
use nix::sys::time::TimeSpec;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long to wait for room in the send buffer before counting a datagram as lost.
const SEND_WAIT: Duration = Duration::from_millis(10);
const SPIN_MAX: Duration = Duration::from_micros(SPIN_US_MAX);

#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// How long to look for a datagram without blocking.
    spin_us: u64,
}

impl Socket {
    /// Binds the port on all addresses; 0 is any free port.
    pub(crate) fn open(port: u16, spin: Duration) -> io::Result<Socket> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)))?;
        let spin_us = spin.min(SPIN_MAX).as_micros() as u64;
        Ok(Socket { fd, spin_us })
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
        let send = || sendto(self.raw_fd(), datagram, &to, MsgFlags::MSG_NOSIGNAL);
        let mut result = send();
        if result == Err(Errno::EAGAIN) {
            self.block(PollFlags::POLLOUT, SEND_WAIT);
            result = send();
        }
        if result == Err(Errno::ECONNREFUSED) {
            // The answer of the network to an earlier datagram; this one was not tried.
            let _ = send();
        }
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
