//! What goes wrong and when it ends: weather, breakdowns, and the stages after the last fault.

use super::{Stage, Verdict, World};
use crate::disk::mem::Fault;
use crate::limits::LINGER_MS;
use crate::sim::client::Client;
use crate::sim::context::{Context, Event};
use crate::sim::server::Crash;
use crate::sim::story::{FAULTS_END, What};

impl World {
    pub(super) fn weather(&mut self) {
        self.context.weather(|_, _| ());
    }

    /// Something breaks.
    pub(super) fn fault(&mut self) -> Verdict {
        let World { context, server, clients, ledger, .. } = self;
        if context.is_ending {
            return Ok(());
        }
        let wait = context.random.between(5_000, 600_000);
        context.at(context.now + wait, Event::Fault);
        let (faults, lease) = (context.plan.faults, context.plan.lease_ms);
        let client = context.random.between(0, clients.len() as u64 - 1) as usize;
        if server.has_failed() {
            server.crash(Crash::Kill, context);
            return Ok(());
        }
        let more = u64::from(faults.read_errors) + u64::from(context.plan.reloads);
        match context.random.between(0, 8 + more) {
            0 if faults.kills => server.crash(Crash::Kill, context),
            1 if faults.power => server.crash(Crash::Power, context),
            2 if faults.stops => {
                server.stop(context, ledger)?;
            }
            3 if faults.disk_errors => {
                let at = server.disk.operations() + context.random.between(0, 30);
                server.disk.set_fault(Some(Fault::Error(at)));
            }
            4 if faults.disk_full => {
                let left = if context.random.chance(0.5) { 3_000 } else { 500_000 };
                let room = server.disk.used() + context.random.between(0, left);
                server.disk.set_room(Some(room));
                context.story.tell(context.now, || What::Disk("fills up".into()));
                let wait = context.random.between(1_000, 1_000_000);
                context.at(context.now + wait, Event::DiskHeals);
                context.full.push((context.now, context.now + wait));
            }
            5 if faults.cuts => {
                let Context { network, random, now, .. } = context;
                network.cut(client, *now, lease, random);
                context.story.tell(context.now, || What::Client { client, what: "is cut off" });
            }
            6 if faults.client_stalls => {
                let until = context.now + context.random.between(1_000, 3_000 * lease);
                clients[client].stall(until, context);
            }
            7 if faults.client_crashes && clients[client].is_up() => {
                clients[client].crash(context, ledger)?;
            }
            8 if faults.clock_jumps => {
                let ms = context.random.between(0, 200_000) as i64 - 100_000;
                server.jump(ms);
            }
            9 if faults.read_errors => server.spoil_read(5, context),
            9 | 10 => {
                if let Some(handover) = server.reload(context)? {
                    self.check_handover(handover)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// From now on nothing goes wrong.
    pub fn end_faults(&mut self) -> Verdict {
        self.stage = Stage::Ending;
        let World { context, server, clients, .. } = self;
        context.is_ending = true;
        context.story.tell(context.now, || What::World(FAULTS_END.into()));
        context.network.calm();
        server.disk.set_fault(None);
        server.disk.set_room(None);
        if server.has_failed() {
            server.crash(Crash::Kill, context);
        }
        if !server.is_running() {
            context.at(context.now + 1000, Event::ServerStarts);
        }
        for client in clients.iter_mut() {
            client.set_scripted(false);
            client.heal(context);
        }
        let waiting = server.machine().map_or(0, |machine| machine.lock().waiters().count());
        let waits = (clients.len() + waiting) as u64 * (2 * context.bounds.lease_ms + 1_500) * 1000;
        let crowded = context.crowded_us();
        self.set_deadline(10_000_000 + waits + crowded);
        Ok(())
    }

    pub(super) fn probe(&mut self) {
        self.stage = Stage::Probing;
        let id = self.clients.len();
        let probe = Client::new(id, true, &mut self.context);
        self.clients.push(probe);
        self.context.at(self.context.now, Event::Think { client: id, life: 0 });
        let crowded = self.context.crowded_us();
        self.set_deadline(10_000_000 + 2_000 * self.context.bounds.lease_ms + crowded);
    }

    pub(super) fn rest(&mut self) {
        self.stage = Stage::Resting;
        let rest_ms = 3 * self.context.plan.session_ttl_ms.max(LINGER_MS);
        self.set_deadline(rest_ms * 1000);
    }

    fn set_deadline(&mut self, wait: u64) {
        self.deadlines += 1;
        let number = self.deadlines;
        self.context.at(self.context.now + wait, Event::Deadline { number });
    }

    pub(super) fn deadline(&mut self, number: u32) -> Verdict {
        if number != self.deadlines {
            return Ok(());
        }
        if self.stage == Stage::Resting {
            let machine = self.server.machine();
            if machine.is_some_and(|machine| machine.lock().holder.is_some()) {
                // A late datagram of a client that is gone took it, and nobody has wanted it since.
                self.probe();
                return Ok(());
            }
            return self.finish();
        }
        let waiting = Client::waiting(&self.clients);
        Err(format!("long after all faults have ended, clients still wait: {waiting:?}"))
    }
}
