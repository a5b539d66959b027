//! The five functions around a UDP socket, with the conventions of the OSTEP book's distributed
//! systems chapter: no session, no retransmission, one datagram a call.

use super::boundary::shield;
use libc::{sockaddr, sockaddr_in, socklen_t};
use nix::errno::Errno;
use nix::sys::socket::SockaddrIn;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};

/// What every function here returns on failure.
const FAILED: c_int = -1;

/// Opens a UDP socket that receives on `port` of every address of this machine.
///
/// Parameters: `port`: 0 to 65535; 0 lets the system choose.
///
/// Blocks: never.
///
/// Returns: the descriptor, 0 or more; -1 on failure, with `errno` set: `EINVAL` (no such port),
/// `EADDRINUSE` (taken), `EACCES`, `EMFILE` and the others of socket(2) and bind(2). (The book's
/// version returns 0 when there is no socket to be had, which is a valid descriptor; this one
/// does not.)
///
/// Threads: any. A forked child shares the socket, and it stays open on `exec`.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// int sd = UDP_Open(10000);
/// assert(sd > -1);
/// ```
///
/// # Safety
/// None: it takes no pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn UDP_Open(port: c_int) -> c_int {
    guarded(|| {
        let address = any_address(u16::try_from(port).map_err(|_| Errno::EINVAL)?);
        // SAFETY: no pointer.
        let fd = Errno::result(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
        // SAFETY: the address lives through the call and has this length.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast::<sockaddr>(), ADDRESS_LEN) };
        Errno::result(bound).map(|_| fd).inspect_err(|_| {
            // SAFETY: opened above and known to nobody else. The bind's error is the one to tell.
            unsafe { libc::close(fd) };
        })
    })
}

/// Closes a socket.
///
/// Parameters: `fd`: what `UDP_Open` returned.
///
/// Blocks: never.
///
/// Returns: 0; -1 on failure, with `errno` set as by close(2).
///
/// Threads: any.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// UDP_Close(sd);
/// ```
///
/// # Safety
/// `fd` must not be a descriptor that other code relies on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn UDP_Close(fd: c_int) -> c_int {
    // SAFETY: no pointer; whose descriptor it is, is the caller's contract.
    guarded(|| Errno::result(unsafe { libc::close(fd) }))
}

/// Waits for a datagram and says who sent it.
///
/// Parameters:
/// - `fd`: what `UDP_Open` returned.
/// - `addr` (out, not null): the sender.
/// - `buffer` (out, not null): the datagram's bytes; no NUL is added.
/// - `n`: room there in bytes, 0 or more. What does not fit is lost.
///
/// Blocks: until a datagram comes, for ever if none does.
///
/// Returns: the number of bytes, 0 for an empty datagram; -1 on failure, with `errno` set:
/// `EINVAL` (null pointer, negative `n`), `EINTR` (a signal) and the others of recvfrom(2).
///
/// Threads: any; each datagram goes to one of those that wait.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// char message[BUFFER_SIZE];
/// struct sockaddr_in from;
/// int rc = UDP_Read(sd, &from, message, BUFFER_SIZE);
/// ```
///
/// # Safety
/// `addr` must be null or point to a writable `struct sockaddr_in`, `buffer` null or to `n`
/// writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn UDP_Read(
    fd: c_int,
    addr: *mut sockaddr_in,
    buffer: *mut c_void,
    n: c_int,
) -> c_int {
    guarded(|| {
        let room = room(addr, buffer, n)?;
        let mut length = ADDRESS_LEN;
        // SAFETY: neither is null, and the caller vouches for their sizes.
        let read = unsafe { libc::recvfrom(fd, buffer, room, 0, addr.cast(), &mut length) };
        Errno::result(read).map(count)
    })
}

/// Sends a datagram.
///
/// Parameters:
/// - `fd`: what `UDP_Open` returned.
/// - `addr` (in, not null): the receiver.
/// - `buffer` (in, not null): the bytes.
/// - `n`: how many, 0 to 65507.
///
/// Blocks: hardly ever: when the socket's send buffer is full.
///
/// Returns: the number of bytes sent, which says nothing of their arrival; -1 on failure, with
/// `errno` set: `EINVAL` (null pointer, negative `n`), `EMSGSIZE` (too long) and the others of
/// sendto(2).
///
/// Threads: any.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// int rc = UDP_Write(sd, &to, message, BUFFER_SIZE);
/// ```
///
/// # Safety
/// `addr` must be null or point to a `struct sockaddr_in`, `buffer` null or to `n` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn UDP_Write(
    fd: c_int,
    addr: *const sockaddr_in,
    buffer: *const c_void,
    n: c_int,
) -> c_int {
    guarded(|| {
        let length = room(addr, buffer, n)?;
        // SAFETY: neither is null, and the caller vouches for their sizes.
        let sent = unsafe { libc::sendto(fd, buffer, length, 0, addr.cast(), ADDRESS_LEN) };
        Errno::result(sent).map(count)
    })
}

/// Fills an address from a host name and a port.
///
/// Parameters:
/// - `addr` (out, not null): the address; zeroed first, also when the call fails.
/// - `hostname` (in, NUL-terminated): a host name or an IPv4 address. Null: `addr` is only zeroed.
/// - `port`: 0 to 65535.
///
/// Blocks: as long as the resolver takes.
///
/// Returns: 0; -1 on failure, with `errno` set: `EINVAL` (`addr` is null, no such port),
/// `EHOSTUNREACH` (the name has no IPv4 address).
///
/// Threads: any.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// struct sockaddr_in to;
/// int rc = UDP_FillSockAddr(&to, "localhost", 10000);
/// ```
///
/// # Safety
/// `addr` must be null or point to a writable `struct sockaddr_in`, `hostname` must be null or
/// NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn UDP_FillSockAddr(
    addr: *mut sockaddr_in,
    hostname: *const c_char,
    port: c_int,
) -> c_int {
    guarded(|| {
        if addr.is_null() || !addr.is_aligned() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: checked; all zeroes is a valid address.
        unsafe { addr.write_bytes(0, 1) };
        if hostname.is_null() {
            return Ok(0);
        }
        let port = u16::try_from(port).map_err(|_| Errno::EINVAL)?;
        // SAFETY: not null, and NUL-terminated by the caller's contract.
        let name = unsafe { CStr::from_ptr(hostname) };
        let found = resolve(name, port).ok_or(Errno::EHOSTUNREACH)?;
        // SAFETY: as above.
        unsafe { addr.write(*SockaddrIn::from(found).as_ref()) };
        Ok(0)
    })
}

const ADDRESS_LEN: socklen_t = size_of::<sockaddr_in>() as socklen_t;

/// Runs the body; an error goes to `errno`.
fn guarded(body: impl FnOnce() -> Result<c_int, Errno>) -> c_int {
    let outcome = shield(body).unwrap_or(Err(Errno::EIO));
    outcome.unwrap_or_else(|error| {
        error.set();
        FAILED
    })
}

fn any_address(port: u16) -> sockaddr_in {
    *SockaddrIn::new(0, 0, 0, 0, port).as_ref()
}

/// The length of the caller's buffer, if the arguments make sense.
fn room(addr: *const sockaddr_in, buffer: *const c_void, n: c_int) -> Result<usize, Errno> {
    if addr.is_null() || buffer.is_null() {
        return Err(Errno::EINVAL);
    }
    usize::try_from(n).map_err(|_| Errno::EINVAL)
}

/// A count of bytes, which is at most the caller's `n`, an `int`.
fn count(bytes: isize) -> c_int {
    c_int::try_from(bytes).unwrap_or(c_int::MAX)
}

fn resolve(name: &CStr, port: u16) -> Option<SocketAddrV4> {
    let mut found = (name.to_str().ok()?, port).to_socket_addrs().ok()?;
    found.find_map(|address| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    })
}
