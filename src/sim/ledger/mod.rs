//! What clients were told, against what is in the files: the judge over sections. It knows nothing
//! of the machine. Each append has content that names its client, token and serial number, so
//! whatever stands in a file tells where it comes from.

mod content;

use super::linear::{self, Operation, What};
use content::parse;
use std::collections::BTreeMap;

/// All sections of a run by token, and the files as they have been seen.
#[derive(Debug, Default)]
pub struct Ledger {
    sections: BTreeMap<u64, Section>,
    files: Vec<File>,
    lock: Vec<Operation>,
    /// What stories call their appends.
    letters: BTreeMap<(u64, u64), char>,
    /// At each power loss: the newest token, and the one that survived.
    power_losses: Vec<(u64, Option<u64>)>,
}

#[derive(Debug)]
struct Section {
    client: usize,
    appends: Vec<Append>,
    fate: Fate,
    /// A release was refused for want of room.
    was_refused: bool,
    /// When its release was first called.
    release_called: Option<u64>,
    /// When its release was first called and had returned, if it did well.
    released: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Append {
    serial: u64,
    file: usize,
    len: usize,
    told: Told,
    is_published: bool,
}

/// What the client was told of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Done,
    NotDone,
}

/// What the client knows of its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    /// A release was called, and was not (yet) answered.
    Releasing,
    Published,
    Discarded,
}

/// A data file as `cat` shows it.
#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    newest: (u64, u64),
    /// Where each section stands.
    places: BTreeMap<u64, (u64, u64)>,
    reads: Vec<Operation>,
}

type Verdict = Result<(), String>;

impl Ledger {
    pub fn new(files: u32) -> Ledger {
        let files = (0..files).map(|_| File::default()).collect();
        Ledger { files, ..Ledger::default() }
    }

    /// The client was told that it holds the lock under this token.
    pub fn granted(&mut self, client: usize, token: u64, invoked: u64, now: u64) -> Verdict {
        self.note_lock(client, What::Acquire(token), invoked, now);
        let section = self.sections.entry(token).or_insert_with(|| Section {
            client,
            appends: Vec::new(),
            fate: Fate::Open,
            was_refused: false,
            release_called: None,
            released: None,
        });
        if section.client != client {
            return Err(format!("token {token} was given to {} and to {client}", section.client));
        }
        if matches!(section.fate, Fate::Published | Fate::Discarded) {
            return Err(format!("{client} was granted its old token {token} again"));
        }
        Ok(())
    }

    /// The client appends under this token; returns what is to be appended.
    pub fn append(&mut self, token: u64, serial: u64, file: usize, padding: usize) -> Vec<u8> {
        let section = self.sections.get_mut(&token).expect("appends come after the grant");
        let bytes = content::compose(section.client, token, serial, padding);
        let (len, told) = (bytes.len(), Told::Nothing);
        section.appends.push(Append { serial, file, len, told, is_published: false });
        bytes
    }

    /// The last append under this token was answered.
    pub fn appended(&mut self, token: u64, told: Told, invoked: u64, now: u64) -> Verdict {
        let Some(section) = self.sections.get_mut(&token) else { return Ok(()) };
        let client = section.client;
        if let Some(append) = section.appends.last_mut() {
            append.told = told;
            if append.is_published && told == Told::NotDone {
                return Err(format!("{client} was told that an append was not done, but it was"));
            }
        }
        if told == Told::Done {
            if section.fate == Fate::Discarded {
                return Err(format!("{client} appended under its discarded token {token}"));
            }
            self.note_lock(client, What::Append(token), invoked, now);
        }
        Ok(())
    }

    pub fn fate(&self, token: u64) -> Fate {
        self.sections.get(&token).map_or(Fate::Discarded, |section| section.fate)
    }

    /// The client that was told of this token.
    pub fn client_of(&self, token: u64) -> Option<usize> {
        self.sections.get(&token).map(|section| section.client)
    }

    /// Whether appends were acknowledged under this token.
    pub fn has_acknowledged(&self, token: u64) -> bool {
        let told = |section: &Section| section.appends.iter().any(|one| one.told == Told::Done);
        self.sections.get(&token).is_some_and(told)
    }

    /// A release is called; whether it takes effect is not known before it is answered.
    pub fn releasing(&mut self, token: u64, now: u64) {
        if let Some(section) = self.sections.get_mut(&token) {
            section.fate = Fate::Releasing;
            section.release_called.get_or_insert(now);
        }
    }

    /// The release was not done; the section goes on. Where it was refused a late copy of it may
    /// still be done, by a server that was started again and forgot.
    pub fn reopen(&mut self, token: u64, was_refused: bool) {
        if let Some(section) = self.sections.get_mut(&token) {
            section.fate = Fate::Open;
            section.release_called = None;
            section.was_refused |= was_refused;
        }
    }

    /// The client was told that the section is lost, or it gave it up.
    pub fn discard(&mut self, token: u64) -> Verdict {
        let Some(section) = self.sections.get_mut(&token) else { return Ok(()) };
        section.fate = Fate::Discarded;
        let published = section.appends.iter().find(|append| append.is_published);
        if let Some(append) = published.filter(|_| !section.was_refused) {
            return Err(format!(
                "{} was told that its section {token} is discarded, but append {} is published",
                section.client, append.serial
            ));
        }
        Ok(())
    }

    /// The power failed: grants and sections that were not published may never have been, whatever
    /// their clients were told, and what was taken back may not have been taken back.
    pub fn note_power_loss(&mut self, through: u64, survivor: Option<u64>) {
        self.power_losses.push((through, survivor));
    }

    /// A release was answered well: all that was acknowledged is published by now.
    pub fn released(&mut self, token: u64, invoked: u64, now: u64) -> Verdict {
        let Some(section) = self.sections.get_mut(&token) else {
            return Err(format!("a release did well under the unknown token {token}"));
        };
        if section.fate == Fate::Discarded {
            return Err(format!("a release did well under the discarded token {token}"));
        }
        section.fate = Fate::Published;
        let invoked = section.release_called.unwrap_or(invoked);
        section.released = Some((invoked, now));
        let client = section.client;
        let is_missing = |append: &&Append| append.told == Told::Done && !append.is_published;
        if let Some(missing) = section.appends.iter().find(is_missing) {
            return Err(format!(
                "{client} was told that section {token} is published, but append {} is not",
                missing.serial
            ));
        }
        self.note_lock(client, What::Release(token), invoked, now);
        Ok(())
    }

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
        file.newest = newest;
        file.places.entry(token).or_insert(place).1 = place.1;
        let section = self.sections.get_mut(&token);
        let section = section.ok_or_else(|| format!("file_{id} has the unknown token {token}"))?;
        if !matches!(section.fate, Fate::Releasing | Fate::Published) && !section.was_refused {
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
        if append.told == Told::NotDone {
            return Err(format!("file_{id} has append {serial}, which was refused"));
        }
        append.is_published = true;
        Ok(())
    }

    /// Nothing more will happen: what is published is whole, and all histories are linearizable.
    pub fn close(&self) -> Verdict {
        for (token, section) in &self.sections {
            let done = || section.appends.iter().filter(|append| append.told == Told::Done);
            let published = section.appends.iter().filter(|append| append.is_published).count();
            let missing = done().filter(|append| !append.is_published).count();
            if published > 0 && missing > 0 {
                return Err(format!(
                    "section {token} of {}: {published} appends are published, {missing} \
                     acknowledged ones are not",
                    section.client
                ));
            }
        }
        let mut lock = self.lock.clone();
        lock.retain(|operation| !self.is_void(operation));
        linear::check_lock(&lock).map_err(|why| format!("the lock: {why}"))?;
        for (id, file) in self.files.iter().enumerate() {
            let mut history = file.reads.clone();
            // Of a release that was not answered well nobody knows when it ended, except that
            // what stands behind it came later.
            let mut latest = u64::MAX;
            for (token, &(before, after)) in file.places.iter().rev() {
                let Some(section) = self.sections.get(token) else { continue };
                let called = (section.release_called.unwrap_or(0), u64::MAX);
                let (invoked, completed) = section.released.unwrap_or(called);
                latest = latest.min(completed);
                let completed = latest.max(invoked);
                let what = What::Publish { before, after };
                history.push(Operation { client: section.client, invoked, completed, what });
            }
            linear::check_file(&history).map_err(|why| format!("file_{id}: {why}"))?;
        }
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

    /// How many bytes the files may come to when all is published that may be.
    pub fn bytes_at_most(&self) -> u64 {
        let open = self.sections.values().filter(|section| section.fate != Fate::Discarded);
        let may_come = |append: &&Append| !append.is_published && append.told != Told::NotDone;
        let appends = open.flat_map(|section| &section.appends).filter(may_come);
        self.total() + appends.map(|append| append.len as u64).sum::<u64>()
    }

    /// Published bytes of all files.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }

    /// Published bytes of a file.
    pub fn length(&self, file: usize) -> u64 {
        self.files[file].bytes.len() as u64
    }

    /// A power loss may have taken it, whatever its client was told, before or after that.
    fn is_void(&self, operation: &Operation) -> bool {
        let (What::Acquire(token) | What::Append(token) | What::Release(token)) = operation.what
        else {
            return false;
        };
        let is_taken =
            |&(through, survivor): &(u64, Option<u64>)| token <= through && survivor != Some(token);
        self.fate(token) != Fate::Published && self.power_losses.iter().any(is_taken)
    }

    fn note_lock(&mut self, client: usize, what: What, invoked: u64, completed: u64) {
        self.lock.push(Operation { client, invoked, completed, what });
    }
}
