//! A change of a cluster: asked for, asked for again where a leader may have died with it, and
//! followed until it holds.

use super::view::View;
use crate::cli::connect::{Purpose, Server};
use crate::cli::exit::{Exit, Failure};
use crate::client::survey::survey;
use crate::client::{Connection, Error};
use crate::protocol::{Reason, Reform};
use std::thread;
use std::time::{Duration, Instant};

/// What the last attempt brought.
enum State {
    Asked,
    Refused(Reason),
    Unreached(Error),
}

/// Asks for the change until it holds; returns the cluster as it is then.
pub fn follow(server: &Server, reform: &Reform, timeout: Duration) -> anyhow::Result<View> {
    let (begun, mut told) = (Instant::now(), String::new());
    let mut connection = None;
    loop {
        let answers = survey(server.address(), PATIENCE);
        let view = match answers {
            Ok(answers) => View::of(answers),
            Err(Error::Unavailable) => View::of(Vec::new()),
            Err(error) => return Err(server.failure(error)),
        };
        if holds(&view, reform) {
            if let Some(connection) = &mut connection {
                let _ = Connection::close(connection);
            }
            return Ok(view);
        }
        let state = attempt(server, &mut connection, reform);
        if let State::Refused(reason) = &state
            && (!is_passing(*reason) || begun.elapsed() > patience_with(*reason, timeout))
        {
            return Err(refusal(*reason, reform, &view).into());
        }
        let text = progress(&view, reform, &state);
        if begun.elapsed() > timeout {
            let exit = match state {
                State::Unreached(error) => Exit::of_client(&error),
                _ => Exit::Temporary,
            };
            let text = format!("not done in the time given: {text}; baton cluster status tells");
            return Err(Failure::new(exit, text).into());
        }
        if text != told {
            eprintln!("{text}");
            told = text;
        }
        thread::sleep(ASK_EVERY);
    }
}

fn attempt(server: &Server, connection: &mut Option<Connection>, reform: &Reform) -> State {
    let mut ask = || -> Result<(), Error> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(server.open(Purpose::Look)?),
        };
        connection.reform(reform)
    };
    match ask() {
        Ok(()) => State::Asked,
        Err(Error::Refused(reason)) => State::Refused(reason),
        Err(error) => {
            // The next attempt begins anew.
            *connection = None;
            State::Unreached(error)
        }
    }
}

/// The change is made, as its leader says.
fn holds(view: &View, reform: &Reform) -> bool {
    view.is_of_leader()
        && match reform {
            Reform::Add { server, addr } => {
                view.member(*server).is_some_and(|member| member.votes && member.addr == *addr)
            }
            Reform::Remove { server } => *server <= view.newest() && view.member(*server).is_none(),
            Reform::Transfer { server } => view.leader() == *server,
        }
}

/// What stands in the way may go away by itself.
fn is_passing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ChangeUnderWay | Reason::NoQuorum | Reason::NotWaiting | Reason::CannotLead
    )
}

/// How long it is waited for. That a server starts is what an add is about.
fn patience_with(reason: Reason, timeout: Duration) -> Duration {
    if reason == Reason::NotWaiting { timeout } else { timeout.min(PASSING) }
}

fn refusal(reason: Reason, reform: &Reform, view: &View) -> Failure {
    let next = view.newest() + 1;
    let hint = match (reason, reform) {
        (Reason::NumberUsed, _) => format!("; the next one is {next}"),
        (Reason::NotWaiting, Reform::Add { server, .. }) => {
            format!(": batond --node {server} --join … --peer-listen …")
        }
        _ => String::new(),
    };
    let exit = if is_passing(reason) { Exit::Temporary } else { Exit::Failed };
    Failure::new(exit, format!("not done: {}{hint}", reason.text()))
}

/// How far it is.
fn progress(view: &View, reform: &Reform, state: &State) -> String {
    match (reform, state) {
        (_, State::Unreached(error)) => format!("the leader cannot be asked: {error}"),
        (Reform::Add { server, addr }, State::Refused(Reason::NotWaiting)) => format!(
            "waiting for server {server} to ask to be let in: start it with batond --node {server} \
             --join …, so that it is reached at {addr}"
        ),
        (_, State::Refused(reason)) => format!("waiting: {}", reason.text()),
        (Reform::Add { server, addr }, State::Asked) => {
            match view.member(*server).and_then(|member| member.heard_ms_ago) {
                None => format!(
                    "server {server} is let in, and takes over state and files; the others try \
                     to reach it at {addr}"
                ),
                Some(_) => match view.log_behind(*server) {
                    Some(behind) => format!("server {server} catches up: {behind} entries behind"),
                    None => format!("server {server} catches up"),
                },
            }
        }
        (Reform::Remove { server }, State::Asked) => format!("server {server} is being removed"),
        (Reform::Transfer { server }, State::Asked) => {
            format!("server {server} is being handed the lead")
        }
    }
}

/// What there is to say in the end.
pub fn done(reform: &Reform) -> String {
    match reform {
        Reform::Add { server, .. } => format!("Server {server} has caught up and counts."),
        Reform::Remove { server } => format!("Server {server} is removed, its number with it."),
        Reform::Transfer { server } => format!("Server {server} leads."),
    }
}

/// How long servers that do not answer are waited for, each time.
const PATIENCE: Duration = Duration::from_millis(400);
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long something that stands in the way may do so.
const PASSING: Duration = Duration::from_secs(5);
