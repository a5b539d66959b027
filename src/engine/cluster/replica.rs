//! The state of a member as of the last entry that it has applied: the same on every member that
//! has applied the same entries, and the source of checkpoints, of data files, and of the state
//! with which a new leader begins.

use super::checkpoint::{Checkpoint, Head};
use super::members::Members;
use super::node::{Committed, What};
use crate::data::FileMark;
use crate::engine::State;
use crate::engine::solo::decode;
use crate::machine::{Effect, Part};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    pub state: State,
    pub index: u64,
    pub term: u64,
    pub members: Members,
    effects: Vec<Effect>,
}

impl Replica {
    /// Goes on from a checkpoint.
    pub fn new(head: Head, state: State) -> Self {
        let Head { index, term, members, .. } = head;
        Replica { state, index, term, members, effects: Vec::new() }
    }

    /// Applies what was committed next; what it publishes is added to `parts`.
    pub fn apply(&mut self, committed: &Committed, parts: &mut Vec<Part>) -> Result<(), String> {
        let next = self.index + 1;
        if committed.index < next {
            // It is in a state that was taken over from another member.
            return Ok(());
        }
        if committed.index != next {
            return Err(format!("entry {} was committed and {next} expected", committed.index));
        }
        match &committed.what {
            What::Start => {}
            What::Members(members) => self.members = members.clone(),
            What::Command(bytes) => {
                let State { machine, files } = &mut self.state;
                machine.apply(&decode(bytes)?, &mut self.effects);
                files.resize(machine.files() as usize, FileMark::default());
                for effect in self.effects.drain(..) {
                    let Effect::Publish(published) = effect else { continue };
                    for part in published {
                        if let Some(mark) = files.get_mut(part.file.0 as usize) {
                            mark.add(&part.data);
                        }
                        parts.push(part);
                    }
                }
            }
        }
        (self.index, self.term) = (committed.index, committed.term);
        Ok(())
    }

    /// What a checkpoint records of the state. Where it belongs in the log, and the term and vote
    /// that go with it, is for [`super::node::Node::place_checkpoint`] to add.
    pub fn checkpoint(&self) -> Result<Checkpoint, postcard::Error> {
        let (index, term, members) = (self.index, self.term, self.members.clone());
        Checkpoint::new(Head { index, term, members, ..Head::default() }, &self.state)
    }
}
