//! Many reads at once: while one call fetches a large part of a file, its pieces are asked for in
//! a window, so that gigabytes do not take a round trip each kilobyte. Pure like the exchange.
//!
//! Reads take no number, so any of them may be lost, doubled or left: each is known by its stamp,
//! all have the attempt of the call. What is no piece of data (another server leads, the session is
//! lost, nothing comes) ends the window, and the next ordinary call deals with it.

use crate::limits::READ_MAX;
use crate::types::Stamp;

/// Pieces on their way at most: no more than wait in the kernel's buffer of a socket by default, and
/// what other clients' requests wait behind on a server is below a millisecond.
const WINDOW_MAX: usize = 32;
/// The window ends when nothing came for this long, in microseconds.
const SILENT_US: u64 = 150_000;

/// What of a part is asked for and has come.
#[derive(Debug)]
pub(super) struct Ahead {
    len: usize,
    /// What is behind this was not asked for yet.
    next: usize,
    flying: Vec<Piece>,
    window: usize,
    /// Pieces that came since the window changed.
    came: usize,
    heard_at: u64,
    last_stamp: u64,
    is_over: bool,
}

/// A piece that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub at: usize,
    pub len: usize,
    pub stamp: Stamp,
}

impl Ahead {
    pub(super) fn new(len: usize, now: u64) -> Self {
        Ahead {
            len,
            next: 0,
            flying: Vec::with_capacity(WINDOW_MAX),
            window: WINDOW_MAX / 2,
            came: 0,
            heard_at: now,
            last_stamp: 0,
            is_over: false,
        }
    }

    /// The piece to ask for next; one that was not answered within `patience_us` again.
    pub(super) fn poll_transmit(&mut self, now: u64, patience_us: u64) -> Option<Piece> {
        if self.is_over || self.heard_at + SILENT_US <= now {
            self.is_over = true;
            return None;
        }
        let stamp = Stamp(now.max(self.last_stamp + 1));
        if let Some(late) = self.flying.iter_mut().find(|one| one.stamp.0 + patience_us <= now) {
            self.window = (self.window / 2).max(1);
            self.came = 0;
            self.last_stamp = stamp.0;
            late.stamp = stamp;
            return Some(*late);
        }
        if self.next == self.len || self.flying.len() >= self.window {
            return None;
        }
        let len = READ_MAX.min(self.len - self.next);
        let piece = Piece { at: self.next, len, stamp };
        self.last_stamp = stamp.0;
        self.next += len;
        self.flying.push(piece);
        Some(piece)
    }

    /// When to look again if nothing comes.
    pub(super) fn timeout(&self, patience_us: u64) -> u64 {
        let late = self.flying.iter().map(|one| one.stamp.0 + patience_us).min();
        late.unwrap_or(u64::MAX).min(self.heard_at + SILENT_US)
    }

    /// The transmission with this stamp was answered by so many bytes of data, or by something
    /// else. Says where the bytes belong.
    pub(super) fn take(&mut self, stamp: Stamp, data: Option<usize>, now: u64) -> Option<usize> {
        let place = self.flying.iter().position(|one| one.stamp == stamp)?;
        if data != Some(self.flying[place].len) {
            self.is_over = true;
            return None;
        }
        self.heard_at = now;
        self.came += 1;
        if self.came >= self.window {
            (self.window, self.came) = ((self.window + 1).min(WINDOW_MAX), 0);
        }
        Some(self.flying.swap_remove(place).at)
    }

    /// Everything has come, or no more will.
    pub(super) fn is_over(&self) -> bool {
        self.is_over || (self.next == self.len && self.flying.is_empty())
    }

    /// How much has come from the beginning on without a gap.
    pub(super) fn whole(&self) -> usize {
        self.flying.iter().map(|one| one.at).min().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE_US: u64 = 10_000;

    /// Fetches `len` bytes over a network that answers a transmission, or not, as `answer` says.
    fn fetch(len: usize, mut answer: impl FnMut(u64, Piece) -> Option<Option<usize>>) -> usize {
        let (mut ahead, mut now, mut sent) = (Ahead::new(len, 0), 0, 0);
        while !ahead.is_over() {
            let mut pieces = Vec::new();
            while let Some(piece) = ahead.poll_transmit(now, PATIENCE_US) {
                pieces.push(piece);
            }
            assert!(ahead.flying.len() <= WINDOW_MAX);
            // Out of order, and each answer twice.
            for piece in pieces.into_iter().rev() {
                sent += 1;
                if let Some(data) = answer(sent, piece) {
                    let at = ahead.take(piece.stamp, data, now + 100);
                    assert!(at.is_none_or(|at| at == piece.at));
                    assert_eq!(
                        ahead.take(piece.stamp, data, now + 100).filter(|_| at.is_some()),
                        None
                    );
                }
            }
            now = (now + 200).max(ahead.timeout(PATIENCE_US).min(now + PATIENCE_US));
        }
        ahead.whole()
    }

    #[test]
    fn every_piece_comes_however_many_are_lost() {
        let len = 300 * READ_MAX + 7;
        assert_eq!(fetch(len, |_, piece| Some(Some(piece.len))), len);
        assert_eq!(fetch(len, |sent, piece| (sent % 3 > 0).then_some(Some(piece.len))), len);
        assert_eq!(fetch(0, |_, _| None), 0);
    }

    #[test]
    fn anything_but_data_ends_it_and_silence_does() {
        let len = 100 * READ_MAX;
        assert_eq!(fetch(len, |_, _| None), 0);
        let whole = fetch(len, |_, piece| Some((piece.at < 20 * READ_MAX).then_some(piece.len)));
        assert!(whole <= 20 * READ_MAX, "{whole}");
        // Less than was asked for: what is there has changed.
        assert_eq!(fetch(len, |_, piece| Some(Some(piece.len - 1))), 0);
    }
}
