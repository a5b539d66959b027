//! What the front and the guard tell each other. The end of one is the end of the link for the
//! other.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// From the front to the guard: start the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) token: u64,
    pub(super) takes_terminal: bool,
}

/// From the guard to the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The command runs, as this process and as the group of the same number.
    Started(i32),
    /// It could not be executed, for this errno.
    NotStarted(i32),
    /// There was too little left of the lease to start it.
    TooLate,
    /// It was stopped by this signal.
    Stopped(i32),
    /// It ended with this status, as a shell would tell it.
    Ended(u8),
    /// The lease runs out: the command is being ended.
    Ending,
}

/// One end of the link.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
}

/// A message: what it is, and a number.
type Bytes = [u8; 10];

impl Link {
    pub(super) fn pair() -> io::Result<(Link, Link)> {
        let kind = SockType::SeqPacket;
        let (one, other) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Link { fd: one }, Link { fd: other }))
    }

    pub(super) fn send_start(&self, start: Start) {
        self.send(1, start.token, u8::from(start.takes_terminal));
    }

    /// None when the other end is gone.
    pub(super) fn receive_start(&self) -> Option<Start> {
        let (kind, token, flag) = self.receive()?;
        (kind == 1).then_some(Start { token, takes_terminal: flag == 1 })
    }

    pub(super) fn send_report(&self, report: Report) {
        let number = |number: i32| u64::from(number.cast_unsigned());
        match report {
            Report::Started(pid) => self.send(2, number(pid), 0),
            Report::NotStarted(errno) => self.send(3, number(errno), 0),
            Report::TooLate => self.send(4, 0, 0),
            Report::Stopped(signal) => self.send(5, number(signal), 0),
            Report::Ended(status) => self.send(6, u64::from(status), 0),
            Report::Ending => self.send(7, 0, 0),
        }
    }

    /// None when the other end is gone.
    pub(super) fn receive_report(&self) -> Option<Report> {
        let (kind, number, _) = self.receive()?;
        let signed = (number as u32).cast_signed();
        match kind {
            2 => Some(Report::Started(signed)),
            3 => Some(Report::NotStarted(signed)),
            4 => Some(Report::TooLate),
            5 => Some(Report::Stopped(signed)),
            6 => Some(Report::Ended(number as u8)),
            7 => Some(Report::Ending),
            _ => None,
        }
    }

    fn send(&self, kind: u8, number: u64, flag: u8) {
        let mut bytes: Bytes = [0; 10];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&number.to_ne_bytes());
        bytes[9] = flag;
        // Whoever is gone needs no message, and who is stopped finds a hundred waiting.
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = send(self.fd.as_raw_fd(), &bytes, flags);
    }

    fn receive(&self) -> Option<(u8, u64, u8)> {
        let mut bytes: Bytes = [0; 10];
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return None,
                Ok(length) => break length,
            }
        };
        let [kind, number @ .., flag] = bytes;
        (length == bytes.len()).then_some((kind, u64::from_ne_bytes(number), flag))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_and_the_end_is_noticed() {
        let (front, guard) = Link::pair().unwrap();
        let start = Start { token: u64::MAX - 1, takes_terminal: true };
        front.send_start(start);
        assert_eq!(guard.receive_start(), Some(start));
        let reports = [
            Report::Started(4711),
            Report::NotStarted(2),
            Report::TooLate,
            Report::Stopped(20),
            Report::Ended(143),
            Report::Ending,
        ];
        for report in reports {
            guard.send_report(report);
            assert_eq!(front.receive_report(), Some(report));
        }
        drop(guard);
        assert_eq!(front.receive_report(), None);
    }
}
