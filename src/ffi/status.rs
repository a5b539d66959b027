//! Statuses and messages: how an operation ended, as numbers and in words.

use super::boundary::{Caller, shield, show};
use super::rpc::rpc_conn_t;
use crate::protocol::Status;
use std::ffi::{c_char, c_int};

/// How an operation ended. The numbers never change and are never used again for something else.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum rpc_status {
    /// Done.
    RPC_OK = 0,
    /// Not done: no data file has that name.
    RPC_FILE_NOT_FOUND = 1,
    /// Not done: this connection does not hold the lock.
    RPC_NOT_HOLDER = 2,
    /// Not done: this connection held the lock, but its lease ran out while another waited, and
    /// its section was discarded.
    RPC_LEASE_EXPIRED = 3,
    /// Not done: the lock was not free in the time given.
    RPC_WOULD_BLOCK = 4,
    /// Outcome unknown: no answer in time; the request may have taken effect or may still do so.
    RPC_TIMED_OUT = 5,
    /// Not done: no server could be reached, or the servers that can be are too few to decide.
    RPC_UNAVAILABLE = 6,
    /// The server no longer knows this session: its unpublished section is gone; the outcome of
    /// a release or close that was under way is unknown.
    RPC_SESSION_LOST = 7,
    /// Not done: the section would grow past the server's limit.
    RPC_TOO_LARGE = 8,
    /// Not done: an argument is null, malformed or out of range.
    RPC_INVALID_ARGUMENT = 9,
    /// Not done: the connection was never opened, is closed, or belongs to another process.
    RPC_NOT_OPEN = 10,
    /// Not done: a system call failed in the client; `errno` says why.
    RPC_SYSTEM_ERROR = 11,
    /// Not done: the server declines; the last message says why (no disk space, a limit).
    RPC_REFUSED = 12,
    /// Outcome unknown: a defect in the library or the server. Please report it.
    RPC_INTERNAL = 13,
}

impl rpc_status {
    /// The status in C.
    pub(super) const fn from(status: Status) -> Self {
        match status {
            Status::Ok => rpc_status::RPC_OK,
            Status::FileNotFound => rpc_status::RPC_FILE_NOT_FOUND,
            Status::NotHolder => rpc_status::RPC_NOT_HOLDER,
            Status::LeaseExpired => rpc_status::RPC_LEASE_EXPIRED,
            Status::WouldBlock => rpc_status::RPC_WOULD_BLOCK,
            Status::TimedOut => rpc_status::RPC_TIMED_OUT,
            Status::Unavailable => rpc_status::RPC_UNAVAILABLE,
            Status::SessionLost => rpc_status::RPC_SESSION_LOST,
            Status::TooLarge => rpc_status::RPC_TOO_LARGE,
            Status::InvalidArgument => rpc_status::RPC_INVALID_ARGUMENT,
            Status::NotOpen => rpc_status::RPC_NOT_OPEN,
            Status::SystemError => rpc_status::RPC_SYSTEM_ERROR,
            Status::Refused => rpc_status::RPC_REFUSED,
            Status::Internal => rpc_status::RPC_INTERNAL,
        }
    }
}

// One status has one number, in C, in Rust and on the wire.
const _: () = {
    let mut number = 0;
    while number < Status::ALL.len() {
        let status = Status::ALL[number];
        assert!(rpc_status::from(status) as usize == number && status as usize == number);
        number += 1;
    }
};

/// What the newest call on the connection said: "Connected!" after `RPC_init`, "Disconnected!"
/// after `RPC_close`, after a failure its status and the details, on one line, in English.
///
/// Parameters: `rpc`: a connection. For one that is not open, or null, it is what this thread's
/// newest call said that failed to open, closed, or found a connection not open.
///
/// Blocks: never.
///
/// Returns: a NUL-terminated string, never null, at most 511 bytes. It belongs to the library and
/// stays as it is until the same thread calls `RPC_last_message` again or ends.
///
/// Threads: any; each has a string of its own.
///
/// Since: 0.1.0.
///
/// Example: see `RPC_init`.
///
/// # Safety
/// `rpc` must be null or point to a `rpc_conn_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_last_message(rpc: *mut rpc_conn_t) -> *const c_char {
    shield(|| show(&Caller::new(rpc))).unwrap_or(c"".as_ptr())
}

/// A status in words, with what it says of the outcome: done, not done, or unknown.
///
/// Parameters: `status`: what another call returned; any number.
///
/// Blocks: never.
///
/// Returns: a NUL-terminated string, never null, "unknown status" for other numbers; constant.
///
/// Threads: any.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// fprintf(stderr, "%s\n", RPC_strerror(status));
/// ```
///
/// # Safety
/// None: it takes no pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_strerror(status: c_int) -> *const c_char {
    let place = usize::try_from(status).ok().and_then(|number| STATUS_TEXTS.get(number));
    place.map_or(c"unknown status".as_ptr(), |text| text.as_ptr().cast())
}

/// The version of the library, for example "0.1.0".
///
/// Parameters: none.
///
/// Blocks: never.
///
/// Returns: a NUL-terminated string, never null; constant.
///
/// Threads: any.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// printf("libbaton %s\n", RPC_version());
/// ```
///
/// # Safety
/// None: it takes no pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RPC_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Room for the text of a status and its NUL.
const STATUS_TEXT_MAX: usize = 96;

/// The texts of all statuses as C strings, made by the compiler; one that is too long does not
/// compile.
static STATUS_TEXTS: [[u8; STATUS_TEXT_MAX]; Status::ALL.len()] = {
    let mut texts = [[0; STATUS_TEXT_MAX]; Status::ALL.len()];
    let mut number = 0;
    while number < texts.len() {
        let text = Status::ALL[number].text().as_bytes();
        assert!(text.len() < STATUS_TEXT_MAX, "no room for the NUL");
        let mut at = 0;
        while at < text.len() {
            texts[number][at] = text[at];
            at += 1;
        }
        number += 1;
    }
    texts
};
