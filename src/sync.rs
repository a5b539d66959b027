//! The test-and-set spin lock: around the server's machine as [`Spin`], and for C programs as
//! `spinlock_t` (`ffi::spinlock`), both over the same [`Flag`].
//!
//! It is meant for critical sections of well under a microsecond that never block and never
//! make a system call. It is not fair: the order of the *distributed* lock is the machine's
//! ticket queue. The orderings are checked by loom (`RUSTFLAGS="--cfg loom" cargo test --lib loom`).

use crossbeam_utils::Backoff;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

#[cfg(loom)]
use loom::sync::atomic::{AtomicI32, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicI32, Ordering};

const FREE: i32 = 0;
const TAKEN: i32 = 1;

/// The lock without what it protects. A C `int` rather than an `AtomicBool`, because the C struct
/// has an `int` and both sides run this code.
#[derive(Debug)]
#[repr(transparent)]
pub struct Flag(AtomicI32);

impl Flag {
    /// A free lock.
    pub fn new() -> Self {
        Flag(AtomicI32::new(FREE))
    }

    /// Takes the lock, waiting for it with growing pauses and, after a few rounds, by yielding
    /// the processor: the holder may be a thread that is not running.
    pub fn acquire(&self) {
        let backoff = Backoff::new();
        while !self.try_acquire() {
            backoff.snooze();
            // Waiting only reads: swaps would pull the cache line away from the holder.
            while self.0.load(Ordering::Relaxed) != FREE {
                backoff.snooze();
            }
        }
    }

    /// Takes the lock if it is free now.
    pub fn try_acquire(&self) -> bool {
        self.0.swap(TAKEN, Ordering::Acquire) == FREE
    }

    /// Frees the lock: the next holder sees everything written before.
    pub fn release(&self) {
        // Loom does not order a plain store after the waiters' failed swaps before it.
        if cfg!(loom) {
            self.0.swap(FREE, Ordering::Release);
        } else {
            self.0.store(FREE, Ordering::Release);
        }
    }
}

impl Default for Flag {
    fn default() -> Self {
        Flag::new()
    }
}

/// A value that one thread at a time may touch.
#[derive(Debug)]
pub struct Spin<T> {
    flag: Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the flag lets one guard exist at a time, so sharing a `Spin` only ever moves access to
// the value from thread to thread, which `T: Send` allows.
unsafe impl<T: Send> Sync for Spin<T> {}

impl<T> Spin<T> {
    /// A free lock around `value`.
    pub fn new(value: T) -> Self {
        Spin { flag: Flag::new(), value: UnsafeCell::new(value) }
    }

    /// Waits for the lock. A thread that holds it already waits for ever.
    pub fn lock(&self) -> SpinGuard<'_, T> {
        self.flag.acquire();
        SpinGuard { spin: self }
    }

    /// The value, when nobody else can reach it.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

/// The right to touch the value; dropping it, also by a panic, frees the lock.
#[derive(Debug)]
#[must_use = "the lock is free again as soon as the guard is dropped"]
pub struct SpinGuard<'a, T> {
    spin: &'a Spin<T>,
}

// SAFETY: a shared guard gives out `&T` only. Without this line the compiler would ask no more
// than `Spin<T>: Sync`, that is `T: Send`, and a `Cell` could be shared between threads.
unsafe impl<T: Sync> Sync for SpinGuard<'_, T> {}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one alive.
        unsafe { &*self.spin.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one alive, and it is borrowed mutably.
        unsafe { &mut *self.spin.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    fn drop(&mut self) {
        self.spin.flag.release();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    #[test]
    fn sections_of_many_threads_never_overlap() {
        let spin = Spin::new((0u64, 0u64));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let mut pair = spin.lock();
                        pair.0 += 1;
                        let seen = pair.0;
                        pair.1 += 1;
                        assert_eq!(pair.1, seen);
                    }
                });
            }
        });
        assert_eq!(spin.into_inner(), (80_000, 80_000));
    }

    #[test]
    fn a_panic_in_the_section_frees_the_lock() {
        let spin = Spin::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _guard = spin.lock();
            panic!("in the section");
        }));
        assert!(panicked.is_err());
        *spin.lock() += 1;
        assert_eq!(*spin.lock(), 2);
    }

    #[test]
    fn a_taken_flag_is_not_taken_again_until_released() {
        let flag = Flag::new();
        flag.acquire();
        assert!(!flag.try_acquire());
        flag.release();
        assert!(flag.try_acquire());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// Every interleaving of threads that each try twice for the lock: loom's cell fails the
    /// model when two accesses are not ordered by it. (Tries, because loom would follow a waiting
    /// loop for ever; waiting adds nothing to the ordering.)
    fn contend(threads: usize, tries: usize) {
        loom::model(move || {
            let shared = Arc::new((Flag::new(), UnsafeCell::new(0usize)));
            let add = move |(flag, count): &(Flag, UnsafeCell<usize>)| {
                let mut taken = 0;
                for _ in 0..tries {
                    if flag.try_acquire() {
                        // SAFETY: that no other access is under way is what loom checks.
                        count.with_mut(|count| unsafe { *count += 1 });
                        flag.release();
                        taken += 1;
                    }
                }
                taken
            };
            let others: Vec<_> = (1..threads)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || add(&shared))
                })
                .collect();
            let mut taken = add(&shared);
            for other in others {
                taken += other.join().unwrap();
            }
            assert!(taken >= 1 && shared.0.try_acquire());
            // SAFETY: as above.
            shared.1.with(|count| assert_eq!(unsafe { *count }, taken));
        });
    }

    #[test]
    fn two_threads_exclude_each_other_in_every_interleaving() {
        contend(2, 2);
    }

    #[test]
    fn three_threads_exclude_each_other_in_every_interleaving() {
        contend(3, 1);
    }
}
