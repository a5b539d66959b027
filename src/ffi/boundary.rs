//! From C to Rust and back: no panic gets out, no bad pointer gets in, every error becomes a
//! status, `errno` and a message.

use super::rpc::rpc_conn_t;
use super::status::rpc_status;
use super::table;
use crate::client::Error;
use crate::limits::NAME_MAX;
use crate::protocol::Status;
use nix::errno::Errno;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Longest list of servers, in bytes.
const SERVERS_MAX: usize = 4096;
/// Room for a message and its NUL.
const MESSAGE_MAX: usize = 512;

type Message = [u8; MESSAGE_MAX];

thread_local! {
    /// How this thread's newest call ended that left or found its connection not open.
    static FAREWELL: Cell<Message> = const { Cell::new([0; MESSAGE_MAX]) };
    /// What this thread's newest `RPC_last_message` returned. A fixed place without a destructor:
    /// the pointer stays good for as long as the thread lives.
    static SHOWN: Cell<Message> = const { Cell::new([0; MESSAGE_MAX]) };
}

/// Runs the body of an exported function; nothing when it panicked.
pub(super) fn shield<T>(body: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(body)).ok()
}

/// Runs the body of an exported function that returns a status and acts on `rpc`.
pub(super) fn status_of(
    rpc: *mut rpc_conn_t,
    body: impl FnOnce(&Caller) -> Result<(), Error>,
) -> c_int {
    let caller = Caller(rpc);
    let status = shield(|| {
        let outcome = shield(|| {
            caller.check()?;
            body(&caller)
        });
        let panicked = || Err(Error::Internal("the library panicked".into()));
        outcome.unwrap_or_else(panicked).map_or_else(|error| caller.report(&error), |()| Status::Ok)
    });
    rpc_status::from(status.unwrap_or(Status::Internal)) as c_int
}

/// Keeps a message for a connection that is not open, in this thread.
pub(super) fn set_farewell(text: &str) {
    FAREWELL.set(message(text));
}

/// The message for `RPC_last_message`, in a place that outlives the call.
pub(super) fn show(caller: &Caller) -> *const c_char {
    SHOWN.set(match caller.entry() {
        Ok(entry) => message(&entry.message()),
        Err(_) => FAREWELL.get(),
    });
    SHOWN.with(|place| place.as_ptr().cast::<c_char>())
}

/// `text` as a C string, cut where it is too long or has a NUL.
fn message(text: &str) -> Message {
    let mut place = [0; MESSAGE_MAX];
    let text = text.split('\0').next().unwrap_or_default();
    let mut length = text.len().min(MESSAGE_MAX - 1);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    place[..length].copy_from_slice(&text.as_bytes()[..length]);
    place
}

/// The caller's struct, of which nothing is known yet.
pub(super) struct Caller(*mut rpc_conn_t);

impl Caller {
    /// Wraps the pointer; a null or misaligned one is found out before it is used.
    pub(super) fn new(rpc: *mut rpc_conn_t) -> Self {
        Caller(rpc)
    }

    /// The status of an error, after what else is left of it: the message and `errno`.
    fn report(&self, error: &Error) -> Status {
        match self.entry() {
            // The connection has said it already, and by whom the lock was taken.
            Ok(_) if matches!(error, Error::LeaseExpired) => {}
            Ok(entry) => entry.set_message(&error.to_string()),
            Err(_) => set_farewell(&error.to_string()),
        }
        if let Error::System(cause) = error {
            // Last of all, so that nothing done on the way out changes it.
            Errno::set_raw(cause.raw_os_error().unwrap_or(libc::EIO));
        }
        error.status()
    }

    fn check(&self) -> Result<(), Error> {
        if self.0.is_null() || !self.0.is_aligned() {
            return Err(Error::InvalidArgument("the connection is a null pointer".into()));
        }
        Ok(())
    }

    /// Which connection the struct names. Another thread may be closing it through the same
    /// struct, so the two numbers are read and written atomically.
    fn key(&self) -> Result<table::Key, Error> {
        self.check()?;
        // SAFETY: not null, aligned, and the caller vouches for 40 bytes.
        let (sd, client_id) =
            unsafe { (atomic(&raw mut (*self.0).sd), atomic(&raw mut (*self.0).client_id)) };
        Ok((sd.load(Ordering::Acquire), client_id.load(Ordering::Relaxed)))
    }

    /// Its open connection in this process.
    pub(super) fn entry(&self) -> Result<Arc<table::Entry>, Error> {
        table::find(self.key()?).ok_or(Error::NotOpen)
    }

    /// Takes its connection out of the table: from now on the struct and its copies are stale.
    pub(super) fn take_entry(&self) -> Result<Arc<table::Entry>, Error> {
        table::remove(self.key()?).ok_or(Error::NotOpen)
    }

    /// Marks the struct as open (the connection's socket and client id) or closed (-1 and 0).
    pub(super) fn set_key(&self, (sd, client_id): table::Key) {
        // SAFETY: as in `key`; only called after it, or after `check`.
        unsafe {
            atomic(&raw mut (*self.0).client_id).store(client_id, Ordering::Relaxed);
            atomic(&raw mut (*self.0).sd).store(sd, Ordering::Release);
        }
    }

    /// Only the socket: the client id stays for whoever wants to print it.
    pub(super) fn set_closed(&self) {
        // SAFETY: as in `set_key`.
        unsafe { atomic(&raw mut (*self.0).sd) }.store(-1, Ordering::Release);
    }

    /// Copies the addresses into the struct. Called with the connection locked, so that two
    /// threads that share the struct do not write at once.
    pub(super) fn set_addresses(&self, send: libc::sockaddr_in, recv: libc::sockaddr_in) {
        // SAFETY: as in `set_key`.
        unsafe {
            (&raw mut (*self.0).send_addr).write(send);
            (&raw mut (*self.0).recv_addr).write(recv);
        }
    }
}

/// # Safety
/// `field` must be valid and aligned, and accessed atomically by this library only.
unsafe fn atomic<'a>(field: *mut c_int) -> &'a AtomicI32 {
    // SAFETY: the caller's contract.
    unsafe { AtomicI32::from_ptr(field) }
}

/// A file name: at most one byte more than a name can have is looked at, which is enough to see
/// that it is too long; so an array without its NUL is not run over.
///
/// # Safety
/// `name` must be null or point to a NUL-terminated string or to more than `NAME_MAX` bytes.
pub(super) unsafe fn file_name<'a>(name: *const c_char) -> Result<&'a [u8], Error> {
    // SAFETY: the caller's contract.
    unsafe { bounded(name, NAME_MAX + 1) }.ok_or_else(|| null("the file name"))
}

/// The list of servers.
///
/// # Safety
/// `servers` must be null or point to a NUL-terminated string or to more than 4096 bytes.
pub(super) unsafe fn servers<'a>(servers: *const c_char) -> Result<&'a str, Error> {
    // SAFETY: the caller's contract.
    let bytes = unsafe { bounded(servers, SERVERS_MAX + 1) }.ok_or_else(|| null("the server"))?;
    if bytes.len() > SERVERS_MAX {
        return Err(Error::InvalidArgument("the list of servers is too long".into()));
    }
    std::str::from_utf8(bytes)
        .map_err(|_| Error::InvalidArgument("the server's name is not UTF-8".into()))
}

/// # Safety
/// `text` must be null or point to a NUL-terminated string or to at least `max` bytes.
unsafe fn bounded<'a>(text: *const c_char, max: usize) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's contract; strnlen reads no further than it.
    Some(unsafe { std::slice::from_raw_parts(text.cast(), libc::strnlen(text, max)) })
}

/// A NUL-terminated string of any length, without the NUL.
///
/// # Safety
/// `text` must be null or point to a NUL-terminated string.
pub(super) unsafe fn text<'a>(text: *const c_char) -> Result<&'a [u8], Error> {
    if text.is_null() {
        return Err(null("the data"));
    }
    // SAFETY: not null, and the caller's contract.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// `len` bytes to read from.
///
/// # Safety
/// `data` must be null or point to `len` bytes.
pub(super) unsafe fn bytes<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Error> {
    check_length(data, len, "the data")?;
    // SAFETY: null was only let through with length 0.
    Ok(unsafe { std::slice::from_raw_parts(if len == 0 { dangling() } else { data }, len) })
}

/// `len` bytes to write to.
///
/// # Safety
/// `buf` must be null or point to `len` bytes that nobody else touches during the call.
pub(super) unsafe fn buffer<'a>(buf: *mut u8, len: usize) -> Result<&'a mut [u8], Error> {
    check_length(buf, len, "the buffer")?;
    // SAFETY: null was only let through with length 0.
    Ok(unsafe { std::slice::from_raw_parts_mut(if len == 0 { dangling() } else { buf }, len) })
}

fn dangling() -> *mut u8 {
    ptr::NonNull::dangling().as_ptr()
}

fn check_length(data: *const u8, len: usize, what: &str) -> Result<(), Error> {
    if data.is_null() && len > 0 {
        return Err(null(what));
    }
    // A longer object cannot exist, and Rust may not make a slice of that length.
    if isize::try_from(len).is_err() {
        return Err(Error::InvalidArgument(format!("{what} cannot be {len} bytes long")));
    }
    Ok(())
}

/// Refuses a null or misaligned place for a result.
pub(super) fn check_out<T>(out: *mut T) -> Result<(), Error> {
    if out.is_null() || !out.is_aligned() {
        return Err(null("the place for the result"));
    }
    Ok(())
}

fn null(what: &str) -> Error {
    Error::InvalidArgument(format!("{what} is a null pointer"))
}
