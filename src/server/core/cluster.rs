//! The core of a cluster's member: it serves while this member is the leader, and the only one;
//! otherwise it tells clients where to go.

use super::tell::direct;
use super::{Action, Core, Now, Settings};
use crate::engine::Engine;
use crate::engine::leading::Leading;
use crate::machine::Machine;
use crate::mutant;
use crate::protocol::{Outcome, Request};
use crate::types::{LogIndex, Millis};
use std::net::{SocketAddr, SocketAddrV4};

/// Where a member stands: what its core is told.
#[derive(Debug)]
pub enum Standing {
    /// Where clients find the leader, if that is known.
    Hint(Option<SocketAddrV4>),
    /// This member leads in that term; it serves when all that was committed before is applied.
    Elected(u64),
    /// It leads no more.
    Deposed,
    /// All that was committed before the term is applied, and in the data files: so many bytes.
    Begins { term: u64, machine: Box<Machine>, published: u64, files: u32 },
    /// A quorum takes this member for the only leader until then.
    Trusted { term: u64, until: Millis },
    /// A quorum has this many commands of the term.
    Committed { term: u64, count: u64 },
    /// This many commands of the term are applied and published here.
    Applied { term: u64, count: u64 },
}

impl Core {
    /// The core of a member that does not lead.
    pub fn following(settings: Settings, now: Now) -> Self {
        Core::over(Engine::Following, settings, Machine::default(), now)
    }

    /// The core of a member that leads in `term`, over a state of which all is committed.
    fn leading(settings: Settings, machine: Machine, term: u64, now: Now) -> Self {
        let engine = Engine::Leading(Leading::new(term, LogIndex(0), Millis(0)));
        Core::over(engine, settings, machine, now)
    }

    /// Puts another core in place of this one, which comes back; answers that it had not given
    /// are never given. What is counted goes on.
    fn replace(&mut self, mut other: Core) -> Core {
        other.leader = self.leader;
        other.counters = self.counters;
        std::mem::swap(&mut other.meter, &mut self.meter);
        other.room = self.room;
        std::mem::replace(self, other)
    }

    /// Whether the thread that drives the member has to be called.
    pub fn poll_call(&mut self) -> bool {
        self.engine.poll_call()
    }

    /// What was proposed since the last time and is due, and in which term.
    pub fn take_proposals(&mut self, now: Millis) -> Option<(u64, Vec<Vec<u8>>)> {
        let Engine::Leading(leading) = &mut self.engine else { return None };
        let commands = leading.take_proposals(now);
        (!commands.is_empty()).then(|| (leading.term(), commands))
    }

    /// Learns where this member stands. A core that was replaced comes back: what it had not
    /// answered is never answered here, clients ask the next leader for it.
    pub fn stand(
        &mut self,
        standing: Standing,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Option<Core> {
        match standing {
            Standing::Hint(hint) => {
                self.leader = hint;
                None
            }
            Standing::Elected(term) => {
                self.elected = term;
                None
            }
            Standing::Deposed => {
                #[cfg(feature = "mutants")]
                if crate::mutant::is("deposed_answers")
                    && let Engine::Leading(leading) = &mut self.engine
                {
                    leading.handle_all();
                    self.flush(now, actions);
                }
                Some(self.replace(Core::following(self.settings, now)))
            }
            Standing::Begins { term, machine, published, files } => {
                // It may lead no more.
                if self.elected != term {
                    return None;
                }
                let mut leading = Core::leading(self.settings, *machine, term, now);
                leading.handle_published(if mutant::is("leads_with_empty_files") {
                    0
                } else {
                    published
                });
                let old = self.replace(leading);
                self.boot(files, now, actions);
                Some(old)
            }
            Standing::Trusted { term, until } => {
                self.lead(term, now, actions, |leading| leading.handle_trusted(until))
            }
            Standing::Committed { term, count } => {
                self.lead(term, now, actions, |leading| leading.handle_committed(count))
            }
            Standing::Applied { term, count } => {
                self.lead(term, now, actions, |leading| leading.handle_published(count))
            }
        }
    }

    /// Changes how far the log of this term is, if this core is of it.
    fn lead(
        &mut self,
        term: u64,
        now: Now,
        actions: &mut Vec<Action>,
        change: impl FnOnce(&mut Leading),
    ) -> Option<Core> {
        if let Engine::Leading(leading) = &mut self.engine
            && leading.term() == term
        {
            change(leading);
            self.flush(now, actions);
        }
        None
    }

    /// Sends a client to the leader. A leader that may not be the only one knows of no other.
    pub(super) fn refer(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        actions: &mut Vec<Action>,
    ) {
        let leader = self.leader.filter(|_| matches!(self.engine, Engine::Following));
        let reply = direct(request, Outcome::NotLeader { leader });
        actions.push(Action::Send { to: from, reply });
    }
}
