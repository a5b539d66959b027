//! What a member applies: committed entries and states of other members. It changes nothing itself,
//! but says what is to be done next ([`Applier::poll`]), which is done before it is asked again;
//! the simulator runs the same.

use super::driver::Input;
use crate::data::FileMark;
use crate::engine::State;
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::members::Members;
use crate::engine::cluster::node::{Committed, What};
use crate::engine::cluster::replica::Replica;
use crate::machine::Part;
use crate::mutant;
use crate::server::core::Standing;
use crate::types::SessionId;
use raft::eraftpb::Message;
use std::any::Any;
use std::collections::VecDeque;
use tracing::info;

/// Work for who applies.
#[derive(Debug)]
pub enum Due {
    /// Entries, and the term in which this member leads, or 0.
    Entries(Vec<Committed>, u64),
    /// A state that another member's message tells of: the entries are not to be had any more.
    State(Message),
    /// No checkpoint is under way any more.
    Free,
    /// The last one was not kept: another is due.
    Again,
    /// A client of this session makes a backup.
    Backup(SessionId),
    /// Is not needed any more, and may be so large that letting go of it takes a while: who applies
    /// has that while, who drives the member has not.
    Gone(Box<dyn Any + Send>),
}

/// What is to be done next.
#[derive(Debug)]
pub enum Task {
    /// Append these to the data files.
    Publish(VecDeque<Part>),
    /// Fetch this checkpoint of another member, then say how that went:
    /// [`Applier::handle_state`].
    FetchState { from: u64, index: u64 },
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

/// A state that another member's message tells of, and the state itself once it has come.
type Taken = (Message, Option<(Box<Checkpoint>, State)>);

pub struct Applier {
    replica: Replica,
    /// The most data files that there are to be.
    files: u32,
    due: VecDeque<Due>,
    tasks: VecDeque<Task>,
    /// The term for which a core was begun, and its commands applied since.
    begun: (u64, u64),
    /// Bytes applied since the last checkpoint, how many call for the next, and that one's size:
    /// a large state is not to be written more often than as much was applied.
    bytes: u64,
    checkpoint_bytes: u64,
    last_size: u64,
    /// A checkpoint is on its way, or a state is being taken over.
    is_cutting: bool,
    /// The state that is being fetched.
    taken: Option<Taken>,
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
            last_size: 0,
            is_cutting: false,
            taken: None,
        }
    }

    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    pub fn add(&mut self, due: Due) {
        match due {
            Due::Gone(_) => {}
            Due::Free => self.is_cutting = false,
            Due::Again => self.bytes = self.bytes.max(self.bytes_between()),
            other => self.due.push_back(other),
        }
    }

    /// What is to be done next; none before there is more due. An error is the end of this member.
    /// It may take long: a checkpoint of a large state is cut here.
    pub fn poll(&mut self) -> Result<Option<Task>, String> {
        if let Some(task) = self.poll_quick()? {
            return Ok(Some(task));
        }
        if self.is_checkpoint_due() {
            self.cut()?;
        }
        Ok(self.tasks.pop_front())
    }

    /// The same, but no checkpoint is cut.
    pub fn poll_quick(&mut self) -> Result<Option<Task>, String> {
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
                Some(Due::State(message)) => self.take_over(message),
                Some(Due::Free | Due::Again | Due::Gone(_)) => {}
                Some(Due::Backup(session)) => {
                    let State { machine, files } = &self.replica.state;
                    let state = State { machine: machine.backup(), files: files.clone() };
                    self.tasks.push_back(Task::Backup(session, Box::new(state)));
                }
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
                self.bytes = self.bytes.max(self.bytes_between());
            }
        }
        self.may_have(self.replica.state.machine.files())?;
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
            machine: Box::new(self.replica.state.machine.clone()),
            published: self.replica.state.files.iter().map(|mark| mark.size).sum(),
            files: self.files,
        }));
    }

    /// Takes over the state of another member, and what this one lacks of the data files.
    fn take_over(&mut self, message: Message) {
        let index = message.get_snapshot().get_metadata().index;
        if index <= self.replica.index {
            return self.tasks.push_back(Task::Tell(Input::Ahead(message)));
        }
        self.is_cutting = true;
        self.tasks.push_back(Task::FetchState { from: message.from, index });
        self.taken = Some((message, None));
    }

    /// The state has come, or could not be had. An error is the end of this member.
    pub fn handle_state(&mut self, fetched: Option<Checkpoint>) -> Result<(), String> {
        let Some((message, taken)) = &mut self.taken else { return Ok(()) };
        let wanted = message.get_snapshot().get_metadata();
        let fetched =
            fetched.filter(|one| (one.head.index, one.head.term) == (wanted.index, wanted.term));
        let state = fetched.as_ref().and_then(|checkpoint| checkpoint.state().ok());
        let (Some(checkpoint), Some(state)) = (fetched, state) else {
            self.give_up_taking();
            return Ok(());
        };
        let (from, want, files) = (message.from, state.files.clone(), state.machine.files());
        *taken = Some((Box::new(checkpoint), state));
        self.may_have(files)?;
        let have = self.replica.state.files.clone();
        self.tasks.push_back(Task::Fetch { from, have, want });
        Ok(())
    }

    /// The data files are as the state wants them, or could not be brought there.
    pub fn handle_fetched(&mut self, is_done: bool) {
        match self.taken.take() {
            Some((message, Some((checkpoint, state)))) if is_done => {
                self.replica = Replica::new(checkpoint.head.clone(), state);
                (self.begun, self.bytes, self.last_size) = ((0, 0), 0, checkpoint.size());
                self.tasks.push_back(Task::Tell(Input::Fetched(message, checkpoint)));
            }
            _ => {
                let sizes = self.replica.state.files.iter().map(|mark| mark.size).collect();
                if !mutant::is("rewind_forgotten") {
                    self.tasks.push_back(Task::Rewind(sizes));
                }
                self.give_up_taking();
            }
        }
    }

    /// The leader offers its state again, and then what is there need not be fetched again.
    fn give_up_taking(&mut self) {
        (self.taken, self.is_cutting) = (None, false);
        self.tasks.push_back(Task::Tell(Input::NotFetched));
    }

    /// Enough has been applied since the last checkpoint.
    pub fn is_checkpoint_due(&self) -> bool {
        self.bytes >= self.bytes_between() && !self.is_cutting
    }

    fn bytes_between(&self) -> u64 {
        self.checkpoint_bytes.max(self.last_size)
    }

    fn cut(&mut self) -> Result<(), String> {
        (self.bytes, self.is_cutting) = (0, true);
        let checkpoint = self.replica.checkpoint().map_err(|error| error.to_string())?;
        self.last_size = checkpoint.size();
        self.tasks.push_back(Task::Tell(Input::Cut(Box::new(checkpoint))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cluster::checkpoint::Head;
    use crate::engine::cluster::members::Change as Join;
    use crate::machine::{Change, Command, Machine};
    use crate::types::Millis;

    /// A state of another member with this many data files.
    fn state(files: u32) -> Checkpoint {
        let mut machine = Machine::default();
        let change = Change::Boot { epoch: 1, files, records: 100, lease_ms: 1_000 };
        machine.apply(&Command { now_ms: Millis(0), skip: Vec::new(), change }, &mut Vec::new());
        let head = Head { index: 1, ..Head::default() };
        Checkpoint::new(head, &State { machine, ..State::default() }).unwrap()
    }

    /// A message that tells of a state up to this entry.
    fn offer(index: u64) -> Due {
        let mut message = Message::default();
        message.mut_snapshot().mut_metadata().index = index;
        Due::State(message)
    }

    #[test]
    fn a_state_that_is_applied_already_is_not_fetched() {
        let ahead = Replica::new(Head { index: 7, ..Head::default() }, State::default());
        let mut applier = Applier::new(ahead, 2, 1 << 20);
        applier.add(offer(7));
        assert!(matches!(applier.poll(), Ok(Some(Task::Tell(Input::Ahead(_))))));
        assert!(matches!(applier.poll(), Ok(None)));
        applier.add(offer(8));
        assert!(matches!(applier.poll(), Ok(Some(Task::FetchState { index: 8, .. }))));
    }

    #[test]
    fn a_checkpoint_that_was_not_kept_is_made_again() {
        let mut applier = Applier::new(Replica::default(), 2, 1 << 20);
        let mut members = Members::of(&[1]);
        members.apply(&Join::Add { id: 2, addr: "b".into(), life: 7 });
        let added = Committed { index: 1, term: 1, what: What::Members(members) };
        applier.add(Due::Entries(vec![added], 0));
        assert!(matches!(applier.poll_quick(), Ok(Some(Task::Tell(Input::Applied(1))))));
        assert!(matches!(applier.poll_quick(), Ok(None)), "it is for who has the time");
        assert!(applier.is_checkpoint_due());
        let is_cut = |applier: &mut Applier| {
            let mut tasks = std::iter::from_fn(|| applier.poll().unwrap());
            tasks.any(|task| matches!(task, Task::Tell(Input::Cut(_))))
        };
        assert!(is_cut(&mut applier));
        applier.add(Due::Again);
        assert!(!is_cut(&mut applier), "the first is on its way");
        applier.add(Due::Free);
        assert!(is_cut(&mut applier));
        applier.add(Due::Free);
        assert!(!is_cut(&mut applier));
    }

    #[test]
    fn a_state_with_more_data_files_than_there_may_be_ends_the_member() {
        let applier = || {
            let mut applier = Applier::new(Replica::default(), 2, 1 << 20);
            applier.add(offer(1));
            assert!(matches!(applier.poll(), Ok(Some(Task::FetchState { .. }))));
            applier
        };
        let mut fits = applier();
        fits.handle_state(Some(state(2))).unwrap();
        assert!(matches!(fits.poll(), Ok(Some(Task::Fetch { .. }))));
        let grown = applier().handle_state(Some(state(3)));
        assert!(grown.unwrap_err().contains("more than --files gives here"));
    }
}
