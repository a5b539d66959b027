//! The hand-over of the disk roles and of the outbox between request threads, by loom: in every
//! interleaving of their looks under the lock each answer is sent exactly once, and no job is left
//! lying. The lock itself has its own check (`sync`).
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`

use super::*;
use crate::protocol::ClientInfo;
use crate::types::{FencingToken, RequestNumber, Stamp};
use loom::sync::{Arc, Mutex};

const NOW: Now = Now { steady: Millis(1), steady_us: 1_000, unix: Millis(1) };

type Sent = Vec<(SessionId, RequestNumber)>;

/// What `server::threads` does with a request, with a disk that always works.
fn work(shared: &Mutex<(Core, Sent)>, change: impl FnOnce(&mut Core, &mut Vec<Action>)) {
    let look = |change: &mut dyn FnMut(&mut Core, &mut Vec<Action>)| {
        let mut guard = shared.lock().unwrap();
        let (core, sent) = &mut *guard;
        let mut actions = Vec::new();
        change(core, &mut actions);
        for action in actions {
            if let Action::Send { reply, .. } = action {
                sent.push((reply.session, reply.number));
            }
        }
        core.poll_job()
    };
    let mut change = Some(change);
    let mut job = look(&mut |core, actions| {
        if let Some(change) = change.take() {
            change(core, actions);
        }
    });
    while let Some(next) = job {
        let mut next = Some(next);
        job = look(&mut |core, actions| match next.take() {
            Some(Job::Write(batch)) => core.handle_written(batch, Ending::Done, NOW, actions),
            Some(Job::Flush(flush)) => core.handle_flushed(flush, Ending::Done, NOW, actions),
            None => {}
        });
    }
}

fn deliver(core: &mut Core, session: u64, number: u64, op: Op<'_>, actions: &mut Vec<Action>) {
    let request = Request {
        session: SessionId(session),
        number: RequestNumber(number),
        attempt: Attempt(number as u32),
        after: Attempt(number as u32 - 1),
        stamp: Stamp(number),
        token: FencingToken((1 << 40) + 1),
        lock: LockId(0),
        op,
    };
    core.handle_request(([127, 0, 0, 1], session as u16).into(), &request, NOW, actions);
}

#[test]
fn whoever_takes_the_role_every_answer_is_sent_once() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let settings = Settings {
            lease_ms: 1000,
            session_ttl_ms: 1000,
            section_limit: 9,
            syncs: true,
            limits: Limits::default(),
        };
        let core = Core::new(settings, Machine::default(), LogIndex(0), NOW);
        let shared = Arc::new(Mutex::new((core, Sent::new())));
        let first = 1 << 40;
        work(&shared, |core, actions| core.boot(1, NOW, actions));
        for nonce in 1..=2 {
            let op = Op::Init { nonce, client: ClientInfo::default() };
            work(&shared, |core, actions| deliver(core, 0, 1, op, actions));
        }
        let acquire = Op::Acquire { try_only: false };
        work(&shared, |core, actions| deliver(core, first + 1, 2, acquire, actions));
        shared.lock().unwrap().1.clear();

        // The holder releases while the other comes to wait.
        let other = Arc::clone(&shared);
        let waiter = loom::thread::spawn(move || {
            let acquire = Op::Acquire { try_only: false };
            work(&other, |core, actions| deliver(core, first + 2, 2, acquire, actions));
        });
        work(&shared, |core, actions| deliver(core, first + 1, 3, Op::Release, actions));
        waiter.join().unwrap();

        let mut guard = shared.lock().unwrap();
        let released = (SessionId(first + 1), RequestNumber(3));
        let acquired = (SessionId(first + 2), RequestNumber(2));
        let count = |what| guard.1.iter().filter(|sent| **sent == what).count();
        assert_eq!(count(released), 1);
        assert!(count(acquired) >= 1, "the waiter is granted, perhaps after being queued");
        assert!(guard.0.poll_job().is_none(), "a job was left lying");
    });
}
