//! A stage for stories: the same world, in which clients make the calls that a story says and
//! datagrams meet the fate that it gives them. Everything else, the judges above all, is as in
//! other runs.

use super::client::{Client, Told};
use super::context::{Context, Event};
use super::ledger::Ledger;
use super::network::{Direction, Order, Treatment};
use super::program::Ask;
use super::server::Crash;
use super::story::Story;
use super::world::World;
use crate::client::Error;
use crate::client::call::{Answer, Patience};

/// What a client does next.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    Init,
    Acquire,
    Try,
    /// Acquires, and gives up after this many milliseconds.
    Within(u64),
    /// Appends a letter to `file_0`, ...
    Append(char),
    /// ... or to the file of this number, ...
    AppendIn(usize, char),
    /// ... or something to a file of this name, which there is not.
    AppendTo(&'static str),
    Release,
    Renew,
    Abort,
    /// Takes the lock from this client.
    Revoke(usize),
    Close,
}

pub type Verdict = Result<(), String>;

/// A world that stories can be played in.
pub trait Theatre {
    fn now(&self) -> u64;
    fn parts(&mut self) -> (&mut Context, &mut [Client], &mut Ledger);
    fn advance(&mut self) -> Verdict;
    fn end_faults(&mut self) -> Verdict;
    fn run(&mut self, steps: u64) -> Verdict;
}

pub struct Stage<W = World> {
    pub world: W,
}

impl Theatre for World {
    fn now(&self) -> u64 {
        self.context.now
    }

    fn parts(&mut self) -> (&mut Context, &mut [Client], &mut Ledger) {
        (&mut self.context, &mut self.clients, &mut self.ledger)
    }

    fn advance(&mut self) -> Verdict {
        World::advance(self)
    }

    fn end_faults(&mut self) -> Verdict {
        World::end_faults(self)
    }

    fn run(&mut self, steps: u64) -> Verdict {
        World::run(self, steps)
    }
}

impl Stage {
    /// A server and three clients.
    pub fn new(seed: u64, story: Story) -> Stage {
        Stage { world: World::staged(seed, story) }
    }

    /// The server is killed, or its power fails; soon it starts again.
    pub fn crash_server(&mut self, crash: Crash) {
        let World { context, server, .. } = &mut self.world;
        server.crash(crash, context);
    }

    /// Leases last longer from now on.
    pub fn lengthen(&mut self, lease_ms: u64) -> Verdict {
        let World { context, server, .. } = &mut self.world;
        context.plan.lease_ms = lease_ms;
        context.bounds.include(&context.plan);
        let settings = context.plan.settings();
        server.put(settings, context).map(|_| ())
    }

    /// The disk has room for this many bytes more, or as much as anybody wants.
    pub fn set_room(&mut self, bytes: Option<u64>) {
        let World { context, server, .. } = &mut self.world;
        let used = server.disk.used();
        server.disk.set_room(bytes.map(|bytes| used + bytes));
        context.full.push((context.now, context.now));
    }
}

impl<W: Theatre> Stage<W> {
    pub fn now(&self) -> u64 {
        self.world.now()
    }

    pub fn context(&mut self) -> &mut Context {
        self.world.parts().0
    }

    pub(super) fn client(&mut self, client: usize) -> &mut Client {
        &mut self.world.parts().1[client]
    }

    /// A client makes a call, which has to end like this.
    pub fn call(&mut self, client: usize, line: Line, ending: Ending) -> Verdict {
        self.begin(client, line)?;
        self.ends(client, line, ending)?;
        self.pass_ms(1)
    }

    /// A client makes a call, which goes on.
    pub fn begin(&mut self, client: usize, line: Line) -> Verdict {
        let (context, clients, ledger) = self.world.parts();
        let token = |client: usize| clients[client].token().unwrap_or_default();
        let revoked = if let Line::Revoke(holder) = line { token(holder) } else { 0 };
        let client = &mut clients[client];
        let never = || b"never".to_vec();
        let ask = match line {
            Line::Init => Ask::Connect,
            Line::Acquire => Ask::Acquire(Patience::Forever),
            Line::Try => Ask::Acquire(Patience::Try),
            Line::Within(ms) => Ask::Acquire(Patience::Until(client.now(context) + ms * 1000)),
            Line::Append(letter) => client.program.append_letter(letter, 0, ledger),
            Line::AppendIn(file, letter) => client.program.append_letter(letter, file, ledger),
            Line::AppendTo(name) => {
                Ask::Append { name: name.into(), file: None, letter: None, data: never() }
            }
            Line::Release => Ask::Release,
            Line::Renew => Ask::Renew,
            Line::Abort => Ask::Abort,
            Line::Revoke(_) => Ask::Revoke { token: revoked },
            Line::Close => Ask::Close,
        };
        client.begin(ask, context, ledger)
    }

    /// The call that the client has begun has to end like this.
    pub fn ends(&mut self, client: usize, line: Line, ending: Ending) -> Verdict {
        let until = self.now() + LONGEST_US;
        while self.now() < until {
            if let Some(told) = self.client(client).take_told() {
                ending.check(&told).map_err(|why| format!("{client}, {line:?}: {why}"))?;
                let is_revoked = self.client(client).is_revoked();
                if (ending == Ending::Revoked) != is_revoked {
                    return Err(format!("{client}, {line:?}: told it was revoked: {is_revoked}"));
                }
                return Ok(());
            }
            self.world.advance()?;
        }
        Err(format!("{client}, {line:?}: no answer"))
    }

    /// The client's call has not ended.
    pub fn still_waits(&mut self, client: usize) -> Verdict {
        match self.client(client).take_told() {
            None => Ok(()),
            Some(told) => Err(format!("client {client} should wait, but got {told:?}")),
        }
    }

    /// Time passes.
    pub fn pass_ms(&mut self, ms: u64) -> Verdict {
        let until = self.now() + ms * 1000;
        self.context().at(until, Event::Pause);
        while self.now() < until {
            self.world.advance()?;
        }
        Ok(())
    }

    /// The next datagrams of a client meet this fate.
    pub fn order(&mut self, client: usize, direction: Direction, count: usize, what: Treatment) {
        let order = Order { client, direction, count, treatment: what };
        self.context().network.order(order);
    }

    /// The client's process stands still for a while.
    pub fn stall_ms(&mut self, client: usize, ms: u64) {
        let until = self.now() + ms * 1000;
        let (context, clients, _) = self.world.parts();
        clients[client].stall(until, context);
    }

    /// The client's process is killed.
    pub fn kill_client(&mut self, client: usize) -> Verdict {
        let (context, clients, ledger) = self.world.parts();
        clients[client].crash(context, ledger)
    }

    /// `file_0` has these letters.
    pub fn has(&mut self, letters: &str) -> Verdict {
        self.file_has(0, letters)
    }

    pub fn file_has(&mut self, file: usize, letters: &str) -> Verdict {
        let found = self.world.parts().2.letters(file);
        match found == letters {
            true => Ok(()),
            false => Err(format!("file_{file} has {found}, not {letters}")),
        }
    }

    /// The story is over: everybody closes, and all that every run must leave is checked.
    pub fn close(&mut self) -> Verdict {
        self.world.end_faults()?;
        self.world.run(u64::MAX)
    }
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Well,
    NoSuchFile,
    NotHolder,
    Expired,
    /// As that, and the client knows that an operator has done it.
    Revoked,
    WouldBlock,
    Refused,
    TimedOut,
    /// Nobody could be asked, and nothing is done.
    Unavailable,
    /// The session is.
    Lost,
}

impl Ending {
    fn check(self, told: &Told) -> Verdict {
        let is_so = match self {
            Ending::Well => matches!(told, Ok(Answer::Done | Answer::Granted(_))),
            Ending::NoSuchFile => matches!(told, Err(Error::FileNotFound)),
            Ending::NotHolder => matches!(told, Err(Error::NotHolder)),
            Ending::Expired | Ending::Revoked => matches!(told, Err(Error::LeaseExpired)),
            Ending::WouldBlock => matches!(told, Err(Error::WouldBlock)),
            Ending::Refused => matches!(told, Err(Error::Refused(_))),
            Ending::TimedOut => matches!(told, Err(Error::TimedOut)),
            Ending::Unavailable => matches!(told, Err(Error::Unavailable)),
            Ending::Lost => matches!(told, Err(Error::SessionLost)),
        };
        if is_so { Ok(()) } else { Err(format!("{told:?} instead of {self:?}")) }
    }
}

/// No call of a story takes longer.
const LONGEST_US: u64 = 40_000_000;
