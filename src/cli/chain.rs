//! Checks that records of the history follow each other as they were made.

use crate::protocol::inspect::{Hash, HistoryPage, Record};

/// How far the chain has been checked.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Number and hash of the newest record.
    head: Option<(u64, Hash)>,
    /// Number of the oldest.
    pub first: Option<u64>,
    pub records: u64,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("record {0} is not what was recorded, or does not follow the one before it")]
    Changed(u64),
    #[error("record {0} is missing")]
    Missing(u64),
    #[error("record {0} is there, but not with the hash that was remembered")]
    Replaced(u64),
    #[error("record {0}, which was remembered, does not exist: the history has been cut")]
    Cut(u64),
}

impl Chain {
    /// Number and hash of the newest record so far.
    pub fn head(&self) -> Option<(u64, Hash)> {
        self.head
    }

    /// Checks the next page.
    pub fn check(&mut self, page: &HistoryPage) -> Result<(), Damage> {
        let Some(first) = page.records.first().map(|record| record.number) else { return Ok(()) };
        let mut previous = page.anchor;
        match self.head {
            None if first == 1 && previous != Hash::default() => return Err(Damage::Changed(1)),
            Some((number, hash)) if first == number + 1 && previous != hash => {
                return Err(Damage::Changed(first));
            }
            // Records that the server has forgotten meanwhile are no damage.
            Some((number, _)) if first > number + 1 && first > page.oldest => {
                return Err(Damage::Missing(number + 1));
            }
            _ => {}
        }
        for (number, record) in (first..).zip(&page.records) {
            if record.number != number {
                return Err(Damage::Missing(number));
            }
            previous = self.follow(record, previous)?;
        }
        Ok(())
    }

    fn follow(&mut self, record: &Record, previous: Hash) -> Result<Hash, Damage> {
        if record.chained(previous) != record.hash {
            return Err(Damage::Changed(record.number));
        }
        self.head = Some((record.number, record.hash));
        self.first.get_or_insert(record.number);
        self.records += 1;
        Ok(record.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ClientInfo;
    use crate::protocol::inspect::RecordKind;
    use crate::types::{FencingToken, Millis, SessionId};

    fn page(first: u64, count: u64, oldest: u64, anchor: Hash) -> HistoryPage {
        let mut previous = anchor;
        let record = |number| {
            let mut record = Record {
                number,
                at_ms: Millis(number),
                kind: RecordKind::Granted,
                token: FencingToken(number),
                session: SessionId(1),
                client: ClientInfo::default(),
                bytes: 0,
                revocation: None,
                hash: Hash::default(),
            };
            record.hash = record.chained(previous);
            previous = record.hash;
            record
        };
        let records = (first..first + count).map(record).collect();
        HistoryPage { oldest, newest: first + count - 1, anchor, records }
    }

    #[test]
    fn any_changed_missing_or_swapped_record_is_noticed() {
        let good = page(1, 5, 1, Hash::default());
        assert_eq!(Chain::default().check(&good), Ok(()));
        type Change = fn(&mut HistoryPage);
        let changes: [(Change, Damage); 5] = [
            (|page| page.records[2].bytes = 1, Damage::Changed(3)),
            (|page| page.records[4].client.user.push('x'), Damage::Changed(5)),
            (|page| drop(page.records.remove(1)), Damage::Missing(2)),
            (|page| page.anchor = Hash([1; 32]), Damage::Changed(1)),
            (
                // Made to fit its own hash again: the next one gives it away.
                |page| {
                    let previous = page.records[0].hash;
                    page.records[1].token.0 += 1;
                    page.records[1].hash = page.records[1].chained(previous);
                },
                Damage::Changed(3),
            ),
        ];
        for (change, damage) in changes {
            let mut page = good.clone();
            change(&mut page);
            assert_eq!(Chain::default().check(&page), Err(damage));
        }
    }

    #[test]
    fn pages_must_follow_each_other_except_where_old_records_fell_off() {
        let first = page(1, 3, 1, Hash::default());
        let head = first.records[2].hash;
        let mut chain = Chain::default();
        chain.check(&first).unwrap();
        assert_eq!(chain.head(), Some((3, head)));
        assert_eq!(chain.clone().check(&page(4, 2, 1, head)), Ok(()));
        assert_eq!(chain.clone().check(&page(4, 2, 1, Hash([9; 32]))), Err(Damage::Changed(4)));
        assert_eq!(chain.clone().check(&page(6, 2, 1, head)), Err(Damage::Missing(4)));
        assert_eq!(chain.clone().check(&page(6, 2, 6, Hash([9; 32]))), Ok(()));
    }
}
