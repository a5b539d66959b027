//! The data files as anybody can see them, and what readers were told of them.

use super::content::parse;
use super::{Fate, Ledger, Told, Verdict};
use crate::sim::linear::{Operation, What};
use std::collections::BTreeMap;

/// A data file as `cat` shows it.
#[derive(Debug, Default)]
pub(super) struct File {
    pub bytes: Vec<u8>,
    pub newest: (u64, u64),
    /// So many bytes are acknowledged: no reader may see less any more.
    pub acknowledged: u64,
    /// Where each section stands.
    pub places: BTreeMap<u64, (u64, u64)>,
    pub reads: Vec<Operation>,
}

impl Ledger {
    /// A read was answered.
    pub fn has_read(
        &mut self,
        client: usize,
        file: usize,
        offset: u64,
        data: &[u8],
        length: u64,
        (invoked, completed): (u64, u64),
    ) -> Verdict {
        if self.losses.has_answer(invoked) {
            return Ok(());
        }
        let file = &mut self.files[file];
        let known = file.bytes.get(offset as usize..offset as usize + data.len());
        if length > file.bytes.len() as u64 || (!data.is_empty() && known != Some(data)) {
            return Err(format!("{client} read what is not in the file, from {offset}"));
        }
        file.reads.push(Operation { client, invoked, completed, what: What::Read(length) });
        Ok(())
    }

    /// These bytes are in a data file from `from` to its end, as anybody can see. What was seen
    /// once stays.
    pub fn see(&mut self, id: usize, from: u64, bytes: &[u8]) -> Verdict {
        let from = from as usize;
        let seen = self.files[id].bytes.len();
        let expected = &self.files[id].bytes[from.min(seen)..];
        if !bytes.starts_with(expected) {
            return Err(format!(
                "file_{id} had {seen} published bytes, now it has {} and others",
                from + bytes.len()
            ));
        }
        let mut at = expected.len();
        self.files[id].bytes.extend_from_slice(&bytes[at..]);
        while at < bytes.len() {
            let Some((token, serial, end)) = parse(bytes, at) else {
                return Err(format!("file_{id} has something torn at {}", from + at));
            };
            let place = ((from + at) as u64, (from + end) as u64);
            self.see_append(id, (token, serial), place)?;
            at = end;
        }
        Ok(())
    }

    fn see_append(&mut self, id: usize, newest: (u64, u64), place: (u64, u64)) -> Verdict {
        let (token, serial) = newest;
        let file = &mut self.files[id];
        if newest <= file.newest {
            return Err(format!(
                "file_{id} has append {serial} under token {token} after append {} under {}",
                file.newest.1, file.newest.0
            ));
        }
        if self.operators.has_revoked(token) {
            return Err(format!("file_{id} has append {serial} under the revoked token {token}"));
        }
        file.newest = newest;
        file.places.entry(token).or_insert(place).1 = place.1;
        let section = self.sections.get_mut(&token);
        let section = section.ok_or_else(|| format!("file_{id} has the unknown token {token}"))?;
        // The power may have taken what the client was told; a late copy of its call is done then.
        let may_be_untold = self.losses.has_token(token);
        let is_over = !matches!(section.fate, Fate::Releasing | Fate::Published);
        if is_over && !section.was_refused && !may_be_untold {
            return Err(format!(
                "file_{id} has append {serial} of {} under token {token}, which is {:?}",
                section.client, section.fate
            ));
        }
        let append = section.appends.iter_mut().find(|append| append.serial == serial);
        let append = append.ok_or_else(|| format!("file_{id} has the unknown append {serial}"))?;
        if append.file != id || append.len as u64 != place.1 - place.0 {
            return Err(format!("append {serial} is in the wrong file or has the wrong length"));
        }
        if append.told == Told::NotDone && !may_be_untold {
            return Err(format!("file_{id} has append {serial}, which was refused"));
        }
        append.is_published = true;
        Ok(())
    }

    /// Published bytes of each section.
    pub fn published(&self) -> BTreeMap<u64, u64> {
        let mut published = BTreeMap::new();
        for (token, (from, to)) in self.files.iter().flat_map(|file| &file.places) {
            *published.entry(*token).or_default() += to - from;
        }
        published
    }

    /// How many bytes of each file readers have to find from now on.
    pub fn acknowledged(&self) -> impl Iterator<Item = u64> {
        self.files.iter().map(|file| file.acknowledged)
    }

    /// Published bytes of all files.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }

    /// The files may have so many bytes together.
    pub fn check_total(&self, most: u64) -> Verdict {
        match self.total() {
            total if total > most => {
                Err(format!("the files have {total} bytes, and may have {most}"))
            }
            _ => Ok(()),
        }
    }

    /// Published bytes of a file.
    pub fn length(&self, file: usize) -> u64 {
        self.files[file].bytes.len() as u64
    }
}
