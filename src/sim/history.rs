//! The judge over the lock's history, which is checked against what is in the files: who was granted
//! the lock and how each grant ended.

use crate::machine::History;
use crate::protocol::inspect::RecordKind;
use crate::types::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// Checks the records against the published bytes of each token.
pub fn check(history: &History, published: &BTreeMap<u64, u64>) -> Result<(), String> {
    let (mut previous, records) = history.from(0);
    let (mut held, mut newest) = (None, 0);
    // Who held the lock when the history begins it does not say.
    let mut is_known = history.oldest() <= 1;
    let mut unseen = published.clone();
    let mut earlier = Millis(0);
    for record in records {
        let number = record.number;
        if record.at_ms < earlier {
            return Err(format!("in the history time goes back at record {number}"));
        }
        earlier = record.at_ms;
        if record.hash != record.chained(previous) {
            return Err(format!("the history's chain breaks at record {number}"));
        }
        previous = record.hash;
        let token = record.token.0;
        match record.kind {
            RecordKind::Started => {}
            RecordKind::Granted if held.is_some() || token <= newest => {
                return Err(format!("the history grants {token} at {number} while {held:?} holds"));
            }
            RecordKind::Granted => (held, newest) = (Some(token), token),
            // A waiter that has gone.
            RecordKind::Skipped | RecordKind::Evicted if token == 0 => {}
            _ if !held.take().map_or(!is_known, |held| held == token) => {
                return Err(format!("the history ends {token} at {number}, which was not held"));
            }
            RecordKind::Released => {
                let found = unseen.remove(&token).unwrap_or(0);
                if found != record.bytes {
                    let bytes = record.bytes;
                    return Err(format!("{token} has published {found} bytes, recorded {bytes}"));
                }
            }
            _ => {}
        }
        is_known |= !matches!(record.kind, RecordKind::Started) && token > 0;
    }
    check_counts(history)?;
    match unseen.first_key_value() {
        Some((token, _)) if history.oldest() <= 1 => {
            Err(format!("{token} has published, but the history does not know"))
        }
        _ => Ok(()),
    }
}

/// The counts are those of the records, and who is described is named by one.
fn check_counts(history: &History) -> Result<(), String> {
    let mut counts = [0; RecordKind::ALL.len()];
    let mut named = BTreeSet::new();
    for record in history.from(0).1 {
        counts[record.kind as usize] += 1;
        named.insert(record.session);
        named.extend(record.revocation.map(|revocation| revocation.session));
    }
    let all: u64 = history.counts().iter().sum();
    let is_whole = history.oldest() <= 1;
    if all != history.newest() || (is_whole && counts != *history.counts()) {
        return Err(format!("{counts:?} are counted as {:?}", history.counts()));
    }
    match history.described() {
        described if described == named.len() => Ok(()),
        described => Err(format!("{described} sessions are described, {} named", named.len())),
    }
}
