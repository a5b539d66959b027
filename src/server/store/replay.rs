//! Recovers the state from the entries of the log: one thread reads, checks and decodes them,
//! another applies them, which takes about as long.
//!
//! What the disk is asked for, and in which order, does not depend on how fast either of them is.

use super::OpenError;
use crate::data::{self, Restore};
use crate::disk::Disk;
use crate::engine::solo;
use crate::machine::{Command, Effect, Machine, Part};
use crate::mutant;
use crate::wal::{self, Visit};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};

/// Batches that are on their way at once, so that neither thread waits for the other at each.
const AHEAD: usize = 4;

/// Applies what `read` hands out, `gathered` entries at once, and publishes what follows from it. A
/// shorter log does not need a second thread.
pub(super) fn replay<D: Disk, T>(
    machine: &mut Machine,
    restore: &mut Restore<'_, D>,
    gathered: usize,
    read: impl FnOnce(&mut Visit<'_>) -> Result<T, wal::Error>,
) -> Result<T, OpenError> {
    thread::scope(|scope| {
        let mut applier = Applier { machine: Some(machine), beside: None };
        let mut batch = Vec::new();
        // The log is not to blame for what the data files refuse.
        let mut published = Ok(());
        let found = read(&mut |_, payload| {
            batch.push(solo::decode(payload)?);
            if batch.len() < gathered {
                return Ok(());
            }
            published = publish(restore, applier.pass_on(scope, &mut batch)?);
            published.as_ref().map_err(ToString::to_string).copied()
        });
        published?;
        let found = found?;
        publish(restore, applier.finish(batch))?;
        Ok(found)
    })
}

fn publish<D: Disk>(restore: &mut Restore<'_, D>, parts: Vec<Part>) -> Result<(), data::Error> {
    parts.into_iter().try_for_each(|part| restore.publish(part.file, &part.data))
}

/// Applies batches: in this thread while there is only one, in another one from then on.
struct Applier<'a> {
    machine: Option<&'a mut Machine>,
    beside: Option<Beside>,
}

struct Beside {
    batches: Sender<Vec<Command>>,
    /// What a batch publishes, and the empty batch.
    applied: Receiver<(Vec<Part>, Vec<Command>)>,
    under_way: usize,
}

impl<'a> Applier<'a> {
    /// Has a batch applied while the next ones are gathered; returns what an earlier one publishes.
    fn pass_on<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, 'a>,
        batch: &mut Vec<Command>,
    ) -> Result<Vec<Part>, String>
    where
        'a: 'scope,
    {
        if let Some(machine) = self.machine.take() {
            let (batches, taken) = channel::<Vec<Command>>();
            let (publish, applied) = channel();
            thread::Builder::new()
                .name("replay".into())
                .spawn_scoped(scope, move || {
                    // Where nobody wants to know any more, the start has failed.
                    taken.iter().try_for_each(|mut batch| {
                        let parts = apply(machine, &mut batch);
                        publish.send((parts, batch))
                    })
                })
                .map_err(|error| format!("cannot start a thread: {error}"))?;
            self.beside = Some(Beside { batches, applied, under_way: 0 });
        }
        let beside = self.beside.as_mut().ok_or(STOPPED)?;
        let mut parts = Vec::new();
        let mut next = Vec::new();
        if beside.under_way == AHEAD {
            (parts, next) = beside.applied.recv().map_err(|_| STOPPED)?;
            beside.under_way -= 1;
        }
        next.reserve_exact(batch.len());
        beside.batches.send(std::mem::replace(batch, next)).map_err(|_| STOPPED)?;
        beside.under_way += 1;
        Ok(parts)
    }

    /// Applies the last batch; returns what has not been published.
    fn finish(self, mut batch: Vec<Command>) -> Vec<Part> {
        match (self.machine, self.beside) {
            (Some(machine), _) => apply(machine, &mut batch),
            (None, Some(Beside { batches, applied, .. })) => {
                // Whether it got there is seen by whoever joins the thread.
                let _ = batches.send(batch);
                drop(batches);
                let lost = usize::from(mutant::is("gathered_lost"));
                applied.iter().skip(lost).flat_map(|(parts, _)| parts).collect()
            }
            (None, None) => Vec::new(),
        }
    }
}

/// Applies what it takes off the batch; what to publish, in order.
fn apply(machine: &mut Machine, batch: &mut Vec<Command>) -> Vec<Part> {
    let mut effects = Vec::new();
    let mut published = Vec::new();
    for command in batch.drain(..) {
        machine.apply(&command, &mut effects);
        for effect in effects.drain(..) {
            if let Effect::Publish(parts) = effect {
                let most = if mutant::is("part_replayed") { 1 } else { usize::MAX };
                published.extend(parts.into_iter().take(most));
            }
        }
    }
    published
}

/// It has panicked, which the end of the scope passes on.
const STOPPED: &str = "whoever applies the entries has stopped";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataFiles;
    use crate::disk::RealDisk;
    use crate::limits::GATHERED;
    use crate::machine::{Ask, Change};
    use crate::protocol::ClientInfo;
    use crate::types::{Attempt, FencingToken, FileId, LockId, LogIndex};
    use crate::types::{Millis, RequestNumber, SessionId};

    /// Entries of as many sections, each with its number in it.
    fn sections(count: usize) -> Vec<Change> {
        let mut changes = vec![
            Change::Boot { epoch: 0, files: 1, records: 100, lease_ms: 1_000 },
            Change::Register { nonce: 1, attempt: Attempt(1), client: ClientInfo::default() },
        ];
        for section in 1..=count as u64 {
            let data = format!("{section}\n").into_bytes();
            let stage = Ask::Stage { file: FileId(0), total: data.len() as u32, offset: 0, data };
            for ask in [Ask::Acquire { try_only: false }, stage, Ask::Release] {
                let is_held = !matches!(ask, Ask::Acquire { .. });
                changes.push(Change::Request {
                    session: SessionId(1),
                    number: RequestNumber(changes.len() as u64),
                    attempt: Attempt(changes.len() as u32),
                    lock: LockId(0),
                    token: FencingToken(if is_held { section } else { 0 }),
                    ask,
                });
            }
        }
        changes
    }

    fn replayed(count: usize) {
        let changes = sections(count).into_iter();
        let mut commands: Vec<Command> =
            changes.map(|change| Command { now_ms: Millis(7), skip: Vec::new(), change }).collect();
        let dir = tempfile::tempdir().unwrap();
        let files = DataFiles::open(&RealDisk, dir.path(), 1).unwrap();
        let mut restore = files.restore(vec![0]).unwrap();
        let mut machine = Machine::default();
        let read = |visit: &mut Visit<'_>| {
            for (index, command) in (1..).zip(&commands) {
                visit(LogIndex(index), &postcard::to_stdvec(command).unwrap()).unwrap();
            }
            Ok(())
        };
        replay(&mut machine, &mut restore, GATHERED, read).unwrap();
        restore.finish().unwrap();
        let mut alone = Machine::default();
        apply(&mut alone, &mut commands);
        assert_eq!(machine, alone);
        let expected: String = (1..=count).map(|section| format!("{section}\n")).collect();
        assert_eq!(std::fs::read_to_string(dir.path().join("file_0")).unwrap(), expected);
    }

    #[test]
    fn short_and_long_logs_give_the_state_that_was_there() {
        // 3 entries a section and 2 before them: less than a batch, one, some, and a part.
        for count in [0, 5, 341, 1_000, 2_047, 5_000] {
            replayed(count);
        }
    }

    #[test]
    fn what_cannot_be_decoded_ends_it_also_beside_the_other_thread() {
        let dir = tempfile::tempdir().unwrap();
        let files = DataFiles::open(&RealDisk, dir.path(), 1).unwrap();
        let mut restore = files.restore(vec![0]).unwrap();
        let boot = Change::Boot { epoch: 0, files: 1, records: 100, lease_ms: 1_000 };
        let boot = Command { now_ms: Millis(7), skip: Vec::new(), change: boot };
        let payload = postcard::to_stdvec(&boot).unwrap();
        let mut visited = 0;
        let ended = replay(&mut Machine::default(), &mut restore, GATHERED, |visit| {
            for index in 1..=3 * GATHERED as u64 {
                visit(LogIndex(index), &payload).unwrap();
                visited = index;
            }
            let why = visit(LogIndex(visited + 1), b"\xff\xff").unwrap_err();
            let file = dir.path().to_owned();
            Err::<(), _>(wal::Error::Entry { file, offset: 0, index: LogIndex(visited + 1), why })
        });
        assert!(matches!(ended, Err(OpenError::Wal(wal::Error::Entry { .. }))));
        assert_eq!(visited, 3 * GATHERED as u64);
    }
}
