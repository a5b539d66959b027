//! What Baton adds to the calls of the coursework.

use super::boundary::{self, Caller, shield, status_of};
use super::rpc::{call, rpc_conn_t};
use crate::client::{Connection, Error};
use std::ffi::{c_char, c_int, c_longlong, c_void};
use std::time::Duration;

/// Appends bytes, of which any may be NUL. In all else like `RPC_append_file`.
///
/// Parameters:
/// - `rpc` (not null): an open connection that holds the lock.
/// - `file_name` (in, not null, NUL-terminated, at most 255 bytes): a file of the server.
/// - `data` (in, null only when `len` is 0): the bytes.
/// - `len`: how many; up to the server's section limit.
///
/// Blocks: as `RPC_append_file`.
///
/// Returns: as `RPC_append_file`.
///
/// Threads: calls on one connection run one after the other.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// unsigned char record[4] = {0, 1, 2, 3};
/// int status = RPC_append_bytes(&rpc, "file_1", record, sizeof record);
/// ```
///
/// # Safety
/// As for `RPC_append_file`, but `data` must be null or point to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_append_bytes(
    rpc: *mut rpc_conn_t,
    file_name: *const c_char,
    data: *const c_void,
    len: usize,
) -> c_int {
    status_of(rpc, |caller| {
        // SAFETY: the caller's contract.
        let (name, data) =
            unsafe { (boundary::file_name(file_name)?, boundary::bytes(data.cast(), len)?) };
        call(caller, |connection| connection.append(name, data))
    })
}

/// Gives the lock back and discards the section: nothing of it is ever published.
///
/// Parameters: `rpc` (not null): an open connection that holds the lock.
///
/// Blocks: until the server answers, at most `BATON_TIMEOUT_MS` without an answer.
///
/// State: the lock is the next waiter's.
///
/// Returns: as `RPC_lock_release`.
///
/// Threads: calls on one connection run one after the other.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// if (RPC_append_file(&rpc, "file_1", "half") != RPC_OK)
///     RPC_lock_abort(&rpc);
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_lock_abort(rpc: *mut rpc_conn_t) -> c_int {
    status_of(rpc, |caller| call(caller, Connection::abort))
}

/// Takes the lock if it is free now; does not queue.
///
/// Parameters: `rpc` (not null): an open connection.
///
/// Blocks: until the server answers, at most `BATON_TIMEOUT_MS` without an answer.
///
/// State: as `RPC_lock_acquire`.
///
/// Returns: as `RPC_lock_acquire`, and `RPC_WOULD_BLOCK` when another holds the lock (not done).
///
/// Threads: calls on one connection run one after the other.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// if (RPC_try_acquire(&rpc) == RPC_WOULD_BLOCK)
///     puts("somebody else has it");
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_try_acquire(rpc: *mut rpc_conn_t) -> c_int {
    status_of(rpc, |caller| call(caller, |connection| connection.try_acquire().map(drop)))
}

/// Takes the lock, waiting in the queue no longer than the time given.
///
/// Parameters:
/// - `rpc` (not null): an open connection.
/// - `timeout_ms`: longest wait in milliseconds, 0 or more; 0 is `RPC_try_acquire`.
///
/// Blocks: `timeout_ms`, and then until the server has confirmed that this connection has left
/// the queue, at most `BATON_TIMEOUT_MS` without an answer.
///
/// State: as `RPC_lock_acquire`; after `RPC_WOULD_BLOCK` the connection holds nothing, also when
/// the grant and the timeout crossed on their way.
///
/// Returns: as `RPC_lock_acquire`, `RPC_INVALID_ARGUMENT` also for a negative time, and
/// `RPC_WOULD_BLOCK` when the time has passed (not done).
///
/// Threads: calls on one connection run one after the other.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// int status = RPC_acquire_timeout(&rpc, 500);
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_acquire_timeout(rpc: *mut rpc_conn_t, timeout_ms: c_int) -> c_int {
    status_of(rpc, |caller| {
        let Ok(timeout_ms) = u64::try_from(timeout_ms) else {
            return Err(Error::InvalidArgument("the timeout is negative".into()));
        };
        call(caller, |connection| match timeout_ms {
            0 => connection.try_acquire().map(drop),
            ms => connection.acquire_timeout(Duration::from_millis(ms)).map(drop),
        })
    })
}

/// Ends another thread's wait for the lock: its `RPC_lock_acquire` or `RPC_acquire_timeout` on this
/// connection gives up the place in the queue and returns `RPC_WOULD_BLOCK`. If the lock is granted
/// first, that call returns `RPC_OK` and the lock is held.
///
/// Parameters: `rpc` (not null): an open connection.
///
/// Blocks: never. (The other thread's call returns when the server has confirmed that it has left the
/// queue, after at most `BATON_TIMEOUT_MS` without an answer.)
///
/// State: as it was when no call waits for the lock: nothing is remembered for the next one. Who
/// cannot know whether the other thread waits yet calls again until it has returned.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
/// - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
/// - `RPC_OK`: done, or there was nothing to end.
///
/// Threads: any; not in a signal handler.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// // in one thread
/// if (RPC_lock_acquire(&rpc) == RPC_WOULD_BLOCK)
///     puts("called off");
/// // in another
/// RPC_cancel(&rpc);
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_cancel(rpc: *mut rpc_conn_t) -> c_int {
    status_of(rpc, |caller| {
        caller.entry()?.canceller.cancel();
        Ok(())
    })
}

/// Renews the lease, for a holder that has nothing else to say to the server for a while.
///
/// Parameters: `rpc` (not null): an open connection that holds the lock.
///
/// Blocks: until the server answers, at most `BATON_TIMEOUT_MS` without an answer.
///
/// State: a full lease from before this call.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
/// - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
/// - `RPC_SESSION_LOST`: the server does not know this connection any more; the section is gone.
/// - `RPC_LEASE_EXPIRED`: too late: the lock was lost, the section is gone. Not done.
/// - `RPC_NOT_HOLDER`: this connection does not hold the lock. Not done.
/// - `RPC_UNAVAILABLE`: no answer. Not done, as far as this connection can count on.
/// - `RPC_OK`: done.
///
/// Threads: calls on one connection run one after the other.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// if (RPC_lease_remaining_ms(&rpc) < 1000)
///     RPC_renew(&rpc);
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_renew(rpc: *mut rpc_conn_t) -> c_int {
    status_of(rpc, |caller| call(caller, Connection::renew))
}

/// How long the lock is surely still held, in milliseconds. Counted from before the request that
/// renewed the lease was sent, so never longer than the server believes. When it has run out the
/// lock is lost only if another connection waits for it; `RPC_renew` tells.
///
/// Parameters: `rpc` (not null): an open connection.
///
/// Blocks: never, not even while another thread's call is under way on the connection.
///
/// Returns: 0 or more: the milliseconds, 0 when nothing is held; -1: `rpc` is null or not an open
/// connection of this process.
///
/// Threads: any.
///
/// Since: 0.1.0.
///
/// Example: see `RPC_renew`.
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_lease_remaining_ms(rpc: *mut rpc_conn_t) -> c_longlong {
    let remaining_ms = shield(|| {
        let remaining = Caller::new(rpc).entry().ok()?.lease.remaining();
        c_longlong::try_from(remaining.as_millis()).ok()
    });
    remaining_ms.flatten().unwrap_or(-1)
}

/// The fencing token of the lock that is held. Each grant has a greater one than every grant
/// before it, so other systems can refuse the writes of a holder that has been overtaken.
///
/// Parameters:
/// - `rpc` (not null): an open connection.
/// - `out` (out, not null): the token; untouched unless the call succeeds.
///
/// Blocks: never, not even while another thread's call is under way on the connection.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer.
/// - `RPC_NOT_OPEN`: not an open connection of this process.
/// - `RPC_NOT_HOLDER`: nothing is held, as far as this connection knows.
/// - `RPC_OK`: `out` has the token.
///
/// Threads: any.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// uint64_t token;
/// if (RPC_fencing_token(&rpc, &token) == RPC_OK)
///     printf("%llu\n", (unsigned long long)token);
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`, `out` null or to a writable `uint64_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_fencing_token(rpc: *mut rpc_conn_t, out: *mut u64) -> c_int {
    status_of(rpc, |caller| {
        boundary::check_out(out)?;
        let token = caller.entry()?.lease.token().ok_or(Error::NotHolder)?;
        // SAFETY: checked for null and alignment; the rest is the caller's contract.
        unsafe { out.write(token.0) };
        Ok(())
    })
}

/// Reads published bytes of a file; no lock is needed. What is returned is on stable storage.
///
/// Parameters:
/// - `rpc` (not null): an open connection.
/// - `file_name` (in, not null, NUL-terminated, at most 255 bytes): a file of the server.
/// - `offset`: where to begin, in bytes from the start of the file.
/// - `buf` (out, null only when `cap` is 0): where the bytes go; no NUL is added.
/// - `cap`: room there, in bytes.
/// - `n` (out, not null): how many bytes were read; fewer than `cap` only at the end of the file,
///   0 from there on. Untouched unless the call succeeds; `buf` may then have been written to.
///
/// Blocks: until the server has answered, at most `BATON_TIMEOUT_MS` without an answer.
///
/// State: a held lease is renewed.
///
/// Returns, in order of precedence:
/// - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
/// - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
/// - `RPC_SESSION_LOST`: the server does not know this connection any more. Not done.
/// - `RPC_FILE_NOT_FOUND`: no such file. Not done.
/// - `RPC_REFUSED`: the server cannot read it (see `RPC_last_message`). Not done.
/// - `RPC_UNAVAILABLE`: no answer. Not done.
/// - `RPC_OK`: done.
///
/// Threads: calls on one connection run one after the other.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// char text[BUFFER_SIZE];
/// size_t n;
/// if (RPC_read_file(&rpc, "file_1", 0, text, sizeof text, &n) == RPC_OK)
///     fwrite(text, 1, n, stdout);
/// ```
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`; `file_name` must be null, NUL-terminated, or
/// longer than 255 bytes; `buf` must be null or point to `cap` writable bytes, `n` null or to a
/// writable `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_read_file(
    rpc: *mut rpc_conn_t,
    file_name: *const c_char,
    offset: u64,
    buf: *mut c_void,
    cap: usize,
    n: *mut usize,
) -> c_int {
    status_of(rpc, |caller| {
        boundary::check_out(n)?;
        // SAFETY: the caller's contract.
        let (name, buf) =
            unsafe { (boundary::file_name(file_name)?, boundary::buffer(buf.cast(), cap)?) };
        let mut length = 0;
        call(caller, |connection| {
            length = connection.read(name, offset, buf)?;
            Ok(())
        })?;
        // SAFETY: checked for null and alignment; the rest is the caller's contract.
        unsafe { n.write(length) };
        Ok(())
    })
}
