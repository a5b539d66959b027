//! The judge over the lock's history, which is checked against what is in the files: who was granted
//! the lock and how each grant ended.

use crate::machine::History;
use crate::protocol::inspect::RecordKind;
use crate::types::Millis;
use std::collections::BTreeMap;

/// Checks the records against the published bytes of each token.
pub fn check(history: &History, published: &BTreeMap<u64, u64>) -> Result<(), String> {
    let (mut previous, records) = history.from(0);
    let (mut held, mut newest) = (None, 0);
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
            _ if held.take() != Some(token) => {
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
    }
    match unseen.first_key_value() {
        Some((token, _)) if history.oldest() <= 1 => {
            Err(format!("{token} has published, but the history does not know"))
        }
        _ => Ok(()),
    }
}
