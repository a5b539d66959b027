//! How a command becomes committed: [`solo`] by this machine's own log, or by a quorum of a
//! [`cluster`], whose leader keeps [`leading`]. The machine does not know the difference.

pub mod cluster;
pub mod leading;
pub mod solo;

use crate::data::FileMark;
use crate::machine::{Command, Machine, Part};
use crate::types::{LogIndex, Millis};
use crate::wal::Batch;
use leading::Leading;
use serde::{Deserialize, Serialize};
use solo::{Ending, Flush, Job, Marks, Solo};

/// What a checkpoint records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub machine: Machine,
    /// Of each data file: bytes published and their checksum.
    pub files: Vec<FileMark>,
}

/// How this server gets commands committed.
#[derive(Debug)]
pub enum Engine {
    Solo(Solo),
    Leading(Leading),
    /// It does not: another member leads.
    Following,
}

impl Engine {
    /// How far the log has got.
    pub fn marks(&self) -> Marks {
        match self {
            Engine::Solo(solo) => solo.marks(),
            Engine::Leading(leading) => leading.marks(),
            Engine::Following => Marks::default(),
        }
    }

    /// The last entry that was proposed.
    pub fn last(&self) -> LogIndex {
        match self {
            Engine::Solo(solo) => solo.last(),
            Engine::Leading(leading) => leading.last(),
            Engine::Following => LogIndex(0),
        }
    }

    /// Acknowledge nothing any more.
    pub fn fail(&mut self) {
        match self {
            Engine::Solo(solo) => solo.fail(),
            Engine::Leading(leading) => leading.fail(),
            Engine::Following => {}
        }
    }

    /// The last write found no space.
    pub fn is_full(&self) -> bool {
        matches!(self, Engine::Solo(solo) if solo.is_full())
    }

    /// Nothing may be acknowledged any more.
    pub fn has_failed(&self) -> bool {
        match self {
            Engine::Solo(solo) => solo.has_failed(),
            Engine::Leading(leading) => leading.has_failed(),
            Engine::Following => false,
        }
    }

    /// Everything proposed is published, and nothing is under way.
    pub fn is_settled(&self) -> bool {
        match self {
            Engine::Solo(solo) => solo.is_settled(),
            _ => self.marks().published == self.last(),
        }
    }

    /// Whether answers may be given now: in a cluster by the only leader alone.
    pub fn is_serving(&self, now: Millis) -> bool {
        match self {
            Engine::Solo(_) => true,
            Engine::Leading(leading) => leading.is_trusted(now),
            Engine::Following => false,
        }
    }

    /// Gives the command its place in the log.
    pub fn propose(&mut self, command: &Command) -> LogIndex {
        match self {
            Engine::Solo(solo) => solo.propose(command),
            Engine::Leading(leading) => leading.propose(command),
            Engine::Following => panic!("a follower takes no requests"),
        }
    }

    /// Says whether somebody waits for the last command to be committed.
    pub fn hurry(&mut self, now: Millis, is_waited_for: bool) {
        if let Engine::Leading(leading) = self {
            leading.hurry(now, is_waited_for);
        }
    }

    /// Has these appended to the data files once entry `index` is stable. In a cluster that is
    /// done on every member by who applies what is committed.
    pub fn publish(&mut self, index: LogIndex, parts: Vec<Part>) {
        if let Engine::Solo(solo) = self {
            solo.publish(index, parts);
        }
    }

    /// The next thing to do on this server's disk; a cluster's members do that elsewhere.
    pub fn poll_job(&mut self, wants_stable: bool) -> Option<Job> {
        match self {
            Engine::Solo(solo) => solo.poll_job(wants_stable),
            _ => None,
        }
    }

    /// Whether somebody has to be called to take proposals to the other members.
    pub fn poll_call(&mut self) -> bool {
        match self {
            Engine::Leading(leading) => leading.poll_call(),
            _ => false,
        }
    }

    /// Has a flush that nobody has begun yet cover what was written meanwhile, too.
    pub fn widen(&mut self, flush: &mut Flush) {
        if let Engine::Solo(solo) = self {
            solo.widen(flush);
        }
    }

    pub fn handle_written(&mut self, batch: Batch, ending: Ending) {
        if let Engine::Solo(solo) = self {
            solo.handle_written(batch, ending);
        }
    }

    pub fn handle_flushed(&mut self, flush: Flush, ending: Ending) {
        if let Engine::Solo(solo) = self {
            solo.handle_flushed(flush, ending);
        }
    }

    /// Lets what found no space be tried again.
    pub fn retry(&mut self) {
        if let Engine::Solo(solo) = self {
            solo.retry();
        }
    }
}
