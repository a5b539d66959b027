//! What clients were told, against what is in the files: the judge over sections. It knows nothing
//! of the machine. Each append has content that names its client, token and serial number, so
//! whatever stands in a file tells where it comes from.

mod content;
mod files;
mod operators;
mod power;

use super::linear::{self, Operation, What};
use files::File;
use operators::Operators;
pub use operators::{Sight, View};
use power::Losses;
use std::collections::BTreeMap;

/// All sections of a run by token, and the files as they have been seen.
#[derive(Debug, Default)]
pub struct Ledger {
    sections: BTreeMap<u64, Section>,
    files: Vec<File>,
    lock: Vec<Operation>,
    /// What the server and its operators know of the lock.
    operators: Operators,
    /// What stories call their appends.
    letters: BTreeMap<(u64, u64), char>,
    losses: Losses,
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
            section.was_refused |= was_refused;
            if !section.was_refused {
                section.release_called = None;
            }
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

    /// A release was answered well: all that was acknowledged is published by now.
    pub fn released(&mut self, token: u64, invoked: u64, now: u64) -> Verdict {
        let Some(section) = self.sections.get_mut(&token) else {
            return Err(format!("a release did well under the unknown token {token}"));
        };
        if section.fate == Fate::Discarded {
            return Err(format!("a release did well under the discarded token {token}"));
        }
        if self.operators.has_revoked(token) {
            return Err(format!("a release did well under the revoked token {token}"));
        }
        section.fate = Fate::Published;
        let invoked = section.release_called.unwrap_or(invoked);
        section.released = Some((invoked, now));
        for file in &mut self.files {
            let end = file.places.get(&token).map_or(0, |place| place.1);
            file.acknowledged = file.acknowledged.max(end);
        }
        let client = section.client;
        let is_missing = |append: &&Append| append.told == Told::Done && !append.is_published;
        let missing = section.appends.iter().find(is_missing);
        if let Some(missing) = missing.filter(|_| !self.losses.has_token(token)) {
            return Err(format!(
                "{client} was told that section {token} is published, but append {} is not",
                missing.serial
            ));
        }
        self.note_lock(client, What::Release(token), invoked, now);
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
        self.check_histories()
    }

    /// The lock and each file have been linearizable.
    fn check_histories(&self) -> Verdict {
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

    /// How many bytes the files may come to when all is published that may be.
    pub fn bytes_at_most(&self) -> u64 {
        let open = self.sections.values().filter(|section| section.fate != Fate::Discarded);
        let may_come = |append: &&Append| !append.is_published && append.told != Told::NotDone;
        let appends = open.flat_map(|section| &section.appends).filter(may_come);
        self.total() + appends.map(|append| append.len as u64).sum::<u64>()
    }

    /// How many bytes a section may have staged.
    pub fn staged_at_most(&self, token: u64) -> u64 {
        let appends = self.sections.get(&token).map_or(&[][..], |section| &section.appends);
        let may_be_staged = appends.iter().filter(|append| append.told != Told::NotDone);
        may_be_staged.map(|append| append.len as u64).sum()
    }

    fn note_lock(&mut self, client: usize, what: What, invoked: u64, completed: u64) {
        self.lock.push(Operation { client, invoked, completed, what });
    }
}
