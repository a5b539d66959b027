//! What a program does as an operator: it looks at the lock and the history, and takes the lock from
//! whoever holds it.

use super::{Ask, Program, Verdict};
use crate::client::Error;
use crate::client::call::Answer;
use crate::protocol::Reason;
use crate::protocol::inspect::{HistoryPage, LockPage, What};
use crate::proxy::random::Random;
use crate::sim::ledger::Ledger;

impl Program {
    pub(super) fn operate(&mut self, ledger: &Ledger, random: &mut Random) -> Ask {
        match (random.between(0, 3), self.seen.take()) {
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
            (Ask::Inspect { what: What::Lock, .. }, Ok(Answer::Page { .. })) => {
                let page: LockPage = postcard::from_bytes(data).map_err(|e| e.to_string())?;
                let token = page.holder.map_or(0, |holder| holder.token.0);
                self.seen = Some(token).filter(|token| *token > 0);
                if !ledger.was_holder(token, invoked) {
                    return Err(format!("{} is shown the holder {token}", self.client));
                }
                let is_in_order = page.waiters.is_sorted_by(|one, next| one.ticket < next.ticket);
                if !is_in_order || page.waiting < page.waiters.len() as u64 {
                    return Err(format!(
                        "{} is shown {} waiters, and these: {:?}",
                        self.client, page.waiting, page.waiters
                    ));
                }
            }
            (Ask::Inspect { from, .. }, Ok(Answer::Page { .. })) => {
                let page: HistoryPage = postcard::from_bytes(data).map_err(|e| e.to_string())?;
                ledger.has_seen_history(*from, &page, invoked, now)?;
            }
            (Ask::Revoke { token }, Ok(_)) => ledger.revoked(*token)?,
            (Ask::Revoke { token }, Err(Error::Refused(Reason::NotHeld)))
                if ledger.is_holder_since(*token, invoked) =>
            {
                return Err(format!("{} is told that nobody holds {token}", self.client));
            }
            _ => {}
        }
        Ok(())
    }
}
