//! A client's process: the real [`Exchange`], driven as the blocking connection drives it, below a
//! [`Program`]. It can stall and crash, and has a clock of its own.

mod clock;
mod script;
mod standing;

use super::context::{Context, Event};
use super::ledger::Ledger;
use super::network::Direction;
use super::program::{Ask, Circumstances, Program};
use super::story::What;
use crate::client::Error;
use crate::client::call::{Answer, Patience};
use crate::client::exchange::{Config, Exchange};
use crate::protocol::{ClientInfo, Reason};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where clients find a server.
pub fn server_addr(server: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, FIRST_SERVER + server as u8), 10_000)
}

/// Which server has this address.
fn server_at(addr: SocketAddrV4) -> usize {
    usize::from(addr.ip().octets()[3].saturating_sub(FIRST_SERVER))
}

const FIRST_SERVER: u8 = 100;

#[derive(Debug)]
pub struct Client {
    pub id: usize,
    pub program: Program,
    /// None: the process is not there.
    exchange: Option<Exchange>,
    /// Of the session.
    pub nonce: u64,
    port: u16,
    /// Counts sessions, so that what was meant for an earlier one is recognised.
    life: u64,
    /// Datagrams, and from which server.
    inbox: Vec<(usize, Vec<u8>)>,
    stalled_until: u64,
    /// The timer that counts; others are stale.
    timer: u64,
    /// What the clock shows at virtual time 0, and how fast it runs.
    offset_us: u64,
    drift_ppm: i64,
    /// When the server heard this session last, and whether that was too long ago once.
    heard_at: u64,
    heard_stamp: u64,
    was_silent: bool,
    /// After how many power losses the session began.
    power_losses: u64,
    /// When the server, at the latest, first refused a request of this session for want of room.
    refused_at: Option<u64>,
    /// Counts calls, so that a cancel meets the one that it is meant for.
    calls: u64,
    is_done: bool,
    /// What a story waits for: the result of its last call. Without a story none is kept.
    told: Option<Told>,
    is_scripted: bool,
}

/// What a call brought.
pub type Told = Result<Answer, Error>;

impl Client {
    pub fn new(id: usize, is_probe: bool, context: &mut Context) -> Client {
        let drift = context.plan.drift_ppm;
        Client {
            id,
            program: Program::new(id, is_probe),
            exchange: None,
            nonce: 0,
            port: 40_000,
            life: 0,
            inbox: Vec::new(),
            stalled_until: 0,
            timer: 0,
            offset_us: context.random.between(1, 1 << 40),
            drift_ppm: context.random.between(0, 2 * drift) as i64 - drift as i64,
            heard_at: 0,
            heard_stamp: 0,
            was_silent: false,
            power_losses: 0,
            refused_at: None,
            calls: 0,
            is_done: false,
            told: None,
            is_scripted: false,
        }
    }

    /// Nothing more will come from this client.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Those that are not done, and in which call, for people.
    pub fn waiting(clients: &[Client]) -> Vec<String> {
        let waiting = clients.iter().filter(|client| !client.is_done());
        waiting
            .map(|client| format!("{} in {:?}", client.id, client.program.asked().map(Ask::name)))
            .collect()
    }

    pub fn is_up(&self) -> bool {
        self.exchange.is_some()
    }

    /// No call is under way, and none has left anything unanswered.
    pub fn is_idle(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| !exchange.is_busy())
    }

    pub fn addr(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, self.id as u8 + 1), self.port)
    }

    /// The token under which the client believes to hold the lock.
    pub fn token(&self) -> Option<u64> {
        Some(self.exchange.as_ref()?.token()?.0)
    }

    /// The next thing that the program does.
    pub fn think(
        &mut self,
        life: u64,
        context: &mut Context,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if life != self.life || self.is_done || self.is_scripted || self.program.asked().is_some() {
            return Ok(());
        }
        if self.stalled_until > context.now {
            context.at(self.stalled_until, Event::Think { client: self.id, life });
            return Ok(());
        }
        let ends = context.is_ending && !self.program.is_probing();
        if !self.program.is_connected() {
            if ends {
                self.exchange = None;
                self.is_done = true;
                return Ok(());
            }
            self.open(context);
        }
        if !ends {
            context.calls += 1;
        }
        if context.plan.moves && context.random.chance(0.05) {
            self.move_on();
        }
        let clock = self.clock(context.now);
        let now = context.now;
        let ask =
            self.program.choose(&context.plan, ledger, (now, clock), ends, &mut context.random)?;
        context.story.tell(now, || What::Called { client: self.id, call: ask.name() });
        let may_wait = matches!(ask, Ask::Acquire(Patience::Forever | Patience::Until(_)));
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        exchange.begin(ask.as_call(), clock);
        self.calls += 1;
        if may_wait && context.plan.cancels && context.random.chance(0.2) {
            let longest =
                if context.random.chance(0.5) { 2_000 } else { context.plan.lease_ms * 1000 };
            let at = now + context.random.between(0, longest);
            context.at(at, Event::Cancel { client: self.id, call: self.calls });
        }
        self.drive(context, ledger)
    }

    /// Another thread of the process does not want the call to wait any more.
    pub fn cancel(
        &mut self,
        call: u64,
        context: &mut Context,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let clock = self.clock(context.now);
        let is_meant = call == self.calls && self.stalled_until <= context.now;
        let Some(exchange) = self.exchange.as_mut().filter(|_| is_meant) else { return Ok(()) };
        if !self.program.cancel(clock) {
            return Ok(());
        }
        let client = self.id;
        context.story.tell(context.now, || What::Client { client, what: "cancels its wait" });
        exchange.handle_cancel(clock);
        self.drive(context, ledger)
    }

    /// From now on it has another port; what is on its way to the old one is lost.
    fn move_on(&mut self) {
        self.port = self.port.wrapping_add(1).max(40_000);
        self.inbox.clear();
    }

    /// A new session, from the old port or another.
    fn open(&mut self, context: &mut Context) {
        self.life += 1;
        if context.random.chance(0.5) {
            self.move_on();
        }
        let timeout_ms = match context.random.between(0, 3) {
            _ if self.is_scripted => 30_000,
            0 if !context.plan.is_calm() => context.random.between(20, 2_000),
            _ => context.random.between(5_000, 30_000),
        };
        self.nonce = context.random.next();
        self.exchange = Some(Exchange::new(Config {
            servers: (0..context.servers).map(server_addr).collect(),
            timeout_us: timeout_ms * 1000,
            client: ClientInfo { pid: self.id as u32, ..ClientInfo::default() },
            nonce: self.nonce,
            seed: context.random.next(),
        }));
        self.heard_at = context.now;
        self.was_silent = false;
        self.refused_at = None;
        self.power_losses = context.power_losses;
    }

    /// The last answer said that an operator has taken the lock away.
    pub fn is_revoked(&self) -> bool {
        self.exchange.as_ref().is_some_and(Exchange::is_revoked)
    }

    /// A datagram arrives at the socket.
    pub fn receive(
        &mut self,
        (server, addr): (usize, SocketAddrV4),
        bytes: Vec<u8>,
        context: &mut Context,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if addr != self.addr() || !self.is_up() {
            let (client, direction) = (self.id, Direction::ToClient);
            context.story.tell(context.now, || What::Unheard { client, server, direction });
            return Ok(());
        }
        self.inbox.push((server, bytes));
        if self.stalled_until > context.now || self.program.asked().is_none() {
            return Ok(());
        }
        self.drive(context, ledger)
    }

    /// The timer or the end of a stall.
    pub fn wake(
        &mut self,
        timer: u64,
        context: &mut Context,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let is_awaited = timer == self.timer && self.program.asked().is_some();
        if !is_awaited || self.stalled_until > context.now {
            return Ok(());
        }
        self.drive(context, ledger)
    }

    /// What the connection does while a call is under way: send, receive, look at the clock.
    fn drive(&mut self, context: &mut Context, ledger: &mut Ledger) -> Result<(), String> {
        let clock = self.clock(context.now);
        self.note_refusals();
        loop {
            let Some(exchange) = &mut self.exchange else { return Ok(()) };
            let mut bytes = Vec::new();
            while let Some(to) = exchange.poll_transmit(clock, &mut bytes) {
                let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, self.id as u8 + 1), self.port);
                let between = (self.id, server_at(to));
                context.send(between, Direction::ToServer, from, std::mem::take(&mut bytes));
            }
            for (server, datagram) in self.inbox.drain(..) {
                exchange.handle_datagram(clock, server_addr(server), &datagram);
            }
            if let Some(result) = exchange.poll_outcome() {
                let data = exchange.read_data().to_vec();
                return self.end_call(result, &data, context, ledger);
            }
            exchange.handle_timeout(clock);
            if let Some(result) = exchange.poll_outcome() {
                return self.end_call(result, &[], context, ledger);
            }
            if let Some(to) = exchange.poll_transmit(clock, &mut bytes) {
                let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, self.id as u8 + 1), self.port);
                let between = (self.id, server_at(to));
                context.send(between, Direction::ToServer, from, std::mem::take(&mut bytes));
                continue;
            }
            // A call that has not ended has a time at which it gives up.
            let at = exchange.poll_timeout().ok_or("a call has no end")?;
            self.timer += 1;
            let at = self.to_virtual(at).max(context.now + 1);
            context.at(at, Event::Wake { client: self.id, timer: self.timer });
            return Ok(());
        }
    }

    fn end_call(
        &mut self,
        result: Told,
        data: &[u8],
        context: &mut Context,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let now = context.now;
        let call = self.program.asked().map(Ask::name).unwrap_or_default();
        context.story.tell(now, || What::Returned {
            client: self.id,
            call,
            result: match &result {
                Ok(answer) => format!("{answer:?}"),
                Err(error) => format!("{error:?}"),
            },
        });
        let circumstances = Circumstances {
            may_be_lost: self.may_be_lost(context),
            full_until: context.full_until(),
            crowded: context.crowded,
            data_limit: context.bounds.data.0,
            section_limit: context.bounds.section.0,
            is_unanswered: self.exchange.as_ref().is_some_and(Exchange::is_busy),
            is_calm: context.plan.is_calm(),
            prompt_us: if context.is_staged { u64::MAX } else { context.prompt_us },
            clock: self.clock(now),
            token: self.token(),
            is_revoked: self.is_revoked(),
        };
        self.program.ended(&result, data, ledger, circumstances, now)?;
        self.check_view()?;
        if let Ok(Answer::Granted(token)) = &result {
            context.told_grant = Some((self.id, token.0));
        }
        if self.is_scripted {
            self.told = Some(result);
            return Ok(());
        }
        let is_crowded_out = matches!(result, Err(Error::Refused(Reason::TooManySessions)));
        let pause = match context.random.between(0, 19) {
            _ if is_crowded_out => context.random.between(100_000, 10_000_000),
            0 if !context.is_ending => context.random.between(0, 2_500 * context.plan.lease_ms),
            _ => context.random.between(0, context.plan.pause_us),
        };
        context.at(now + pause, Event::Think { client: self.id, life: self.life });
        Ok(())
    }

    /// The process is stopped for a while, as by SIGSTOP.
    pub fn stall(&mut self, until: u64, context: &mut Context) {
        let client = self.id;
        context.story.tell(context.now, || What::Client { client, what: "stalls" });
        self.stalled_until = until;
        self.timer += 1;
        context.at(until, Event::Wake { client, timer: self.timer });
    }

    /// The process is killed.
    pub fn crash(&mut self, context: &mut Context, ledger: &mut Ledger) -> Result<(), String> {
        let client = self.id;
        context.story.tell(context.now, || What::Client { client, what: "crashes" });
        self.exchange = None;
        self.inbox.clear();
        self.life += 1;
        self.stalled_until = 0;
        self.program.vanish(ledger)?;
        let pause = context.random.between(0, 3 * context.plan.lease_ms) * 1000;
        context.at(context.now + pause, Event::Think { client, life: self.life });
        Ok(())
    }

    /// All faults end.
    pub fn heal(&mut self, context: &mut Context) {
        if self.stalled_until > context.now {
            self.stalled_until = 0;
            self.timer += 1;
            context.at(context.now, Event::Wake { client: self.id, timer: self.timer });
        }
        context.at(context.now, Event::Think { client: self.id, life: self.life });
    }
}
