//! `baton lock`: flock(1) across machines. It runs a command while it holds the lock.
//!
//! ```text
//! front ── keeper (a thread)        has the connection: acquires, renews, releases
//!   └─ guard                        starts the command, knows when it has ended, ends it in time
//!        └─ command, and all that it starts
//! ```
//!
//! The lease must not pass to another while anything of the command runs. So the front and the
//! guard both watch the lease ([`watch`]) and end the command while some of it is left: when no
//! server answers, when the front is stopped or killed, when the guard is killed. A guard that is
//! stopped, be it together with the front, is killed by the kernel when the lease runs out, and the
//! command's process group ends with the guard ([`crate::sys::Tether`]).
//!
//! What is not covered: with front and guard both stopped or killed, processes that have left the
//! command's group, or all of them with `--close` once the command itself has ended; a command that
//! was stopped together with both, in the moment in which all are continued; a command that changes to
//! another user. There the fencing token decides, which the command finds in `BATON_LOCK_TOKEN`.

mod end;
mod family;
mod front;
mod guard;
mod keeper;
mod lease;
mod link;
mod terminal;
mod watch;

use super::connect::{Server, ServerArgs};
use super::exit::{Exit, Failure};
use super::seconds::Seconds;
use crate::sys::fork_running;
use end::End;
use front::Front;
use guard::Guard;
use keeper::{Keeper, Patience};
use lease::SharedLease;
use link::Link;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Run a command while holding the lock: flock(1) across machines
///
/// Waits for the lock, runs the command, and gives the lock back when the command and all that it
/// started have ended. The lease is renewed meanwhile. When that fails, the command gets SIGTERM
/// and then SIGKILL, so that it is gone before the lock can pass to another; the same when `baton
/// lock` itself is stopped or killed.
///
/// The command finds the fencing token of the lock in BATON_LOCK_TOKEN and the server in
/// BATON_SERVER. Signals are passed on to it.
///
/// Options are those of flock(1), without the lock file: the server has one lock. It is always held
/// alone, so -s (shared) is refused; and it ends with the command, so -u (unlock) is.
#[derive(clap::Args, Clone, Debug)]
#[command(args_override_self = true, infer_long_args = true)]
#[command(after_help = EXIT_HELP, override_usage = "baton lock [OPTIONS] [--] COMMAND...\n       \
    baton lock [OPTIONS] -c COMMAND")]
pub struct LockArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Fail rather than wait when the lock is not free
    #[arg(short, long, alias = "nb", visible_alias = "nonblocking")]
    nonblock: bool,
    /// Wait at most this many seconds, such as 2.5; 0 is the same as -n
    #[arg(short, long, value_name = "SECONDS", visible_alias = "timeout")]
    wait: Option<Seconds>,
    /// The exit code when the lock is not free, or not in time
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = 1)]
    conflict_exit_code: u8,
    /// Hold the lock alone: this is always so
    #[arg(short = 'x', long, short_alias = 'e')]
    exclusive: bool,
    /// Give the lock back when the command ends, whatever it leaves running in the background
    #[arg(short = 'o', long)]
    close: bool,
    /// Run this with the shell ($SHELL, or /bin/sh)
    #[arg(short, long = "command", value_name = "COMMAND", conflicts_with = "program")]
    command_line: Option<OsString>,
    /// Tell on standard error what happens
    #[arg(long)]
    verbose: bool,
    #[arg(short, long, hide = true)]
    shared: bool,
    #[arg(short, long, hide = true)]
    unlock: bool,
    /// Accepted, and changes nothing: the command cannot replace `baton lock`, which renews the lease,
    /// but signals and the exit status are passed on
    #[arg(short = 'F', long, conflicts_with = "close")]
    no_fork: bool,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    program: Vec<OsString>,
}

const EXIT_HELP: &str = "Exit codes: that of the command; 128 and its number if a signal ended it; \
    1 (or that of -E) the lock was not free; 64 wrong usage; 69 no server reached; 71 the system \
    refused something; 75 the lease could not be kept, and the command was ended or the lock lost \
    before it ended; 126 or 127 the command cannot be executed or does not exist.";

impl LockArgs {
    /// Whether the lock is to be had at once or not at all.
    fn waits_not(&self) -> bool {
        self.nonblock || self.wait.is_some_and(|wait| wait.0.is_zero())
    }

    fn patience(&self) -> Patience {
        match self.wait {
            _ if self.waits_not() => Patience::For(Duration::ZERO),
            Some(wait) => Patience::For(wait.0),
            None => Patience::Forever,
        }
    }

    /// What is run, for messages.
    fn program(&self) -> String {
        let program = self.command_line.as_ref().or(self.program.first());
        program.map(|program| program.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn command(&self, server: &Server) -> Result<Command, Failure> {
        self.check()?;
        let mut command = match (&self.command_line, self.program.split_first()) {
            (Some(line), _) => {
                let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
                let mut command = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()));
                command.arg("-c").arg(line);
                command
            }
            (None, Some((program, arguments))) => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            (None, None) => {
                return Err(usage("no command; try: baton lock -- echo 'I have the lock'"));
            }
        };
        command.env("BATON_SERVER", server.address());
        Ok(command)
    }

    /// Refuses what flock(1) has and a leased lock cannot have.
    fn check(&self) -> Result<(), Failure> {
        if self.shared {
            return Err(usage("-s: there is no shared lock; without -s the lock is held alone"));
        }
        if self.unlock {
            return Err(usage(
                "-u: the lock is given back when the command ends; to take it from a command \
                 that does not end, stop that command",
            ));
        }
        Ok(())
    }
}

/// Runs the command under the lock. Returns the code to end with.
pub fn run(args: LockArgs) -> anyhow::Result<ExitCode> {
    let server = args.server.find()?;
    let command = args.command(&server)?;
    let handled: SigSet = HANDLED.into_iter().collect();
    let mask = SigSet::thread_get_mask()?;
    handled.thread_block()?;
    // Taking the terminal back from the command is what a process in the background is stopped for.
    SigSet::from(Signal::SIGTTOU).thread_block()?;
    let signals = SignalFd::with_flags(&handled, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // Should the guard die, whom it looked after comes to this process.
    set_child_subreaper(true)?;
    let lease = SharedLease::new()?;
    let (link, guard_link) = Link::pair()?;
    let is_close = args.close;
    let mut ends = Some((link, guard_link));
    let guard = fork_running(|| {
        // The front's end is closed here: a copy would hide the front's death.
        let Some((front, link)) = ends.take() else { return 1 };
        drop(front);
        Guard { command, mask, link, lease, is_close }.run()
    })?;
    // The child never gets here, so the ends are still there. That of the guard is closed: a copy
    // would hide the guard's death.
    let Some((link, guard_link)) = ends.take() else { anyhow::bail!("no link to the guard") };
    drop(guard_link);
    let keeper = Keeper::start(server.address().to_owned(), args.patience(), lease)?;
    let front = Front::new((args, server), signals, (link, guard), lease, keeper)?;
    match front.run()? {
        End::Status(status) => Ok(ExitCode::from(status)),
        End::Signal(signal) => end_by(signal),
    }
}

/// Tells the user something.
fn say(message: &str) {
    eprintln!("baton lock: {message}");
}

fn usage(message: &str) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// Ends this process by the signal, as if it had not been held off.
fn end_by(signal: Signal) -> anyhow::Result<ExitCode> {
    let mut mask = SigSet::empty();
    mask.add(signal);
    raise(signal)?;
    mask.thread_unblock()?;
    // Only a signal that is ignored gets here.
    Ok(ExitCode::from(128 + signal as u8))
}

/// The signals that are passed on.
const HANDLED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];
