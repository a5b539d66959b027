//! What a program does as an operator: it looks at the lock and the history, and takes the lock from
//! whoever holds it.

use super::{Ask, Program, Verdict};
use crate::client::Error;
use crate::client::call::Answer;
use crate::protocol::Reason;
use crate::protocol::inspect::{HistoryPage, LockPage, What};
use crate::proxy::random::Random;
use crate::sim::ledger::Ledger;
use crate::sim::plan::Plan;

impl Program {
    pub(super) fn operate(&mut self, plan: &Plan, ledger: &Ledger, random: &mut Random) -> Ask {
        let surveys = u64::from(plan.surveys);
        match (random.between(0, 3 + surveys), self.seen.take()) {
            (4, seen) if random.chance(0.5) => {
                self.seen = seen;
                Ask::Inspect { what: What::Status, from: 0 }
            }
            (4, _) => Ask::Inspect { what: What::Lock, from: self.seen_ticket },
            (0, _) => {
                let newest = ledger.newest_record();
                let from = random.between(newest.saturating_sub(20), newest + 2);
                Ask::Inspect { what: What::History, from }
            }
            (1..=2, Some(token)) => Ask::Revoke { token },
            _ => Ask::Inspect { what: What::Lock, from: 0 },
        }
    }

    /// An operator's call was answered.
    pub(super) fn operated(
        &mut self,
        ask: &Ask,
        result: &Result<Answer, Error>,
        data: &[u8],
        ledger: &mut Ledger,
        (invoked, now): (u64, u64),
    ) -> Verdict {
        match (ask, result) {
            (Ask::Inspect { what: What::Lock, from }, Ok(Answer::Page { next })) => {
                let page: LockPage = postcard::from_bytes(data).map_err(|e| e.to_string())?;
                let token = page.holder.as_ref().map(|holder| holder.token.0);
                self.seen = token.filter(|token| *token > 0);
                let last = page.waiters.last().map_or(0, |waiter| waiter.ticket.0);
                self.seen_ticket = if *next > 0 { *next } else { last };
                ledger.has_seen_lock(*from, &page, *next, invoked)
            }
            (Ask::Inspect { what: What::Status, .. }, Ok(Answer::Page { .. })) => {
                let status = postcard::from_bytes(data).map_err(|e| e.to_string())?;
                ledger.has_seen_status(&status, invoked)
            }
            (Ask::Inspect { from, .. }, Ok(Answer::Page { next })) => {
                let page: HistoryPage = postcard::from_bytes(data).map_err(|e| e.to_string())?;
                ledger.has_seen_history(*from, &page, *next, invoked, now)
            }
            (Ask::Revoke { token }, Ok(_)) => ledger.revoked(*token),
            (Ask::Revoke { token }, Err(Error::Unavailable)) => {
                ledger.not_revoked(self.client, *token);
                Ok(())
            }
            (Ask::Revoke { token }, Err(Error::Refused(Reason::NotHeld))) => {
                ledger.denied(*token, invoked)
            }
            _ => Ok(()),
        }
        .map_err(|why| format!("operator {}: {why}", self.client))
    }
}
