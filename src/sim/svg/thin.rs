//! What a picture can do without: the same datagrams again and again, of those who wait or find no
//! server.

use crate::sim::story::{Note, What};
use std::collections::BTreeSet;

/// The notes that are drawn, and the times between which nothing new happened and some are left out.
pub(super) fn thin<'a>(notes: &[&'a Note]) -> (Vec<&'a Note>, Vec<(u64, u64)>) {
    let mut seen = BTreeSet::new();
    let is_new: Vec<_> = notes.iter().map(|note| is_news(&note.what, &mut seen)).collect();
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < notes.len() {
        let same = is_new[at..].iter().take_while(|is_new| !**is_new).count();
        if same > 2 * KEPT {
            let (last, next) = (notes[at + KEPT - 1], notes[at + same - KEPT]);
            kept.extend(&notes[at..at + KEPT]);
            skipped.push((last.at, next.at));
            kept.extend(&notes[at + same - KEPT..at + same]);
        } else {
            kept.extend(&notes[at..at + same]);
        }
        at += same;
        kept.extend(notes.get(at));
        at += 1;
    }
    (kept, skipped)
}

fn is_news<'a>(what: &'a What, seen: &mut BTreeSet<(usize, &'static str, &'a str)>) -> bool {
    match what {
        What::Sent { client, direction, message, .. } => {
            seen.insert((*client, direction.name(), message.as_str()))
        }
        What::Unheard { .. } => false,
        _ => true,
    }
}

/// Notes that are drawn at each end of what goes on and on.
const KEPT: usize = 4;
