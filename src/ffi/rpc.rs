//! The calls of the coursework: a connection, its lock, its appends.

use super::boundary::{self, Caller, status_of};
use super::table;
use crate::client::{Connection, Error, Options};
use nix::sys::socket::SockaddrIn;
use std::ffi::{c_char, c_int};
use std::mem::{align_of, offset_of, size_of};
use std::net::SocketAddrV4;

/// A connection. The program provides the 40 bytes; `RPC_init` fills them, no other call needs
/// them to stay where they are. The library keeps everything else itself and finds it by `sd` and
/// `client_id`: a copy of the struct is the same connection, and a struct that was never filled,
/// is closed, or comes from another process is refused with `RPC_NOT_OPEN`. Do not change the
/// fields, and do not close `sd` yourself.
#[derive(Debug)]
#[repr(C)]
pub struct rpc_conn {
    /// UDP socket, -1 when closed.
    pub sd: c_int,
    /// The server in use.
    pub send_addr: libc::sockaddr_in,
    /// Where the last reply came from.
    pub recv_addr: libc::sockaddr_in,
    /// Given by the server, > 0.
    pub client_id: c_int,
}

/// What programs call it.
pub type rpc_conn_t = rpc_conn;
/// Another name for it.
#[allow(dead_code)] // for the header
pub type rpc_connection = rpc_conn_t;

const _: () = {
    assert!(size_of::<rpc_conn>() == 40 && align_of::<rpc_conn>() == 4);
    assert!(offset_of!(rpc_conn, sd) == 0 && offset_of!(rpc_conn, send_addr) == 4);
    assert!(offset_of!(rpc_conn, recv_addr) == 20 && offset_of!(rpc_conn, client_id) == 36);
};

/// Opens a connection: binds a UDP socket, registers a session with the server and waits for its
/// "Connected!".
///
/// Parameters:
/// - `rpc` (out, not null): filled when the call succeeds. What it held before does not matter: a
///   connection that it named stays open and can be reached through a copy only. When the call
///   fails, `sd` is -1 and `client_id` 0, so that the struct is refused until it is opened.
/// - `src_port`: local UDP port, 0 to 65535; 0 lets the system choose.
/// - `dst_port`: the server's port, 1 to 65535.
/// - `dst_addr` (in, not null, NUL-terminated, at most 4096 bytes): a host name or IPv4 address,
///   or several separated by commas, each optionally `host:port`.
///
/// Blocks: until the server answers, at most `BATON_TIMEOUT_MS` (environment, in milliseconds;
/// default 30000), and as long as the resolver takes for a host name.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer, port out of range, host that cannot be resolved. Not
///   done.
/// - `RPC_SYSTEM_ERROR`: no socket, or `src_port` is taken; `errno` says which. Not done.
/// - `RPC_UNAVAILABLE`: no server answered. Not done.
/// - `RPC_REFUSED`: the server takes no more sessions. Not done.
/// - `RPC_OK`: done.
///
/// Threads: any number may open connections at once. A child made by `fork` cannot use its
/// parent's connections (`RPC_NOT_OPEN`) and opens its own. The socket is closed on `exec`.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// rpc_conn_t rpc;
/// if (RPC_init(&rpc, 0, 10000, "localhost") != RPC_OK)
///     fprintf(stderr, "%s\n", RPC_last_message(&rpc));
/// ```
///
/// # Safety
/// `rpc` must be null or point to a writable `rpc_conn_t`; `dst_addr` must be null or a
/// NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_init(
    rpc: *mut rpc_conn_t,
    src_port: c_int,
    dst_port: c_int,
    dst_addr: *const c_char,
) -> c_int {
    status_of(rpc, |caller| {
        caller.set_key((-1, 0));
        let source_port = port(src_port, 0)?;
        let default_port = port(dst_port, 1)?;
        // SAFETY: the caller's contract.
        let servers = unsafe { boundary::servers(dst_addr)? };
        let options = Options { source_port, default_port, ..Options::default() };
        let connection = Connection::connect_with(servers, &options)?;
        caller.set_addresses(c_addr(connection.send_addr()), c_addr(connection.recv_addr()));
        caller.set_key(table::insert(connection));
        Ok(())
    })
}

/// Takes the lock, waiting for it in the first-come-first-served queue. There is one lock; it
/// protects all files.
///
/// Parameters: `rpc` (not null): an open connection.
///
/// Blocks: until the lock is granted, for ever if others keep it, as long as the server answers;
/// without an answer for `BATON_TIMEOUT_MS` it gives up.
///
/// State: the connection holds the lock under a lease, which every call on it renews, and a new
/// fencing token. When it holds the lock already, nothing changes: there is no nesting.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
/// - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
/// - `RPC_LEASE_EXPIRED`: the lock was held, had appends and was lost meanwhile: the section is
///   gone. Not done; call again to begin a new one.
/// - `RPC_SESSION_LOST`: the server does not know this connection any more. Not done.
/// - `RPC_REFUSED`: the server cannot take it (see `RPC_last_message`). Not done.
/// - `RPC_WOULD_BLOCK`: another thread ended the wait, by `RPC_cancel` or `RPC_close`. The place in
///   the queue is given up. Not done.
/// - `RPC_UNAVAILABLE`: an earlier call timed out, and there is still no answer to it; this one was
///   not begun. Not done.
/// - `RPC_TIMED_OUT`: no answer; the lock may be granted later. Outcome unknown; the next call on
///   this connection finds out first.
/// - `RPC_OK`: done.
///
/// Threads: calls on one connection run one after the other; a second thread waits for the first,
/// but `RPC_cancel` and `RPC_close` end its wait.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// if (RPC_lock_acquire(&rpc) == RPC_OK) {
///     RPC_append_file(&rpc, "file_1", "hello world");
///     RPC_lock_release(&rpc);
/// }
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_lock_acquire(rpc: *mut rpc_conn_t) -> c_int {
    status_of(rpc, |caller| call(caller, |connection| connection.acquire().map(drop)))
}

/// The same as `RPC_lock_acquire`.
///
/// # Safety
/// As for `RPC_lock_acquire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_acquire_lock(rpc: *mut rpc_conn_t) -> c_int {
    // SAFETY: the same contract.
    unsafe { RPC_lock_acquire(rpc) }
}

/// Appends a string to a file, as a part of the section that the lock holder is in. It appears in
/// the file when the lock is released, together with the rest of the section, or never.
///
/// Parameters:
/// - `rpc` (not null): an open connection that holds the lock.
/// - `file_name` (in, not null, NUL-terminated, at most 255 bytes): a file of the server,
///   `file_0`, `file_1`, ...; an append never creates one.
/// - `data` (in, not null, NUL-terminated): what to append, without the NUL; any length up to the
///   server's section limit.
///
/// Blocks: until the server has it, at most `BATON_TIMEOUT_MS` without an answer.
///
/// State: the lease is renewed. After any failure the section is as before, or gone if the
/// status says so.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
/// - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
/// - `RPC_SESSION_LOST`: the server does not know this connection any more; the section is gone.
/// - `RPC_FILE_NOT_FOUND`: no such file, also for a name that is empty or too long. Not done.
/// - `RPC_LEASE_EXPIRED`: the lock was lost, the section is gone. Not done.
/// - `RPC_NOT_HOLDER`: this connection does not hold the lock. Not done.
/// - `RPC_TOO_LARGE`: the section would grow past the server's limit. Not done.
/// - `RPC_REFUSED`: the server cannot take it (see `RPC_last_message`). Not done.
/// - `RPC_UNAVAILABLE`: an earlier call timed out, and there is still no answer to it; this one was
///   not begun. Not done.
/// - `RPC_TIMED_OUT`: no answer. Outcome unknown; the next call finds out first.
/// - `RPC_OK`: done; a killed server keeps it.
///
/// Threads: calls on one connection run one after the other.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// int status = RPC_append_file(&rpc, "file_1", "hello world");
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`; `file_name` must be null, NUL-terminated, or
/// longer than 255 bytes; `data` must be null or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_append_file(
    rpc: *mut rpc_conn_t,
    file_name: *const c_char,
    data: *const c_char,
) -> c_int {
    status_of(rpc, |caller| {
        // SAFETY: the caller's contract.
        let (name, data) = unsafe { (boundary::file_name(file_name)?, boundary::text(data)?) };
        call(caller, |connection| connection.append(name, data))
    })
}

/// Publishes the section, all of it at once and in order, and gives the lock back.
///
/// Parameters: `rpc` (not null): an open connection that holds the lock.
///
/// Blocks: until the section is on the server's stable storage, at most `BATON_TIMEOUT_MS`
/// without an answer.
///
/// State: the lock is the next waiter's. After a refusal nothing of the section was published.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
/// - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
/// - `RPC_SESSION_LOST`: the server does not know this connection any more. Outcome unknown.
/// - `RPC_LEASE_EXPIRED`: the lock was lost before, the section is gone. Not done.
/// - `RPC_NOT_HOLDER`: this connection does not hold the lock. Not done.
/// - `RPC_REFUSED`: the server cannot publish it now (see `RPC_last_message`). Not done: the lock
///   is still held, the call can be made again.
/// - `RPC_UNAVAILABLE`: an earlier call timed out, and there is still no answer to it; this one was
///   not begun. Not done.
/// - `RPC_TIMED_OUT`: no answer. Outcome unknown; the next call finds out first.
/// - `RPC_OK`: done, and durable.
///
/// Threads: calls on one connection run one after the other.
///
/// Since: 0.1.0.
///
/// Example: see `RPC_lock_acquire`.
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_lock_release(rpc: *mut rpc_conn_t) -> c_int {
    status_of(rpc, |caller| call(caller, Connection::release))
}

/// The same as `RPC_lock_release`.
///
/// # Safety
/// As for `RPC_lock_release`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_release(rpc: *mut rpc_conn_t) -> c_int {
    // SAFETY: the same contract.
    unsafe { RPC_lock_release(rpc) }
}

/// The same as `RPC_lock_release`.
///
/// # Safety
/// As for `RPC_lock_release`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_release_lock(rpc: *mut rpc_conn_t) -> c_int {
    // SAFETY: the same contract.
    unsafe { RPC_lock_release(rpc) }
}

/// Ends the session and frees its socket. A lock that is held is released first, as by
/// `RPC_lock_release`: its section is published.
///
/// Parameters: `rpc` (not null): an open connection; its `sd` becomes -1 whatever the outcome,
/// unless the struct is refused.
///
/// Blocks: for the server's "Disconnected!", at most 2 seconds without an answer when nothing is
/// held or under way, else at most `BATON_TIMEOUT_MS`; and for another thread's call that is
/// under way on this connection, at most as long again. Who waits for the lock is not waited for:
/// the wait is ended as by `RPC_cancel`.
///
/// State: the connection is closed, also when the server is gone. Copies of the struct are stale.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
/// - `RPC_NOT_OPEN`: not an open connection of this process, for example closed before. Not done.
/// - `RPC_SESSION_LOST`: closed, but the server does not know this connection any more. Whether a
///   section was published is unknown.
/// - `RPC_LEASE_EXPIRED`: closed, but the lock was lost before; the section is gone.
/// - `RPC_REFUSED`: closed here, but the server could not publish (see `RPC_last_message`).
/// - `RPC_UNAVAILABLE`: closed here, but an earlier call timed out, and its outcome stays unknown.
/// - `RPC_TIMED_OUT`: closed here, but no answer: whether a section was published is unknown.
/// - `RPC_OK`: done; what the section held is durable.
///
/// Threads: of two threads that close the same connection one is told `RPC_NOT_OPEN`.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// RPC_close(&rpc);
/// printf("%s\n", RPC_last_message(&rpc)); // Disconnected!
/// ```
///
/// # Safety
/// `rpc` must be null or point to a writable `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_close(rpc: *mut rpc_conn_t) -> c_int {
    status_of(rpc, |caller| {
        let entry = caller.take_entry()?;
        entry.canceller.cancel_for_good();
        let outcome = entry.call(Connection::close, |connection| refresh(caller, connection));
        caller.set_closed();
        boundary::set_farewell(&entry.message());
        outcome
    })
}

/// Runs a call on the caller's connection and brings the struct up to date.
pub(super) fn call(
    caller: &Caller,
    body: impl FnOnce(&mut Connection) -> Result<(), Error>,
) -> Result<(), Error> {
    caller.entry()?.call(body, |connection| refresh(caller, connection))
}

/// A call may have moved on to another server.
fn refresh(caller: &Caller, connection: &Connection) {
    caller.set_addresses(c_addr(connection.send_addr()), c_addr(connection.recv_addr()));
}

fn c_addr(address: SocketAddrV4) -> libc::sockaddr_in {
    *SockaddrIn::from(address).as_ref()
}

fn port(number: c_int, smallest: u16) -> Result<u16, Error> {
    let port = u16::try_from(number).ok().filter(|&port| port >= smallest);
    port.ok_or_else(|| Error::InvalidArgument(format!("there is no UDP port {number}")))
}
