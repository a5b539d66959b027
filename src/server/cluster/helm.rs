//! Who drives the member: whichever thread brings news, unless another one is at it, which then looks
//! again before it leaves. So a message is answered by the thread that heard it, and nobody has to
//! be woken for it.

use super::applier::Due;
use super::driver::{Driver, Input, Order};
use super::keeper::{apply_here, keep, keep_taken, save_here};
use super::peers::{end, left, speak_to};
use super::try_lock;
use crate::engine::cluster::codec::encode_message;
use crate::server::core::Standing;
use crate::server::threads::{Lingers, Scratch, Server};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::{error, warn};

/// The driver, and what its rounds leave for the next.
pub struct Helm {
    driver: Driver,
    orders: Vec<Order>,
}

/// Goes on with what there is to do for the member, for as long as there is anything that this thread
/// may do.
pub(in crate::server) fn steer(server: &Arc<Server>, scratch: &mut Scratch) {
    // What comes of a round while it is under way is for the next one.
    if std::mem::replace(&mut scratch.is_steering, true) {
        return;
    }
    loop {
        look(server, scratch);
        if apply_here(server, scratch) {
            continue;
        }
        match scratch.batch.take() {
            Some(batch) => save_here(server, batch),
            None => break,
        }
    }
    scratch.is_steering = false;
}

fn look(server: &Arc<Server>, scratch: &mut Scratch) {
    let cluster = server.cluster();
    while cluster.has_news()
        && !server.is_stopping()
        && let Some(mut helm) = try_lock(&cluster.helm)
    {
        while let Some(news) = cluster.take_news() {
            // There is more to do than to wait for the disk.
            if let Some(batch) = scratch.batch.take() {
                cluster.journal.push(batch);
            }
            helm.round(server, news, scratch);
        }
    }
}

pub(super) fn stand(server: &Arc<Server>, standing: Standing, scratch: &mut Scratch) {
    // What was replaced goes when the lock is free again.
    let mut old = None;
    server.change_core(scratch, |core, now, actions| old = core.stand(standing, now, actions));
}

impl Helm {
    pub fn new(driver: Driver) -> Self {
        Helm { driver, orders: Vec::new() }
    }

    fn round(&mut self, server: &Arc<Server>, news: Vec<Input>, scratch: &mut Scratch) {
        let (cluster, now) = (server.cluster(), server.now().steady);
        let Helm { driver, orders, .. } = self;
        for input in news {
            if matches!(input, Input::Message(_)) {
                cluster.messages.fetch_sub(1, Ordering::Relaxed);
            }
            if let Err(why) = driver.take(input, now, orders) {
                error!(why, "the consensus library gives up");
                std::process::abort();
            }
        }
        if driver.is_leading()
            && let Some((term, commands)) = server.take_proposals(now)
        {
            driver.propose(term, commands);
        }
        if server.is_short_of_room() {
            driver.give_way(now, orders);
        }
        driver.advance(now, |id| cluster.peers.client_addr(id), orders);
        cluster.show(driver, now);
        cluster.next_round_ms.store(driver.next_deadline().0, Ordering::Relaxed);
        let mut is_sending = false;
        for order in std::mem::take(orders) {
            let is_message = matches!(order, Order::Send(_));
            // What goes to the others goes together.
            if is_sending && !is_message {
                cluster.peers.flush();
            }
            is_sending = is_message;
            self.follow(server, order, scratch);
        }
        if is_sending {
            cluster.peers.flush();
        }
    }

    fn follow(&self, server: &Arc<Server>, order: Order, scratch: &mut Scratch) {
        let cluster = server.cluster();
        match order {
            Order::Send(message) => {
                let mut frame = Vec::new();
                encode_message(&message, &mut frame);
                cluster.peers.add(message.to, &frame);
            }
            Order::Save(batch) => match self.is_for(server, scratch.lingers) {
                true => scratch.batch = Some(batch),
                false => cluster.journal.push(batch),
            },
            Order::Apply(due) => cluster.due.put(due),
            Order::Core(standing) => stand(server, standing, scratch),
            Order::Keep(place, checkpoint) => {
                let kept =
                    server.spawn("checkpoint", move |server| keep(server, place, checkpoint));
                if let Err(error) = kept {
                    warn!(%error, "cannot start a thread for a checkpoint: the log grows");
                    cluster.tell(Input::NotKept);
                }
            }
            Order::Offer(kept) => {
                let old = cluster.peers.offer(kept);
                cluster.due.put(Due::Gone(Box::new(old)));
            }
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
                    if keep_taken(server, place, &checkpoint) {
                        server.cluster().tell(Input::TakenOver(message, checkpoint));
                    }
                });
                if let Err(error) = kept {
                    error!(%error, "cannot start a thread to keep the state of another server");
                    std::process::exit(1);
                }
            }
        }
    }

    /// Whether a thread is to sync the journal by itself.
    fn is_for(&self, server: &Server, lingers: Lingers) -> bool {
        let may = match lingers {
            Lingers::Never => false,
            Lingers::Following => !self.driver.is_leading(),
            Lingers::Always => true,
        };
        may && !server.cluster().is_disk_slow(server.now().steady)
    }
}
