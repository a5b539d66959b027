//! The lead: when a member stands for it, how long it may count on it, and how it is given away.

use super::Node;
use crate::types::Millis;

impl Node {
    /// The library draws its timeouts by chance; they come from the seed instead.
    pub(super) fn draw_timeout(&mut self) {
        let state = (self.role(), self.raw.raft.state);
        if state != self.drawn || self.draws == 0 {
            self.drawn = state;
            self.draws += 1;
        }
        let (min, draw) = (self.tuning.election_ticks, mix(self.seed.wrapping_add(self.draws)));
        self.raw.raft.set_randomized_election_timeout(min + (draw % min as u64) as usize);
    }

    /// Has the others confirm that this member leads; what they say counts from now on.
    pub fn ask_for_trust(&mut self, now: Millis) {
        self.raw.read_index(now.0.to_le_bytes().to_vec());
    }

    pub(super) fn trust(&mut self, context: &[u8]) {
        if self.is_handing_over {
            return;
        }
        let Ok(bytes) = <[u8; 8]>::try_from(context) else { return };
        let until = Millis(u64::from_le_bytes(bytes) + self.tuning.trust_ms());
        self.trusted_until = self.trusted_until.max(Some(until));
    }

    /// Hands the lead to another member, which others help to the lead although they hear this one:
    /// from now on this one may not be the only leader, and must not answer as if it were.
    pub fn transfer(&mut self, to: u64) {
        self.is_handing_over = true;
        self.raw.transfer_leader(to);
    }

    /// Whether the lead is being handed to another member.
    pub fn is_handing_over(&self) -> bool {
        self.is_handing_over
    }

    /// Where the other member has not taken the lead within an election timeout, the library would
    /// go on leading. But it may still take it, so this one does not: there is an election.
    pub(super) fn end_handing_over(&mut self) {
        if self.is_handing_over && self.raw.raft.lead_transferee.is_none() {
            self.is_handing_over = false;
            self.step_down();
        }
    }

    /// Gives up the lead.
    fn step_down(&mut self) {
        if self.role().is_leading {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
    }
}

/// SplitMix64: spreads a counter over all numbers.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
