//! Connections of other servers.

use super::hello::{Hello, Purpose, Welcome};
use super::helm::steer;
use super::peers::{HELLO_WAIT, PAUSE_MAX, WRITE_WAIT, speak_to};
use super::{Input, fetch, join};
use crate::engine::cluster::codec::{Input as Reader, decode_message};
use crate::server::reception::DENSE;
use crate::server::threads::{Lingers, Scratch, Server};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// The life of the thread that takes connections of other members.
pub(in crate::server) fn listen(server: &Arc<Server>, listener: &TcpListener) {
    let peers = &server.cluster().peers;
    while !peers.is_closed() {
        match listener.accept() {
            Ok((stream, from)) => {
                let spawned = server.spawn("peer", move |server| {
                    if let Err(error) = hear(server, stream) {
                        debug!(%from, %error, "a server's connection ended");
                    }
                });
                if let Err(error) = spawned {
                    warn!(%error, "cannot start a thread for another server");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(ACCEPT_EVERY);
            }
            Err(error) => {
                warn!(%error, "cannot take a connection");
                thread::sleep(PAUSE_MAX);
            }
        }
    }
}

/// Serves who has connected until the connection ends.
fn hear(server: &Arc<Server>, stream: TcpStream) -> io::Result<()> {
    let peers = &server.cluster().peers;
    let id = peers.take_in(&stream)?;
    let ended = attend(server, stream, &id);
    peers.let_go(&id);
    ended
}

/// Finds out who has connected and what for, and does that.
fn attend(server: &Arc<Server>, mut stream: TcpStream, id: &AtomicU64) -> io::Result<()> {
    let peers = &server.cluster().peers;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HELLO_WAIT))?;
    stream.set_write_timeout(Some(WRITE_WAIT))?;
    setsockopt(&stream, sockopt::KeepAlive, &true)?;
    setsockopt(&stream, sockopt::TcpKeepIdle, &KEEP_ALIVE_SECONDS)?;
    setsockopt(&stream, sockopt::TcpKeepInterval, &KEEP_ALIVE_SECONDS)?;
    if peers.is_closed() {
        return Ok(());
    }
    let hello = Hello::read(&mut stream)?;
    // Before it is looked whether it is welcome: if it leaves now, its connection is ended.
    id.store(hello.from, Ordering::Release);
    let welcome = peers.welcome(&hello);
    // Also to a stranger, who is to learn what is wrong.
    stream.write_all(&peers.hello(hello.from, hello.purpose, welcome).encode())?;
    stream.set_read_timeout(None)?;
    let introduction = Input::Introduction { id: hello.from, life: hello.life };
    match (hello.purpose, welcome) {
        (Purpose::Join, Welcome::Fine) => return join::answer(server, stream),
        (Purpose::Join, Welcome::Unknown) => {
            server.cluster().tell(introduction);
            return join::tell_members(peers, &mut stream);
        }
        (_, Welcome::Fine) => {}
        _ => {
            if peers.is_new(hello.from, welcome) {
                warn!(server = hello.from, ?welcome, addr = %stream.peer_addr()?,
                    "turned another server away");
            }
            return Ok(());
        }
    }
    if hello.purpose == Purpose::Fetch {
        return fetch::answer(server, stream);
    }
    server.cluster().tell(introduction);
    speak_to(server, peers.learn(&hello))?;
    take_messages(server, hello.from, stream)
}

/// Takes in what a member says until the connection ends.
fn take_messages(server: &Arc<Server>, from: u64, stream: TcpStream) -> io::Result<()> {
    let peers = &server.cluster().peers;
    let own = peers.own().id;
    let mut stream = io::BufReader::with_capacity(64 << 10, stream);
    let mut frame = Vec::new();
    let mut scratch = Scratch::new(Lingers::Following);
    let mut is_dense = false;
    loop {
        if stream.buffer().is_empty() {
            is_dense =
                wait(stream.get_ref(), if is_dense { server.spin() } else { Duration::ZERO });
        }
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let mut head = Reader(&head);
        let malformed = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let len = head.u32().map_err(malformed)?;
        let sum = head.u32().map_err(malformed)?;
        if len > FRAME_MAX || (len > UNKNOWN_FRAME_MAX && !peers.is_member(from)) {
            return Err(io::Error::other("a frame is longer than any may be"));
        }
        frame.clear();
        // As the bytes come: a length alone reserves no memory.
        let read = (&mut stream).take(len as u64).read_to_end(&mut frame)?;
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if crc32c::crc32c(&frame) as usize != sum {
            return Err(io::Error::other("a frame's checksum is wrong"));
        }
        let message = decode_message(&frame).map_err(malformed)?;
        if message.from != from || message.to != own {
            return Err(io::Error::other("a message is not from who sent it"));
        }
        server.cluster().put_message(message);
        // What came together is looked at together.
        if !has_frame(stream.buffer()) {
            steer(server, &mut scratch);
        }
    }
}

/// Waits for bytes, for up to `spin` without blocking, but yielding the processor. Says whether they
/// were not long in coming.
fn wait(stream: &TcpStream, spin: Duration) -> bool {
    let begun = Instant::now();
    let look = |flags| recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | flags);
    while begun.elapsed() < spin {
        if look(MsgFlags::MSG_DONTWAIT) != Err(Errno::EAGAIN) {
            return true;
        }
        thread::yield_now();
    }
    // What there is to be told of an error is told by the read that follows.
    let _ = look(MsgFlags::empty());
    begun.elapsed() < DENSE
}

/// Whether there is a whole frame.
fn has_frame(bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_at_checked(8) else { return false };
    Reader(head).u32().is_ok_and(|len| rest.len() >= len)
}

/// The longest frame: more than all entries that may be under way to a member, which the library
/// may put into one message.
const FRAME_MAX: usize = 1 << 30;
/// The longest frame of a server that is not known yet, or is none: more than the one message that the
/// library begins anew with after a connection has ended.
const UNKNOWN_FRAME_MAX: usize = 4 << 20;
const KEEP_ALIVE_SECONDS: u32 = 5;
const ACCEPT_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_when_all_its_bytes_are_there() {
        let frame = [3, 0, 0, 0, 9, 9, 9, 9, 1, 2, 3, 4];
        for (len, is_whole) in [(0, false), (7, false), (8, false), (10, false), (11, true)] {
            assert_eq!(has_frame(&frame[..len]), is_whole, "{len}");
        }
        assert!(has_frame(&frame));
    }
}
