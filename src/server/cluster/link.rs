//! What is said to another member over its connection: frames of length, checksum and a message of
//! [`crate::engine::cluster::codec`]. Whoever has one sends it without waiting; what the socket does
//! not take is for the thread that speaks.

use crate::server::threads::lock;
use nix::sys::socket::{MsgFlags, send};
use std::io::{self, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The way to another member.
pub(in crate::server) struct Link {
    pub(super) id: u64,
    pub(super) addr: String,
    is_closed: AtomicBool,
    frames: Mutex<Frames>,
    changed: Condvar,
    /// Where clients find it, once it said so.
    pub(super) clients: Mutex<Option<SocketAddrV4>>,
    /// Messages that were lost because too many waited.
    pub(super) dropped: AtomicU64,
}

impl Link {
    pub(super) fn new(id: u64, addr: String) -> Arc<Link> {
        Arc::new(Link {
            id,
            addr,
            is_closed: AtomicBool::new(false),
            frames: Mutex::default(),
            changed: Condvar::new(),
            clients: Mutex::new(None),
            dropped: AtomicU64::new(0),
        })
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        drop(lock(&self.frames));
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Adds a message to what is to be sent, or loses it when too many wait already.
    pub(super) fn add(&self, message: &[u8]) {
        let mut frames = lock(&self.frames);
        if frames.waiting.len() + message.len() > WAITING_MAX && !frames.waiting.is_empty() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        frames.add(message);
    }

    /// Sends what can be sent without waiting.
    pub(super) fn flush(&self) {
        let mut frames = lock(&self.frames);
        if !frames.waiting.is_empty() && frames.flush() {
            self.changed.notify_one();
        }
    }

    /// The connection has ended, and what was to be sent is lost.
    pub(super) fn reset(&self) {
        *lock(&self.frames) = Frames::default();
    }

    /// Writes what others leave until the connection ends.
    pub(super) fn deliver(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut frames = lock(&self.frames);
        frames.stream = Some(stream.try_clone()?);
        loop {
            let bytes = std::mem::take(&mut frames.waiting);
            if bytes.is_empty() {
                frames.is_left = false;
                while !frames.is_left {
                    if self.is_closed() {
                        return Ok(());
                    }
                    frames = self.changed.wait(frames).unwrap_or_else(PoisonError::into_inner);
                }
                continue;
            }
            frames.is_left = true;
            drop(frames);
            stream.write_all(&bytes)?;
            frames = lock(&self.frames);
        }
    }
}

/// Frames that are to be sent.
#[derive(Default)]
struct Frames {
    waiting: Vec<u8>,
    /// Where they go, while there is a connection.
    stream: Option<TcpStream>,
    /// The thread that speaks has something to do: more than fits into the socket, or the connection
    /// has ended.
    is_left: bool,
}

impl Frames {
    fn add(&mut self, message: &[u8]) {
        self.waiting.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.waiting.extend_from_slice(&crc32c::crc32c(message).to_le_bytes());
        self.waiting.extend_from_slice(message);
    }

    /// Sends what can be sent without waiting. Says whether the rest is for the thread that speaks.
    fn flush(&mut self) -> bool {
        let Some(stream) = self.stream.as_ref().filter(|_| !self.is_left) else { return false };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = send(stream.as_raw_fd(), &self.waiting, flags).unwrap_or(0);
        self.is_left = sent < self.waiting.len();
        self.waiting.drain(..sent);
        self.is_left
    }
}

/// Bytes that wait for a member at most; what is beyond is sent again by the library.
const WAITING_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener};
    use std::thread;

    #[test]
    fn what_does_not_fit_into_the_socket_is_written_later_and_in_order() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let link = Link::new(2, String::new());
        let long = vec![7; 32 << 20];
        lock(&link.frames).add(b"first");
        let speaker = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.deliver(stream))
        };
        let mut frames = loop {
            let frames = lock(&link.frames);
            if frames.stream.is_some() && !frames.is_left {
                break frames;
            }
            drop(frames);
            thread::yield_now();
        };
        frames.add(&long);
        assert!(frames.flush(), "it fits");
        frames.add(b"last");
        assert!(!frames.flush(), "what came first is not sent yet");
        link.changed.notify_one();
        drop(frames);
        for message in [&b"first"[..], &long, b"last"] {
            let mut head = [0; 8];
            other.read_exact(&mut head).unwrap();
            assert_eq!(head[..4], (message.len() as u32).to_le_bytes());
            let mut found = vec![0; message.len()];
            other.read_exact(&mut found).unwrap();
            assert!(found == message);
        }
        link.close();
        speaker.join().unwrap().unwrap();
    }

    #[test]
    fn a_connection_that_has_ended_is_left_to_who_speaks() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        let mut frames = Frames { stream: Some(stream), ..Frames::default() };
        frames.add(b"lost");
        assert!(frames.flush());
    }
}
