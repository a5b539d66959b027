//! Power losses and kills at every moment, one after the other on the same directory.

use super::*;
use crate::disk::mem::{Fault, MemDisk};
use crate::wal::{read_checkpoint, write_checkpoint};
use proptest::prelude::*;

const DIR: &str = "/d";
const SEGMENT_MAX: u64 = 1500;

/// What the log has to hold.
#[derive(Default)]
struct Model {
    /// What was handed to the writer, from entry 1 on.
    entries: Vec<Vec<u8>>,
    /// Entries up to here have to survive a power loss.
    stable: u64,
    /// ... and up to here a kill.
    written: u64,
    /// ... and up to here what happened last.
    surviving: u64,
    /// The newest checkpoint that was made, and the one that was begun.
    checkpoint: (u64, u64),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u64),
    Sync,
    Roll,
    Checkpoint,
}

#[derive(Clone, Debug)]
struct Life {
    steps: Vec<Step>,
    /// The power fails after that many operations; without, the process is killed at the end.
    power_off: Option<u64>,
    seed: u64,
}

impl Model {
    /// Starts on the disk, checks what is there, and lives until the end or the first error.
    fn live(&mut self, disk: &MemDisk, life: u8, steps: &[Step]) -> Option<()> {
        let dir = Path::new(DIR);
        let checkpoint = unless_damaged(read_checkpoint(disk, dir))?;
        let after = checkpoint.map_or(0, |found| {
            assert_eq!(found.state, payload(found.index.0, 0), "the state of another checkpoint");
            found.index.0
        });
        assert!((self.checkpoint.0..=self.checkpoint.1).contains(&after), "checkpoint {after}");
        let (mut writer, recovered, entries) =
            unless_damaged(collect(disk, dir, SEGMENT_MAX, after))?;
        let last = recovered.last.0;
        assert!(last >= self.surviving && last <= self.entries.len() as u64, "it ends at {last}");
        assert!(!recovered.lost_synced);
        self.entries.truncate(last as usize);
        let indices = after + 1..=last;
        let mut expected = indices.zip(&self.entries[after as usize..]);
        assert!(entries.iter().map(|(index, entry)| (*index, entry)).eq(&mut expected));
        (self.written, self.stable, self.checkpoint) = (last, last, (after, after));
        for step in steps {
            self.step(disk, &mut writer, *step, life)?;
        }
        Some(())
    }

    fn step(
        &mut self,
        disk: &MemDisk,
        writer: &mut Writer<MemDisk>,
        step: Step,
        life: u8,
    ) -> Option<()> {
        match step {
            Step::Write(count) => {
                let first = self.written + 1;
                self.entries.extend((first..first + count).map(|index| payload(index, life)));
                writer.write(&mut batch(first, count, life), LogIndex(self.stable)).ok()?;
                self.written += count;
            }
            Step::Sync => {
                writer.handle().sync().ok()?;
                self.stable = self.written;
                writer.handle().note_synced(LogIndex(self.stable));
            }
            Step::Roll => {
                writer.roll().ok()?;
                self.stable = self.stable.max(writer.sealed_through().0);
            }
            Step::Checkpoint => {
                let index = self.stable;
                self.checkpoint.1 = index;
                write_checkpoint(disk, Path::new(DIR), LogIndex(index), &[&payload(index, 0)])
                    .ok()?;
                self.checkpoint.0 = index;
                writer.handle().remove_through(LogIndex(index)).ok()?;
            }
        }
        Some(())
    }
}

/// The power may fail while reading, but a crash never looks like damage.
fn unless_damaged<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Err(error @ (Error::Damaged { .. } | Error::Version { .. } | Error::Entry { .. })) => {
            panic!("{error}")
        }
        result => result.ok(),
    }
}

fn live_through(lives: &[Life]) {
    let mut disk = MemDisk::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    let mut model = Model::default();
    for (number, life) in lives.iter().enumerate() {
        disk.set_fault(life.power_off.map(|after| Fault::PowerOff(disk.operations() + after)));
        model.live(&disk, number as u8 + 1, &life.steps);
        if life.power_off.is_some() {
            disk = disk.after_power_loss(life.seed);
            model.surviving = model.stable;
        } else {
            model.surviving = model.written;
        }
    }
    disk.set_fault(None);
    assert!(model.live(&disk, 0, &[]).is_some());
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..6).prop_map(Step::Write),
        3 => Just(Step::Sync),
        1 => Just(Step::Roll),
        1 => Just(Step::Checkpoint),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    let power_off = prop_oneof![1 => Just(None), 4 => (0u64..60).prop_map(Some)];
    (prop::collection::vec(step(), 0..30), power_off, any::<u64>())
        .prop_map(|(steps, power_off, seed)| Life { steps, power_off, seed })
}

proptest! {
    #[test]
    fn after_any_crashes_the_log_is_a_prefix_with_all_that_was_synced(
        lives in prop::collection::vec(life(), 1..6)
    ) {
        live_through(&lives);
    }
}

/// Where each step of a life that does everything is cut short, with many outcomes of each cut.
#[test]
fn a_power_loss_during_any_operation_leaves_a_prefix_with_all_that_was_synced() {
    use Step::*;
    let steps = vec![
        Write(3),
        Write(5),
        Sync,
        Write(4),
        Write(5),
        Sync,
        Checkpoint,
        Write(5),
        Write(5),
        Write(5),
        Roll,
        Write(2),
        Sync,
        Write(5),
        Write(5),
        Checkpoint,
        Write(5),
        Write(5),
        Write(5),
        Sync,
        Write(1),
    ];
    let whole = MemDisk::new();
    whole.create_dir(Path::new(DIR)).unwrap();
    Model::default().live(&whole, 1, &steps).unwrap();
    for at in 0..whole.operations() {
        for seed in 0..40 {
            let first = Life { steps: steps.clone(), power_off: Some(at), seed };
            // The second start is cut short too, early: while it recovers.
            let second = Life { steps: vec![Write(3), Sync], power_off: Some(seed % 8), seed };
            live_through(&[first, second]);
        }
    }
}

#[test]
fn a_checkpoint_is_replaced_whole_or_not_at_all() {
    let dir = Path::new(DIR);
    let mut done = 0;
    for at in 0..10 {
        let disk = MemDisk::new();
        disk.create_dir(dir).unwrap();
        write_checkpoint(&disk, dir, LogIndex(1), &[&[1; 3000]]).unwrap();
        disk.set_fault(Some(Fault::PowerOff(disk.operations() + at)));
        let is_done = write_checkpoint(&disk, dir, LogIndex(2), &[&[2; 900], &[2; 1100]]).is_ok();
        done += u32::from(is_done);
        for seed in 0..100 {
            let found = read_checkpoint(&disk.after_power_loss(seed), dir).unwrap().unwrap();
            assert!(found.index == LogIndex(2) || !is_done);
            let whole = if found.index == LogIndex(1) { vec![1; 3000] } else { vec![2; 2000] };
            assert_eq!(found.state, whole);
        }
    }
    assert_eq!(done, 1, "the power goes at each of its steps, and once behind the last");
}
