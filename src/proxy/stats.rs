//! What the proxy counts.

use super::message::Direction;
use std::fmt;

/// What has been done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub requests: Counts,
    pub replies: Counts,
}

/// What has been done so far with the datagrams of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came to the proxy.
    pub seen: u64,
    pub dropped: u64,
    /// Kept back by a rule of the script.
    pub held: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Left the proxy, copies included.
    pub sent: u64,
}

impl Stats {
    pub(super) fn of(&mut self, direction: Direction) -> &mut Counts {
        match direction {
            Direction::Request => &mut self.requests,
            Direction::Reply => &mut self.replies,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { seen, dropped, held, duplicated, reordered, sent } = self;
        write!(
            f,
            "{seen} seen, {dropped} dropped, {held} held, {duplicated} duplicated, \
             {reordered} reordered, {sent} sent"
        )
    }
}
