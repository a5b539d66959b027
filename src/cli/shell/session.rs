//! What the commands of the shell do.

use super::command::{Command, help};
use super::interrupt::Interrupt;
use crate::cli::connect::{Purpose, Server};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::copy_part;
use crate::cli::show::{duration, size};
use crate::cli::{status, who};
use crate::client::{Connection, Error};
use crate::types::FencingToken;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Session {
    server: Server,
    connection: Option<Connection>,
    /// Bytes that were appended since the grant.
    staged: u64,
    /// How many files the server has.
    pub(super) files: u32,
    /// In a terminal: what Ctrl-C ends.
    interrupt: Option<Arc<Interrupt>>,
}

impl Session {
    pub(super) fn new(server: Server, interrupt: Option<Arc<Interrupt>>) -> Session {
        Session { server, connection: None, staged: 0, files: 0, interrupt }
    }

    /// What the shell shows before each line.
    pub(super) fn prompt(&self) -> String {
        let Some(connection) = &self.connection else { return "baton (not connected)> ".into() };
        let Some(token) = connection.fencing_token() else { return "baton> ".into() };
        let left = match connection.lease_remaining().as_millis() as u64 {
            0 => "lease over".to_owned(),
            ms => format!("{} left", duration(ms)),
        };
        format!("baton [token {token}, {left}]> ")
    }

    /// Does what was typed. The command that ends the shell is not for here.
    pub(super) fn run(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Connect(server) => self.connect(server),
            Command::Acquire(patience) => self.acquire(patience),
            Command::Try => {
                let token = self.call(Connection::try_acquire)?;
                self.granted(token)
            }
            Command::Append { file, data } => {
                self.call(|connection| connection.append(&file, &data))?;
                self.staged += data.len() as u64;
                say(&format!("staged for {file}; it appears there when the lock is released"))
            }
            Command::Release => {
                self.call(Connection::release)?;
                let staged = std::mem::take(&mut self.staged);
                say(&format!("released: {} published, on stable storage", size(staged)))
            }
            Command::Abort => {
                self.call(Connection::abort)?;
                let staged = std::mem::take(&mut self.staged);
                say(&format!("aborted: {} discarded", size(staged)))
            }
            Command::Renew => {
                self.call(Connection::renew)?;
                let left = self.call(|connection| Ok(connection.lease_remaining()))?;
                say(&format!("renewed: {} left", duration(left.as_millis() as u64)))
            }
            Command::Read { file, offset, length } => self.read(&file, offset, length),
            Command::Status => self.status(),
            Command::Who => {
                let server = self.server.clone();
                let view = who::look(self.connection()?, &server)?;
                who::print(&view)
            }
            Command::Stall(time) => self.stall(time),
            Command::Kill => {
                // What follows is never reached.
                Ok(kill(getpid(), Signal::SIGKILL)?)
            }
            Command::Help => say(help().trim_end()),
            Command::Quit => Ok(()),
        }
    }

    /// Gives the lock back without publishing, and ends the session.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        if connection.fencing_token().is_some() {
            // Closing would publish. What is not released is discarded in any case.
            let _ = connection.abort();
            say(&format!("the lock is given back; {} discarded", size(self.staged)))?;
        }
        // Nothing is held any more.
        let _ = connection.close();
        self.staged = 0;
        Ok(())
    }

    fn connect(&mut self, server: Option<String>) -> anyhow::Result<()> {
        self.end()?;
        if let Some(address) = server {
            self.server = Server::named(address);
        }
        let mut connection = self.server.connect(Purpose::Look)?;
        let (addr, id) = (connection.send_addr(), connection.client_id());
        // Only for completion.
        self.files = connection.server_status().map_or(0, |status| status.files);
        self.connection = Some(connection);
        say(&format!("connected to {addr} as client {id}"))
    }

    fn acquire(&mut self, patience: Option<Duration>) -> anyhow::Result<()> {
        let interrupt = self.interrupt.clone();
        if let Some(interrupt) = &interrupt {
            interrupt.forget();
            match self.connection()?.try_acquire() {
                Ok(token) => return self.granted(token),
                Err(Error::WouldBlock) => {
                    say("somebody else has the lock: waiting; Ctrl-C leaves the queue")?
                }
                Err(error) => return Err(self.failure(error)),
            }
        }
        let token = self.call(|connection| {
            let canceller = connection.canceller();
            let mut wait = || match patience {
                None => connection.acquire(),
                Some(time) => connection.acquire_timeout(time),
            };
            match interrupt {
                None => wait(),
                Some(interrupt) => interrupt.around(|| canceller.cancel(), wait)?,
            }
        })?;
        self.granted(token)
    }

    fn granted(&mut self, token: FencingToken) -> anyhow::Result<()> {
        let left = self.call(|connection| Ok(connection.lease_remaining()))?;
        say(&format!("the lock is held: token {token}, {} left", duration(left.as_millis() as u64)))
    }

    fn read(&mut self, file: &str, offset: u64, length: u64) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let copied = copy_part(self.connection()?, file, (offset, length), &mut out, |_| {});
        out.flush()?;
        drop(out);
        copied.map(drop).map_err(|error| match error.downcast::<Error>() {
            Ok(error) => self.failure(error),
            Err(error) => error,
        })
    }

    fn status(&mut self) -> anyhow::Result<()> {
        let view = self.call(Connection::server_status)?;
        let connection = self.connection()?;
        let lock = match connection.fencing_token() {
            None => "not held by this shell".to_owned(),
            Some(token) => {
                let left = duration(connection.lease_remaining().as_millis() as u64);
                format!("held by this shell under token {token}, {left} left")
            }
        };
        let (id, addr) = (connection.client_id(), connection.send_addr().to_string());
        say(&format!("{:<11}client {id}; the lock is {lock}", "session"))?;
        status::print(&addr, &view)
    }

    fn stall(&mut self, time: Duration) -> anyhow::Result<()> {
        if let Some(interrupt) = &self.interrupt {
            interrupt.forget();
        }
        say(&format!("stalling for {}", duration(time.as_millis() as u64)))?;
        match &self.interrupt {
            Some(interrupt) => interrupt.sleep(time),
            None => std::thread::sleep(time),
        }
        Ok(())
    }

    /// Makes a call of the session.
    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> anyhow::Result<T> {
        call(self.connection()?).map_err(|error| self.failure(error))
    }

    fn connection(&mut self) -> anyhow::Result<&mut Connection> {
        let missing = || Failure::new(Exit::Usage, "not connected; try: connect");
        Ok(self.connection.as_mut().ok_or_else(missing)?)
    }

    /// What went wrong, and what to type next.
    fn failure(&mut self, error: Error) -> anyhow::Error {
        let said = self.connection.as_ref().map(Connection::last_message).unwrap_or_default();
        let text = match &error {
            Error::NotHolder => "the lock is not held; try: acquire".into(),
            Error::WouldBlock => "the lock is not free; who shows who has it".into(),
            Error::LeaseExpired => {
                self.staged = 0;
                // It also knows of operators.
                format!("{said}; acquire begins anew")
            }
            Error::SessionLost => {
                self.staged = 0;
                "the server does not know this session any more; try: connect".into()
            }
            Error::FileNotFound => "the server has no such file".into(),
            error => self.server.explain(error),
        };
        Failure::new(Exit::of_client(&error), text).into()
    }
}

/// Tells the user how it went.
fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
