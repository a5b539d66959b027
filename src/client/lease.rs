//! What the client may believe about its lock. The lease is counted from before the request was
//! sent that the server answered, so this belief always ends no later than the server's.

use crate::types::FencingToken;
use std::sync::atomic::{AtomicU64, Ordering};

/// The lock as this client sees it, readable by any thread while a call is under way on the
/// connection: see [`Connection::watch`](crate::Connection::watch).
///
/// Times are microseconds of the connection's own clock.
#[derive(Debug, Default)]
pub struct LeaseView {
    token: AtomicU64,
    deadline_us: AtomicU64,
}

impl LeaseView {
    /// The token under which the lock is held; none when it is not held, or known to be lost.
    pub fn token(&self) -> Option<FencingToken> {
        match self.token.load(Ordering::Acquire) {
            0 => None,
            token => Some(FencingToken(token)),
        }
    }

    /// Until when the server surely keeps the lock for the holder of this token.
    pub fn deadline_us(&self, token: FencingToken) -> Option<u64> {
        let deadline_us = self.deadline_us.load(Ordering::Acquire);
        // The deadline is cleared before the token changes and set after it, so a token that is
        // still there now is the one that the deadline belongs to.
        (self.token.load(Ordering::Acquire) == token.0).then_some(deadline_us)
    }

    /// How much of the lease is left at `now_us`; 0 when nothing is held.
    pub fn remaining_us(&self, now_us: u64) -> u64 {
        let deadline_us = self.token().and_then(|token| self.deadline_us(token));
        deadline_us.unwrap_or(0).saturating_sub(now_us)
    }

    /// The server keeps the lock under `token` until `deadline_us` or longer. News of an earlier
    /// transmission may come later: the lease never shrinks under the same token.
    pub(crate) fn extend(&self, token: FencingToken, deadline_us: u64) {
        if self.token() != Some(token) {
            self.clear();
            self.token.store(token.0, Ordering::Release);
        }
        self.deadline_us.fetch_max(deadline_us, Ordering::AcqRel);
    }

    /// The lock is given back or lost.
    pub(crate) fn clear(&self) {
        self.deadline_us.store(0, Ordering::Release);
        self.token.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_news_never_shortens_the_lease() {
        let view = LeaseView::default();
        assert_eq!((view.token(), view.remaining_us(0)), (None, 0));
        view.extend(FencingToken(7), 500);
        view.extend(FencingToken(7), 300);
        assert_eq!(view.token(), Some(FencingToken(7)));
        assert_eq!(view.remaining_us(100), 400);
        assert_eq!(view.remaining_us(501), 0);
    }

    #[test]
    fn a_new_token_starts_a_new_lease() {
        let view = LeaseView::default();
        view.extend(FencingToken(7), 500);
        view.extend(FencingToken(8), 300);
        assert_eq!(view.deadline_us(FencingToken(7)), None);
        assert_eq!(view.deadline_us(FencingToken(8)), Some(300));
        view.clear();
        assert_eq!((view.token(), view.remaining_us(0)), (None, 0));
    }
}
