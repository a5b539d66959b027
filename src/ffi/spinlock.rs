//! The server's spin lock for C programs.

use super::boundary::shield;
use crate::sync::Flag;
use std::ffi::c_int;
use std::mem::{align_of, size_of};

/// A test-and-set spin lock, the one that the server uses, for the threads of one process. It is
/// for sections of a few instructions: who waits keeps a processor busy, then yields it between
/// looks. It is not fair and does not nest: a thread that takes it twice waits for ever. A
/// zeroed struct is a free lock.
#[derive(Debug)]
#[repr(C)]
pub struct spinlock {
    /// 0 when free.
    pub lock_flag: c_int,
}

/// What programs call it.
pub type spinlock_t = spinlock;

// Both sides run `Flag`'s code on the C struct's memory.
const _: () = assert!(
    size_of::<spinlock>() == size_of::<Flag>() && align_of::<spinlock>() == align_of::<Flag>()
);

/// Makes the lock free.
///
/// Parameters: `lock` (out): the lock; no thread may be using it.
///
/// Blocks: never.
///
/// Returns: 0, or -1 when `lock` is null.
///
/// Threads: one, before the others start.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// spinlock_t lock;
/// spinlock_init(&lock);
/// ```
///
/// # Safety
/// `lock` must be null or point to a writable `spinlock_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spinlock_init(lock: *mut spinlock_t) -> c_int {
    if lock.is_null() || !lock.is_aligned() {
        return -1;
    }
    // SAFETY: checked, and nobody else uses it yet: the caller's contract.
    unsafe { lock.cast::<Flag>().write(Flag::new()) };
    0
}

/// Takes the lock, waiting until it is free. Everything that the last holder wrote before its
/// `spinlock_release` is seen.
///
/// Parameters: `lock`: the lock; nothing happens when it is null.
///
/// Blocks: until the holder releases it.
///
/// Threads: any of the process.
///
/// Since: 0.1.0.
///
/// Example:
/// ```c
/// spinlock_acquire(&lock);
/// counter++;
/// spinlock_release(&lock);
/// ```
///
/// # Safety
/// `lock` must be null or point to a `spinlock_t` that was initialised or is zeroed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spinlock_acquire(lock: *mut spinlock_t) {
    // SAFETY: the caller's contract.
    let flag = unsafe { flag(lock) };
    shield(|| flag.map(Flag::acquire));
}

/// Frees the lock.
///
/// Parameters: `lock`: the lock, held by this thread; nothing happens when it is null.
///
/// Blocks: never.
///
/// Threads: the one that holds it.
///
/// Since: 0.1.0.
///
/// Example: see `spinlock_acquire`.
///
/// # Safety
/// As for `spinlock_acquire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spinlock_release(lock: *mut spinlock_t) {
    // SAFETY: the caller's contract.
    if let Some(flag) = unsafe { flag(lock) } {
        flag.release();
    }
}

/// # Safety
/// As for `spinlock_acquire`.
unsafe fn flag<'a>(lock: *mut spinlock_t) -> Option<&'a Flag> {
    if lock.is_null() || !lock.is_aligned() {
        return None;
    }
    // SAFETY: not null, aligned, of the same size (asserted above), and only accessed atomically.
    Some(unsafe { &*lock.cast::<Flag>() })
}
