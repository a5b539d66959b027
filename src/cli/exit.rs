//! How a command ends badly: one line on standard error that says what to try next, and a code
//! of sysexits(3), so that a script can tell "try again later" from "you typed it wrong".

use crate::client::Error;
use std::io;
use std::process::ExitCode;

/// The codes that `baton` and `batond` exit with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A check found something wrong, or none of the others fits.
    Failed = 1,
    /// The command line is wrong.
    Usage = 64,
    /// Data is damaged.
    Data = 65,
    /// An input does not exist.
    NoInput = 66,
    /// No server could be reached.
    Unavailable = 69,
    /// A defect in Baton.
    Software = 70,
    /// The operating system refused something.
    System = 71,
    /// Reading or writing failed.
    InputOutput = 74,
    /// It may work later.
    Temporary = 75,
    /// Not allowed.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
}

/// What `--help` says about exit codes.
pub const HELP: &str = "Exit codes: 0 done, 1 failed or damage found, 64 wrong usage, 65 data \
    damaged, 66 no such file, 69 no server reached, 70 a defect (please report it), 71 or 74 the system refused, \
    75 try again later, 77 not allowed.";

/// An error whose exit code is known where it arises.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure that ends the program with this code after this line.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into() }
    }
}

impl Exit {
    /// The code for what a call to a server ended with.
    pub fn of_client(error: &Error) -> Exit {
        match error {
            Error::FileNotFound => Exit::NoInput,
            Error::InvalidArgument(_) => Exit::Usage,
            Error::Unavailable => Exit::Unavailable,
            Error::WouldBlock
            | Error::TimedOut
            | Error::LeaseExpired
            | Error::NotHolder
            | Error::SessionLost
            | Error::Refused(_) => Exit::Temporary,
            Error::TooLarge => Exit::Data,
            Error::System(_) | Error::NotOpen => Exit::System,
            Error::Internal(_) => Exit::Software,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Says on standard error why the program ends, and returns the code to end with.
pub fn report(program: &str, error: &anyhow::Error) -> ExitCode {
    let exit = exit_for(error);
    if exit != Exit::Ok {
        eprintln!("{program}: {error:#}");
    }
    exit.into()
}

/// Prints what clap has to say, be it help or a mistake, and returns the code to end with.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    // Whoever closed the stream does not want to read it.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
}

fn exit_for(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(error) = cause.downcast_ref::<Error>() {
            return Exit::of_client(error);
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return exit_for_io(error);
        }
    }
    Exit::Failed
}

fn exit_for_io(error: &io::Error) -> Exit {
    match error.kind() {
        // Whoever read our output has seen enough of it, as in `baton cat file_0 | head -1`.
        io::ErrorKind::BrokenPipe => Exit::Ok,
        io::ErrorKind::NotFound => Exit::NoInput,
        io::ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::InputOutput,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_cause_decides_the_code_below_any_context() {
        let wrapped = |error: io::Error| anyhow::Result::<()>::Err(error.into()).context("reading");
        let code = |kind| exit_for(&wrapped(io::Error::from(kind)).unwrap_err());
        assert_eq!(code(io::ErrorKind::NotFound), Exit::NoInput);
        assert_eq!(code(io::ErrorKind::PermissionDenied), Exit::Permission);
        assert_eq!(code(io::ErrorKind::BrokenPipe), Exit::Ok);
        assert_eq!(code(io::ErrorKind::Other), Exit::InputOutput);
        let failure = anyhow::Error::new(Failure::new(Exit::Data, "damaged")).context("checking");
        assert_eq!(exit_for(&failure), Exit::Data);
        let unreachable = anyhow::Error::new(Error::Unavailable).context("connecting");
        assert_eq!(exit_for(&unreachable), Exit::Unavailable);
        assert_eq!(exit_for(&anyhow::anyhow!("a guess")), Exit::Failed);
    }
}
