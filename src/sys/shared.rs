//! A few numbers in memory that a process shares with those it forks.

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;

/// How many numbers there are.
const WORDS: usize = 2;

/// Numbers that this process and its forked children see alike. They stay for the life of the
/// process.
#[derive(Clone, Copy, Debug)]
pub struct SharedWords {
    words: &'static [AtomicU64; WORDS],
}

impl SharedWords {
    /// Numbers that are all 0.
    pub fn new() -> io::Result<SharedWords> {
        const SIZE: NonZeroUsize = NonZeroUsize::new(size_of::<[AtomicU64; WORDS]>()).unwrap();
        // SAFETY: asks for memory anywhere, so none that is in use is touched.
        let memory = unsafe {
            mmap_anonymous(
                None,
                SIZE,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
            )
        }?;
        // SAFETY: the mapping is aligned to a page, as long as the array, zeroed, which is a value
        // of it, is never unmapped, and is used as atomics only.
        let words = unsafe { memory.cast::<[AtomicU64; WORDS]>().as_ref() };
        Ok(SharedWords { words })
    }

    /// The number at `index`.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn shared_words_begin_as_zero_and_keep_what_is_stored() {
        let words = SharedWords::new().unwrap();
        let copy = words;
        assert_eq!(words.word(1).load(Ordering::Relaxed), 0);
        words.word(1).store(7, Ordering::Relaxed);
        assert_eq!(copy.word(1).load(Ordering::Relaxed), 7);
        assert_eq!(copy.word(0).load(Ordering::Relaxed), 0);
    }
}
