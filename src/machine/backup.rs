//! What of the state goes into a backup, and where the sessions and tokens of a server begin that
//! was restored from one.

use super::{Lock, Machine};
use crate::limits::EPOCH_SHIFT;
use crate::machine::history::Happening;
use crate::protocol::ClientInfo;
use crate::protocol::inspect::RecordKind;
use crate::types::Millis;
use std::collections::BTreeMap;

/// A restored server begins this many epochs after the backup: more than servers start, or leaders
/// follow each other, between a backup and the end of the server that it was made of.
pub const EPOCHS_AHEAD: u64 = 1 << 16;
/// Where restored servers begin also rises with time, in milliseconds since the beginning of 2026, ...
const RISES_FROM_MS: u64 = 1_767_225_600_000;
/// ... by 2^23 sessions and tokens in each: more than any server gives in one, so that the second
/// server that is restored from one backup begins after the first.
const RISE_SHIFT: u32 = 23;
/// It does so until 2060. A clock that is wrong leaves half of the epochs for later starts.
const RISES_TO_MS: u64 = 1 << 40;

impl Machine {
    /// The state as a server is to begin with that is restored from a backup of this moment. No
    /// session is in it: what its client has seen since could be known only to the server that
    /// was lost. So the holder's section ends, unpublished, and nobody waits.
    pub fn backup(&self) -> Machine {
        let mut history = self.history.clone();
        if let Some(holder) = &self.lock.holder {
            let nobody = ClientInfo::default();
            let session = self.sessions.get(&holder.session);
            history.record(&Happening {
                at_ms: self.now_ms,
                kind: RecordKind::Evicted,
                token: holder.token,
                session: holder.session,
                client: session.map_or(&nobody, |session| &session.client),
                bytes: holder.section.bytes(),
                revocation: None,
            });
        }
        Machine {
            epoch: self.epoch.saturating_add(EPOCHS_AHEAD),
            files: self.files,
            now_ms: self.now_ms,
            last_session: self.last_session,
            last_token: self.last_token,
            sessions: BTreeMap::new(),
            nonces: BTreeMap::new(),
            lock: Lock::default(),
            lease_ms: 0,
            history,
        }
    }

    /// Whether no server has started on this state since it was restored.
    fn is_fresh_from_backup(&self) -> bool {
        // A start that began within an epoch counts as of the next one.
        self.last_session.0 < self.epoch.saturating_sub(1) << EPOCH_SHIFT
    }

    /// Whether a server can start on the state: there are only so many epochs.
    pub fn has_epochs(&self) -> bool {
        self.epoch < (1 << (u64::BITS - EPOCH_SHIFT)) - EPOCHS_AHEAD
    }

    /// The number after which sessions and tokens of the start with this epoch begin; the first
    /// start after a restore may go on to a later epoch.
    pub(super) fn begin_epoch(&mut self, epoch: u64) -> u64 {
        let mut first = epoch << EPOCH_SHIFT;
        let is_fresh = self.is_fresh_from_backup();
        self.epoch = epoch;
        if is_fresh {
            first = first.max(rise(self.now_ms));
            // Where it begins within an epoch may be close to its end: the next start begins after
            // a whole one all the same.
            self.epoch = (first >> EPOCH_SHIFT) + 1;
        }
        first
    }
}

fn rise(now: Millis) -> u64 {
    now.0.saturating_sub(RISES_FROM_MS).min(RISES_TO_MS - 1) << RISE_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Ask, Change, Command};
    use crate::types::{Attempt, FencingToken, FileId, LockId, RequestNumber, SessionId};

    const NOW: u64 = RISES_FROM_MS + (1 << 35);

    fn apply(machine: &mut Machine, now_ms: u64, change: Change) {
        let command = Command { now_ms: Millis(now_ms), skip: Vec::new(), change };
        machine.apply(&command, &mut Vec::new());
    }

    fn start(machine: &mut Machine, now_ms: u64) {
        let epoch = machine.epoch() + 1;
        apply(machine, now_ms, Change::Boot { epoch, files: 2, records: 100, lease_ms: 1_000 });
    }

    fn ask(machine: &mut Machine, session: SessionId, number: u64, ask: Ask) {
        let change = Change::Request {
            session,
            number: RequestNumber(number),
            attempt: Attempt(number as u32),
            lock: LockId(0),
            token: machine.lock().holder.as_ref().map(|one| one.token).unwrap_or_default(),
            ask,
        };
        apply(machine, NOW, change);
    }

    /// Registers a session, which takes the lock; returns it and the token.
    fn take(machine: &mut Machine, nonce: u64) -> (SessionId, FencingToken) {
        let client = ClientInfo::default();
        apply(machine, NOW, Change::Register { nonce, attempt: Attempt(1), client });
        let session = machine.nonces[&nonce];
        ask(machine, session, 2, Ask::Acquire { try_only: true });
        (session, machine.lock().holder.as_ref().unwrap().token)
    }

    #[test]
    fn a_backup_has_no_session_and_ends_the_section_of_the_holder() {
        let mut machine = Machine::default();
        start(&mut machine, NOW);
        let (session, token) = take(&mut machine, 1);
        let (file, data) = (FileId(1), b"half".to_vec());
        ask(&mut machine, session, 3, Ask::Stage { file, total: 4, offset: 0, data });
        let backup = machine.backup();
        assert_eq!((backup.session_count(), backup.staged_bytes(), backup.files()), (0, 0, 2));
        assert_eq!(backup.lock(), &Lock::default());
        let (_, records) = backup.history().from(0);
        let last = records.last().unwrap();
        assert_eq!((last.kind, last.token, last.bytes), (RecordKind::Evicted, token, 4));
        // What was there goes on unchanged.
        assert_eq!(machine.lock().holder.as_ref().unwrap().session, session);
        assert_eq!(machine.backup(), backup);
    }

    #[test]
    fn the_history_goes_on_behind_that_of_the_backup() {
        let mut machine = Machine::default();
        start(&mut machine, NOW);
        take(&mut machine, 1);
        let mut restored = machine.backup();
        start(&mut restored, NOW + 1);
        let (mut previous, records) = restored.history().from(0);
        for record in records {
            assert_eq!(record.hash, record.chained(previous));
            previous = record.hash;
        }
        assert_eq!(restored.history().newest(), machine.history().newest() + 2);
    }

    #[test]
    fn tokens_and_sessions_of_a_restored_server_are_above_all_that_the_lost_one_gave() {
        let mut machine = Machine::default();
        start(&mut machine, NOW);
        let backup = machine.backup();
        // The clock of the restored server may even be wrong.
        for now_ms in [0, NOW] {
            let mut lost = machine.clone();
            for _ in 1..EPOCHS_AHEAD {
                start(&mut lost, NOW);
            }
            let mut restored = backup.clone();
            start(&mut restored, now_ms);
            assert!(take(&mut restored, 2) > take(&mut lost, 2), "at {now_ms}");
        }
    }

    #[test]
    fn the_second_server_restored_from_a_backup_begins_above_the_first() {
        let mut machine = Machine::default();
        start(&mut machine, NOW);
        let backup = machine.backup();
        let restored = |now_ms| {
            let mut restored = backup.clone();
            start(&mut restored, now_ms);
            restored
        };
        for at in [NOW, NOW | ((1 << 17) - 1)] {
            assert!(take(&mut restored(at + 1), 2) > take(&mut restored(at), 2));
        }
        // The first was started again and again, but not more often than every 131 seconds.
        let mut first = restored(NOW);
        for starts in 1..100 {
            start(&mut first, NOW);
            let mut second = restored(NOW + (starts + 2) * (1 << 17));
            assert!(take(&mut second, 2) > take(&mut first.clone(), 2), "{starts}");
        }
    }

    #[test]
    fn a_clock_that_is_wrong_leaves_epochs_to_start_and_to_restore_again() {
        let mut machine = Machine::default();
        start(&mut machine, NOW);
        let mut restored = machine.backup();
        start(&mut restored, u64::MAX);
        let (_, token) = take(&mut restored, 2);
        assert!(restored.backup().has_epochs());
        start(&mut restored, NOW);
        assert!(restored.last_token > token);
    }

    #[test]
    fn every_start_has_a_whole_epoch_before_it() {
        let mut machine = Machine::default();
        start(&mut machine, NOW);
        let mut restored = machine.backup();
        start(&mut restored, NOW | ((1 << 17) - 1));
        let (session, token) = take(&mut restored, 2);
        start(&mut restored, NOW);
        assert!(restored.last_session.0 - session.0 >= 1 << EPOCH_SHIFT);
        assert!(restored.last_token.0 - token.0 >= 1 << EPOCH_SHIFT);
        let mut worn = Machine { epoch: (1 << 24) - EPOCHS_AHEAD, ..Machine::default() };
        assert!(!worn.has_epochs());
        worn.epoch -= 1;
        assert!(worn.has_epochs());
    }
}
