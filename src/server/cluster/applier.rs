//! What a member applies: committed entries and states of other members. It changes nothing itself,
//! but says what is to be done next ([`Applier::poll`]), which is done before it is asked again;
//! the simulator runs the same.

use super::driver::Input;
use crate::data::FileMark;
use crate::engine::cluster::journal::Checkpoint;
use crate::engine::cluster::members::Members;
use crate::engine::cluster::node::{Committed, What};
use crate::engine::cluster::replica::Replica;
use crate::machine::Part;
use crate::mutant;
use crate::server::State;
use crate::server::core::Standing;
use crate::types::SessionId;
use raft::eraftpb::Message;
use std::collections::VecDeque;
use tracing::info;

/// Work for who applies.
#[derive(Debug)]
pub enum Due {
    /// Entries, and the term in which this member leads, or 0.
    Entries(Vec<Committed>, u64),
    /// A state that another member's message brings: the entries are not to be had any more.
    State(Message, Box<Checkpoint>),
    /// No checkpoint is under way any more.
    Free,
    /// A client of this session makes a backup.
    Backup(SessionId),
}

/// What is to be done next.
#[derive(Debug)]
pub enum Task {
    /// Append these to the data files.
    Publish(VecDeque<Part>),
    /// Bring the data files from `have` to `want`, then say how that went:
    /// [`Applier::handle_fetched`].
    Fetch { from: u64, have: Vec<FileMark>, want: Vec<FileMark> },
    /// Count these sizes of the data files as published, as before a fetch that came to nothing.
    Rewind(Vec<u64>),
    /// Let the core know.
    Core(Standing),
    /// Let the driver know.
    Tell(Input),
    /// The state for a backup; what it has published is in the data files.
    Backup(SessionId, Box<State>),
}

pub struct Applier {
    replica: Replica,
    /// The most data files that there are to be.
    files: u32,
    due: VecDeque<Due>,
    tasks: VecDeque<Task>,
    /// The term for which a core was begun, and its commands applied since.
    begun: (u64, u64),
    /// Bytes applied since the last checkpoint, and how many call for the next.
    bytes: u64,
    checkpoint_bytes: u64,
    /// A checkpoint is on its way, or a state is being taken over.
    is_cutting: bool,
    /// The state whose data files are being fetched.
    taken: Option<(Message, Box<Checkpoint>)>,
}

impl Applier {
    pub fn new(replica: Replica, files: u32, checkpoint_bytes: u64) -> Self {
        Applier {
            replica,
            files,
            due: VecDeque::new(),
            tasks: VecDeque::new(),
            begun: (0, 0),
            bytes: 0,
            checkpoint_bytes,
            is_cutting: false,
            taken: None,
        }
    }

    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    pub fn add(&mut self, due: Due) {
        match due {
            Due::Free => self.is_cutting = false,
            other => self.due.push_back(other),
        }
    }

    /// What is to be done next; none before there is more due. An error is the end of this member.
    pub fn poll(&mut self) -> Result<Option<Task>, String> {
        while self.tasks.is_empty() {
            match self.due.front() {
                // An older checkpoint must not be written after this one.
                Some(Due::State(..))
                    if self.is_cutting && !mutant::is("taken_over_while_cutting") =>
                {
                    return Ok(None);
                }
                _ => {}
            }
            match self.due.pop_front() {
                Some(Due::Entries(entries, term)) => self.apply(entries, term)?,
                Some(Due::State(message, checkpoint)) => self.take_over(message, checkpoint)?,
                Some(Due::Free) => {}
                Some(Due::Backup(session)) => {
                    let Replica { machine, files, .. } = &self.replica;
                    let state = State { machine: machine.backup(), files: files.clone() };
                    self.tasks.push_back(Task::Backup(session, Box::new(state)));
                }
                None if self.bytes >= self.checkpoint_bytes && !self.is_cutting => self.cut(),
                None => return Ok(None),
            }
        }
        Ok(self.tasks.pop_front())
    }

    fn apply(&mut self, mut entries: Vec<Committed>, term: u64) -> Result<(), String> {
        // This member serves clients from the first entry of its term on, with all before it in
        // its data files: readers must find there what was acknowledged.
        let is_start = |one: &Committed| {
            let is_own = one.term == term && one.what == What::Start;
            term != 0 && (is_own || mutant::is("serves_before_own_term"))
        };
        if self.begun.0 != term
            && let Some(at) = entries.iter().position(is_start)
        {
            let rest = entries.split_off(at + 1);
            self.apply_all(&entries)?;
            self.begin_to_lead(term);
            if mutant::is("begins_unpublished") {
                self.tasks.rotate_right(1);
            }
            entries = rest;
        }
        self.apply_all(&entries)?;
        let (term, count) = self.begun;
        if count > 0 {
            self.tasks.push_back(Task::Core(Standing::Applied { term, count }));
        }
        self.tasks.push_back(Task::Tell(Input::Applied(self.replica.index)));
        if mutant::is("applied_before_files") {
            self.tasks.rotate_left(1);
        }
        Ok(())
    }

    fn apply_all(&mut self, entries: &[Committed]) -> Result<(), String> {
        let mut parts: Vec<Part> = Vec::new();
        for entry in entries {
            let applied = self.replica.apply(entry, &mut parts);
            applied.map_err(|why| format!("entry {} cannot be applied: {why}", entry.index))?;
            if let What::Command(bytes) = &entry.what {
                self.bytes += bytes.len() as u64 + 64;
                self.begun.1 += u64::from(self.begun.0 == entry.term);
            }
            // A server that is let in needs a state that knows of it.
            let is_let_in = |members: &Members| members.learner().is_some();
            if matches!(&entry.what, What::Members(members) if is_let_in(members)) {
                self.bytes = self.checkpoint_bytes;
            }
        }
        self.may_have(self.replica.machine.files())?;
        if !parts.is_empty() {
            self.tasks.push_back(Task::Publish(parts.into()));
        }
        Ok(())
    }

    fn may_have(&self, files: u32) -> Result<(), String> {
        if files <= self.files {
            return Ok(());
        }
        Err(format!(
            "the leader has {files} data files, more than --files gives here: start all servers of \
             a cluster with the same number"
        ))
    }

    /// All that others have committed is applied: this member serves clients from here on.
    fn begin_to_lead(&mut self, term: u64) {
        self.begun = (term, 0);
        info!(term, index = self.replica.index, "serves clients");
        self.tasks.push_back(Task::Core(Standing::Begins {
            term,
            machine: Box::new(self.replica.machine.clone()),
            published: self.replica.files.iter().map(|mark| mark.size).sum(),
            files: self.files,
        }));
    }

    /// Takes over the state of another member, and what this one lacks of the data files.
    fn take_over(&mut self, message: Message, checkpoint: Box<Checkpoint>) -> Result<(), String> {
        self.may_have(checkpoint.machine.files())?;
        self.is_cutting = true;
        let (have, want) = (self.replica.files.clone(), checkpoint.files.clone());
        self.tasks.push_back(Task::Fetch { from: message.from, have, want });
        self.taken = Some((message, checkpoint));
        Ok(())
    }

    /// The data files are as the state wants them, or could not be brought there.
    pub fn handle_fetched(&mut self, is_done: bool) {
        let Some((message, checkpoint)) = self.taken.take() else { return };
        if is_done {
            self.replica = Replica::new((*checkpoint).clone());
            (self.begun, self.bytes) = ((0, 0), 0);
            self.tasks.push_back(Task::Tell(Input::Fetched(message, checkpoint)));
            return;
        }
        // The leader offers its state again, and then what is there need not be fetched again.
        self.is_cutting = false;
        let sizes = self.replica.files.iter().map(|mark| mark.size).collect();
        if !mutant::is("rewind_forgotten") {
            self.tasks.push_back(Task::Rewind(sizes));
        }
        self.tasks.push_back(Task::Tell(Input::NotFetched));
    }

    /// Enough has been applied since the last checkpoint.
    fn cut(&mut self) {
        (self.bytes, self.is_cutting) = (0, true);
        let checkpoint = Box::new(self.replica.checkpoint());
        self.tasks.push_back(Task::Tell(Input::Cut(checkpoint)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Change, Command, Machine};
    use crate::types::Millis;

    /// A state of another member with this many data files.
    fn state(files: u32) -> Due {
        let mut machine = Machine::default();
        let change = Change::Boot { epoch: 1, files };
        machine.apply(&Command { now_ms: Millis(0), skip: Vec::new(), change }, &mut Vec::new());
        Due::State(Message::default(), Box::new(Checkpoint { machine, ..Checkpoint::default() }))
    }

    #[test]
    fn a_state_with_more_data_files_than_there_may_be_ends_the_member() {
        let applier = || Applier::new(Replica::default(), 2, 1 << 20);
        let mut fits = applier();
        fits.add(state(2));
        assert!(matches!(fits.poll(), Ok(Some(Task::Fetch { .. }))));
        let mut grown = applier();
        grown.add(state(3));
        assert!(grown.poll().unwrap_err().contains("more than --files gives here"));
    }
}
