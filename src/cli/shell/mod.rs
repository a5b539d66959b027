//! `baton shell`: a client to type at, for demonstrations and for trying out what happens when one
//! stalls or dies. [`command`] is what can be typed, [`session`] what it does, [`editor`] the
//! keyboard, [`interrupt`] Ctrl-C.

mod command;
mod editor;
mod interrupt;
mod session;

use super::connect::ServerArgs;
use super::exit::{self, Exit, Failure};
use command::Command;
use editor::{Keyboard, Line};
use interrupt::Interrupt;
use session::Session;
use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

/// Type the calls of a client one by one: acquire, append, stall, release, kill
///
/// In a terminal the prompt shows the token and what was left of the lease when it appeared; Tab
/// completes, the arrow keys go through what was typed before, Ctrl-C ends a wait, Ctrl-D the shell.
/// From a pipe or a file, the commands are done one after the other; the first that fails ends the
/// shell with its exit code, unless --keep-going is given. A section that was not released when the
/// shell ends is discarded.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = help())]
pub struct ShellArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Go on after a command that failed; the exit code is that of the first
    #[arg(short, long)]
    keep_going: bool,
}

fn help() -> String {
    format!(
        "Commands:\n{}\nExample:\n  \
         printf 'acquire\\nappend file_0 hello\\nrelease\\n' | baton shell",
        command::help()
    )
}

pub fn run(args: ShellArgs) -> anyhow::Result<ExitCode> {
    let server = args.server.find()?;
    if io::stdin().is_terminal() {
        let session = Session::new(server, Some(Interrupt::listen()?));
        return converse(session).map(|()| ExitCode::SUCCESS);
    }
    let mut session = Session::new(server, None);
    let done = follow(&mut session, args.keep_going);
    session.end()?;
    done
}

/// With a person. What fails is told, and the next line asked for.
fn converse(mut session: Session) -> anyhow::Result<()> {
    let mut keyboard = Keyboard::new()?;
    tell(session.run(Command::Connect(None)));
    println!("help lists the commands, Ctrl-D ends.");
    loop {
        keyboard.set_files(session.files);
        let line = match keyboard.read(&session.prompt())? {
            Line::Typed(line) => line,
            Line::Dropped => continue,
            Line::End => break,
        };
        match parse(&line) {
            Ok(None) => {}
            Ok(Some(Command::Quit)) => break,
            // Kill leaves no time to save it later.
            Ok(Some(command)) => {
                if command == Command::Kill {
                    keyboard.save();
                }
                tell(session.run(command));
            }
            Err(error) => tell(Err(error)),
        }
    }
    keyboard.save();
    session.end()
}

/// The lines of the standard input. Returns the code of the first failure.
fn follow(session: &mut Session, keeps_going: bool) -> anyhow::Result<ExitCode> {
    session.run(Command::Connect(None))?;
    let mut code = Ok(ExitCode::SUCCESS);
    for (number, line) in (1..).zip(io::stdin().lock().lines()) {
        let done = match parse(&line?) {
            Ok(None) => continue,
            Ok(Some(Command::Quit)) => break,
            Ok(Some(command)) => session.run(command),
            Err(error) => Err(error),
        };
        let Err(error) = done.map_err(|error| error.context(format!("line {number}"))) else {
            continue;
        };
        if !keeps_going {
            return Err(error);
        }
        let this = exit::report("baton shell", &error);
        code = code.map(|first| if first == ExitCode::SUCCESS { this } else { first });
    }
    code
}

fn parse(line: &str) -> anyhow::Result<Option<Command>> {
    command::parse(line).map_err(|why| Failure::new(Exit::Usage, why).into())
}

fn tell(done: anyhow::Result<()>) {
    if let Err(error) = done {
        eprintln!("{error:#}");
    }
}
