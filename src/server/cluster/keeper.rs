//! The threads of a member: they do what [`Driver`] and [`Applier`] say.

use super::applier::{Applier, Task};
use super::driver::{Driver, Input, Order};
use super::fetch::fetch;
use super::peers::{end, left, speak_to};
use crate::engine::cluster::codec::encode_message;
use crate::engine::cluster::journal::Checkpoint;
use crate::engine::solo::Ending;
use crate::server::core::Standing;
use crate::server::threads::{Scratch, Server, lock};
use crate::types::{LogIndex, Millis};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tracing::{error, warn};

/// How soon writing is tried again on a full disk, at first and then.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A leader without room hands over, at most this often: the others may have none either.
const HAND_OVER_MS: u64 = 5_000;

/// The life of the thread that drives the member.
pub(in crate::server) fn drive(server: &Arc<Server>, mut driver: Driver) {
    let cluster = server.cluster();
    // Set once: there is one driver.
    let _ = cluster.driver.set(thread::current());
    let (mut scratch, mut orders) = (Scratch::new(), Vec::new());
    let mut may_hand_over = Millis(0);
    while !server.is_stopping() {
        let now = server.now().steady;
        for input in std::mem::take(&mut *lock(&cluster.inbox)) {
            if matches!(input, Input::Message(_)) {
                cluster.messages.fetch_sub(1, Ordering::Relaxed);
            }
            if let Err(why) = driver.take(input, now, &mut orders) {
                error!(why, "the consensus library gives up");
                std::process::abort();
            }
        }
        if driver.is_leading()
            && let Some((term, commands)) = server.take_proposals()
        {
            driver.propose(term, commands);
        }
        if driver.is_leading() && now >= may_hand_over && server.is_short_of_room() {
            warn!("no room on the disk: another server is to lead");
            may_hand_over = Millis(now.0 + HAND_OVER_MS);
            // There is nothing in it that could fail.
            let _ = driver.take(Input::Retire, now, &mut orders);
        }
        driver.advance(now, |id| cluster.peers.client_addr(id), &mut orders);
        cluster.show(&driver, now);
        for order in orders.drain(..) {
            follow(server, order, &mut scratch);
        }
        let wait = driver.next_deadline().0.saturating_sub(server.now().steady.0);
        thread::park_timeout(Duration::from_millis(wait));
    }
}

fn follow(server: &Arc<Server>, order: Order, scratch: &mut Scratch) {
    let cluster = server.cluster();
    match order {
        Order::Send(message) => {
            let mut frame = Vec::new();
            encode_message(&message, &mut frame);
            cluster.peers.send(message.to, frame);
        }
        Order::Save(batch) => cluster.journal.push(batch),
        Order::Apply(due) => cluster.due.push(due),
        Order::Core(standing) => stand(server, standing, scratch),
        Order::Keep(place, checkpoint) => {
            let kept = server.spawn("checkpoint", move |server| keep(server, place, checkpoint));
            if let Err(error) = kept {
                warn!(%error, "cannot start a thread for a checkpoint: the log grows");
                cluster.tell(Input::NotKept);
            }
        }
        Order::Offer(state) => cluster.peers.offer(&state),
        Order::Answer(to, reply) => server.answer(to, &reply, scratch),
        Order::Follow(members) => {
            if let Err(error) = speak_to(server, cluster.peers.follow(&members)) {
                error!(%error, "cannot start a thread to speak to another server");
                std::process::exit(1);
            }
        }
        Order::End => end(&left(cluster.peers.own().id)),
        Order::KeepTaken(place, checkpoint, message) => {
            let kept = server.spawn("checkpoint", move |server| {
                if until_done(server, || keep_taken(server, place, &checkpoint)) {
                    server.cluster().tell(Input::TakenOver(message));
                }
            });
            if let Err(error) = kept {
                error!(%error, "cannot start a thread to keep the state of another server");
                std::process::exit(1);
            }
        }
    }
}

fn stand(server: &Arc<Server>, standing: Standing, scratch: &mut Scratch) {
    // What was replaced goes when the lock is free again.
    let mut old = None;
    server.change_core(scratch, |core, now, actions| old = core.stand(standing, now, actions));
}

fn keep(server: &Arc<Server>, place: LogIndex, checkpoint: Box<Checkpoint>) {
    match server.store().keep_checkpoint(place, &checkpoint) {
        Ok(()) => server.cluster().tell(Input::Kept(checkpoint)),
        Err(error) if error.is_full() => {
            warn!(%error, "no room for a checkpoint");
            server.cluster().tell(Input::NotKept);
        }
        Err(error) => {
            error!(%error, "cannot make a checkpoint: this server stops, the others go on; check \
                the disk, then restart");
            std::process::exit(1);
        }
    }
}

fn keep_taken(server: &Arc<Server>, place: LogIndex, checkpoint: &Checkpoint) -> Ending {
    match server.store().keep_checkpoint(place, checkpoint) {
        Ok(()) => Ending::Done,
        Err(error) if error.is_full() => Ending::Full,
        Err(error) => {
            error!(%error, "cannot keep the state of another server");
            Ending::Failed
        }
    }
}

/// The life of the journal's thread.
pub(in crate::server) fn keep_journal(server: &Arc<Server>) {
    let cluster = server.cluster();
    while let Some(batches) = cluster.journal.take() {
        for mut batch in batches {
            if !until_done(server, || server.store().save(&mut batch)) {
                return;
            }
            server.look_at_room_if_due();
            cluster.tell(Input::Saved(batch));
        }
    }
}

/// Does it again until there is room for it; says whether that came. A disk that fails otherwise
/// ends the process: what this member has promised the others cannot be kept any more.
fn until_done(server: &Arc<Server>, mut work: impl FnMut() -> Ending) -> bool {
    let mut pause = RETRY;
    loop {
        match work() {
            Ending::Done => return true,
            Ending::Full if server.is_stopping() => return false,
            Ending::Full => {
                server.look_at_room_if_due();
                thread::sleep(pause);
                pause = (pause * 2).min(RETRY_MAX);
            }
            Ending::Failed => {
                error!("this server stops, the others go on; check the disk, then restart");
                std::process::exit(1);
            }
        }
    }
}

/// The life of the thread that applies.
pub(in crate::server) fn apply(server: &Arc<Server>, mut applier: Applier) {
    let mut scratch = Scratch::new();
    while let Some(dues) = server.cluster().due.take() {
        for due in dues {
            applier.add(due);
        }
        loop {
            match applier.poll() {
                Ok(Some(task)) => {
                    if !perform(server, &mut applier, task, &mut scratch) {
                        return;
                    }
                }
                Ok(None) => break,
                Err(why) => {
                    error!(why, "this server stops");
                    std::process::exit(1);
                }
            }
        }
    }
}

/// Says whether to go on.
fn perform(server: &Arc<Server>, applier: &mut Applier, task: Task, scratch: &mut Scratch) -> bool {
    match task {
        Task::Publish(mut parts) => {
            return until_done(server, || server.store().publish(&mut parts));
        }
        Task::Fetch { from, have, want } => {
            let fetched = fetch(server, from, &have, &want);
            if let Err(error) = &fetched {
                warn!(%error, from, "cannot take over a state");
            }
            applier.handle_fetched(fetched.is_ok());
        }
        Task::Rewind(sizes) => {
            if let Err(error) = server.store().rewind(sizes) {
                error!(%error, "cannot go on from the data files as they were");
                std::process::exit(1);
            }
        }
        Task::Core(standing) => stand(server, standing, scratch),
        Task::Tell(input) => server.cluster().tell(input),
    }
    true
}
