//! Which transmissions of a request are on their way, and what is to be sent when. A request is a
//! row of pieces: a large append has many, every other request is a single piece. Answers are
//! cumulative: the answer to one piece answers all before it.

use super::rtt::Rtt;
use crate::limits::WINDOW_MAX;
use std::collections::VecDeque;

/// Pieces on their way before anything is known about the path.
const SIZE_INITIAL: u64 = 16;

/// The pieces of the request in flight. Kept from request to request for its memory and for the
/// size that the path has borne.
#[derive(Debug)]
pub(crate) struct Window {
    /// Pieces that may be on their way at once: grows by one a window, halves on a loss.
    size: u64,
    /// Pieces answered towards the next growth.
    credit: u64,
    /// Pieces of this request.
    total: u64,
    /// The oldest unanswered piece.
    base: u64,
    /// Pieces from `base` on that were sent at least once.
    sent: VecDeque<Sent>,
    /// When `base` last moved: the oldest piece is given the whole timeout from then.
    moved_at: u64,
    /// A piece sent before this is suspected lost: a piece that was sent again at this time has
    /// been answered, and the answer did not cover the other...
    suspect_before: u64,
    /// ... and taken for lost at this time, unless its answer comes first.
    suspect_at: u64,
    /// The server said not to ask again before this.
    quiet_until: Option<u64>,
    /// First and newest transmission of the request.
    stamps: Option<(u64, u64)>,
    /// The newest transmission known to be answered; an answer to it is measured once.
    answered: Option<u64>,
}

#[derive(Debug)]
struct Sent {
    at: u64,
    is_lost: bool,
    /// Sent more than once.
    is_again: bool,
}

impl Window {
    pub(crate) fn new() -> Self {
        Window {
            size: SIZE_INITIAL,
            credit: 0,
            total: 0,
            base: 0,
            sent: VecDeque::new(),
            moved_at: 0,
            suspect_before: 0,
            suspect_at: 0,
            quiet_until: None,
            stamps: None,
            answered: None,
        }
    }

    /// Starts on a request of `total` pieces.
    pub(crate) fn restart(&mut self, total: u64) {
        assert!(total > 0, "a request has at least one piece");
        self.sent.clear();
        *self = Window {
            size: self.size,
            credit: self.credit,
            total,
            sent: std::mem::take(&mut self.sent),
            ..Window::new()
        };
    }

    /// The piece to send now: what was lost first, then new ones as far as the window is open.
    pub(crate) fn due(&self) -> Option<u64> {
        if self.sent.front().is_some_and(|oldest| oldest.is_lost) {
            // Only its answer can open the window again.
            return Some(self.base);
        }
        let on_their_way = self.sent.iter().filter(|sent| !sent.is_lost).count() as u64;
        if on_their_way >= self.size {
            return None;
        }
        if on_their_way < self.sent.len() as u64 {
            let lost = self.sent.iter().position(|sent| sent.is_lost)?;
            return Some(self.base + lost as u64);
        }
        let next = self.base + self.sent.len() as u64;
        (next < self.total).then_some(next)
    }

    /// Piece `piece`, which was due, leaves now.
    pub(crate) fn on_sent(&mut self, piece: u64, now: u64) {
        let index = (piece - self.base) as usize;
        match self.sent.get_mut(index) {
            Some(again) => *again = Sent { at: now, is_lost: false, is_again: true },
            None => self.sent.push_back(Sent { at: now, is_lost: false, is_again: false }),
        }
        if piece == self.base {
            self.quiet_until = None;
        }
        let (first, newest) = self.stamps.unwrap_or((now, now));
        self.stamps = Some((first, newest.max(now)));
    }

    /// How many unanswered pieces stand before this one.
    pub(crate) fn before(&self, piece: u64) -> u64 {
        piece - self.base
    }

    /// Whether piece `piece` is on its way and `stamp` may be a transmission of this request.
    pub(crate) fn awaits(&self, piece: u64, stamp: u64) -> bool {
        let is_sent = piece >= self.base && piece - self.base < self.sent.len() as u64;
        is_sent && self.stamps.is_some_and(|(first, newest)| (first..=newest).contains(&stamp))
    }

    /// An answer to the transmission of `stamp` came. Says how long that took, the first time.
    pub(crate) fn measure(&mut self, stamp: u64, now: u64) -> Option<u64> {
        if self.answered.is_some_and(|answered| stamp <= answered) {
            return None;
        }
        self.answered = Some(stamp);
        Some(now.saturating_sub(stamp))
    }

    /// Piece `piece` and all before it are answered. Says whether the request is.
    pub(crate) fn on_answered(&mut self, piece: u64, now: u64, rtt: &Rtt) -> bool {
        let count = piece + 1 - self.base;
        for sent in self.sent.drain(..count as usize).filter(|sent| sent.is_again) {
            self.suspect_before = self.suspect_before.max(sent.at);
        }
        self.suspect_at = now + rtt.spread_us();
        self.base = piece + 1;
        self.moved_at = now;
        self.credit += count;
        if self.credit >= self.size {
            self.credit = 0;
            self.size = (self.size + 1).min(WINDOW_MAX);
        }
        self.base == self.total
    }

    /// The request is known to the server, which has nothing to say about it before `until`.
    pub(crate) fn be_quiet(&mut self, until: u64) {
        self.quiet_until = Some(until);
    }

    /// Whether the newest transmission is the one of `stamp`.
    pub(crate) fn is_newest(&self, stamp: u64) -> bool {
        self.stamps.is_some_and(|(_, newest)| newest == stamp)
    }

    /// Nothing new is sent any more: the request consists of what was sent so far. Says whether
    /// any of that is unanswered.
    pub(crate) fn end_here(&mut self) -> bool {
        self.total = self.base + self.sent.len() as u64;
        !self.sent.is_empty()
    }

    /// Everything unanswered is due again.
    pub(crate) fn resend(&mut self) {
        self.quiet_until = None;
        for sent in &mut self.sent {
            sent.is_lost = true;
        }
    }

    /// When the next piece becomes due if nothing comes.
    pub(crate) fn timeout(&self, rtt: &Rtt) -> Option<u64> {
        let oldest = self.sent.front()?;
        let oldest_at = match self.quiet_until {
            Some(until) => until,
            None => oldest.at.max(self.moved_at) + rtt.timeout_us(),
        };
        let is_suspected = |sent: &Sent| !sent.is_lost && sent.at < self.suspect_before;
        let suspects_at = self.sent.iter().any(is_suspected).then_some(self.suspect_at);
        Some(suspects_at.map_or(oldest_at, |at| at.min(oldest_at)))
    }

    /// Makes due what the time has come for. Says whether the server left the oldest piece
    /// unanswered for the whole timeout.
    pub(crate) fn on_timeout(&mut self, now: u64, rtt: &Rtt) -> bool {
        if self.suspect_at <= now {
            for sent in &mut self.sent {
                sent.is_lost |= sent.at < self.suspect_before;
            }
        }
        let moved_at = self.moved_at;
        let Some(oldest) = self.sent.front_mut().filter(|oldest| !oldest.is_lost) else {
            return false;
        };
        match self.quiet_until {
            Some(until) => {
                oldest.is_lost = until <= now;
                false
            }
            None => {
                oldest.is_lost = oldest.at.max(moved_at) + rtt.timeout_us() <= now;
                if oldest.is_lost && self.total > 1 {
                    self.size = (self.size / 2).max(1);
                    self.credit = 0;
                }
                oldest.is_lost
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends all that is due at `now`.
    fn send(window: &mut Window, now: u64) -> Vec<u64> {
        let mut pieces = Vec::new();
        while let Some(piece) = window.due() {
            window.on_sent(piece, now);
            pieces.push(piece);
        }
        pieces
    }

    #[test]
    fn sends_no_more_than_its_size_and_slides() {
        let (mut window, rtt) = (Window::new(), Rtt::new(1));
        window.restart(100);
        assert_eq!(send(&mut window, 10), (0..16).collect::<Vec<_>>());
        assert!(!window.on_answered(3, 20, &rtt));
        assert_eq!(send(&mut window, 21), vec![16, 17, 18, 19]);
        assert_eq!(window.before(19), 15);
        assert!(window.awaits(19, 21) && !window.awaits(3, 10) && !window.awaits(20, 21));
        assert!(!window.awaits(19, 9) && !window.awaits(19, 22));
    }

    #[test]
    fn a_lost_piece_alone_is_sent_again_when_the_server_holds_the_rest() {
        let (mut window, rtt) = (Window::new(), Rtt::new(1));
        window.restart(8);
        send(&mut window, 0);
        let timeout = window.timeout(&rtt).unwrap();
        assert_eq!(timeout, rtt.timeout_us());
        assert!(window.on_timeout(timeout, &rtt));
        assert_eq!(send(&mut window, timeout), vec![0]);
        assert!(!window.on_answered(0, timeout + 50, &rtt));
        assert!(send(&mut window, timeout + 50).is_empty());
        assert!(window.on_answered(7, timeout + 60, &rtt));
    }

    #[test]
    fn pieces_that_the_server_dropped_as_early_follow_after_a_moment() {
        let (mut window, rtt) = (Window::new(), Rtt::new(1));
        window.restart(4);
        send(&mut window, 0);
        assert!(window.on_timeout(100_000, &rtt));
        send(&mut window, 100_000);
        window.on_answered(0, 100_050, &rtt);
        let suspects = window.timeout(&rtt).unwrap();
        assert_eq!(suspects, 100_050 + rtt.spread_us());
        assert!(!window.on_timeout(suspects, &rtt));
        assert_eq!(send(&mut window, suspects), vec![1, 2, 3]);
    }

    #[test]
    fn grows_by_one_a_window_and_halves_on_loss() {
        let (mut window, rtt) = (Window::new(), Rtt::new(1));
        window.restart(1_000);
        let mut now = 0;
        for round in 0..60 {
            let sent = send(&mut window, now);
            let size = (SIZE_INITIAL + round).min(WINDOW_MAX);
            assert_eq!(sent.len() as u64, size);
            now += 10;
            if window.on_answered(*sent.last().unwrap(), now, &rtt) {
                break;
            }
            window.total += size;
        }
        send(&mut window, now);
        assert!(window.on_timeout(now + rtt.timeout_us(), &rtt));
        assert_eq!(window.size, WINDOW_MAX / 2);
    }

    #[test]
    fn a_quiet_server_is_asked_when_it_said_and_then_with_timeouts() {
        let (mut window, mut rtt) = (Window::new(), Rtt::new(1));
        window.restart(1);
        send(&mut window, 0);
        window.be_quiet(700_000);
        assert_eq!(window.timeout(&rtt), Some(700_000));
        assert!(!window.on_timeout(699_999, &rtt));
        assert!(send(&mut window, 699_999).is_empty());
        assert!(!window.on_timeout(700_000, &rtt));
        assert_eq!(send(&mut window, 700_000), vec![0]);
        assert!(window.on_timeout(700_000 + rtt.timeout_us(), &rtt));
        rtt.back_off();
        assert_eq!(send(&mut window, 900_000), vec![0]);
    }

    #[test]
    fn each_transmission_is_measured_once() {
        let mut window = Window::new();
        window.restart(1);
        send(&mut window, 5);
        assert_eq!(window.measure(5, 25), Some(20));
        assert_eq!(window.measure(5, 9_000), None);
    }
}
