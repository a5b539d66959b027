//! The server daemon: parse, run, exit code.

use baton::cli::exit::{self, Exit};
use baton::server::config::{ConfigError, ServerConfig};
use baton::server::{self, Operator};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let config = match ServerConfig::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Usage(error)) => return exit::report_usage(&error),
        Err(error) => {
            eprintln!("batond: {error}");
            return Exit::Config.into();
        }
    };
    if config.check_config {
        return match config.check() {
            Ok(()) => {
                print!("{}", config.to_toml());
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("batond: {error}");
                exit_for(&error).into()
            }
        };
    }
    let (level, trace) = reload::Layer::new(config.trace);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    tracing_subscriber::registry().with(level).with(lines).init();
    end_on_panic();
    let operator = Operator {
        reread: &|| ServerConfig::from_args(std::env::args_os()),
        retrace: &|level| {
            // Fails only when there is no subscriber any more.
            let _ = trace.modify(|current| *current = level);
        },
    };
    match server::run(&config, &operator) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("batond: {error}");
            exit_for(&error).into()
        }
    }
}

/// What a service manager or a script can tell from the exit code.
fn exit_for(error: &server::Error) -> Exit {
    use server::backup::manifest::Error as NoBackup;
    use server::{Error, MemberError, OpenError, RestoreError};
    match error {
        Error::Listen { .. } | Error::Http { .. } | Error::Peers { .. } => Exit::Unavailable,
        Error::Cluster(_) => Exit::Config,
        Error::Open(OpenError::Busy(_)) => Exit::Temporary,
        Error::Open(OpenError::Foreign(_) | OpenError::Fewer { .. }) => Exit::Config,
        Error::Open(error) if error.refusal().is_some() => Exit::InputOutput,
        Error::Open(OpenError::Member(
            MemberError::OfCluster { .. } | MemberError::OfAnother { .. } | MemberError::OfSolo(_),
        )) => Exit::Config,
        Error::Open(OpenError::Restore(error)) => match error {
            RestoreError::Used(_) | RestoreError::Interrupted(_) => Exit::Config,
            RestoreError::Backup(NoBackup::Missing(_) | NoBackup::Unfinished(_)) => Exit::Config,
            RestoreError::Backup(_) | RestoreError::Worn => Exit::Data,
        },
        Error::Open(_) => Exit::Data,
        Error::Unsettled => Exit::InputOutput,
        Error::System { .. } => Exit::System,
    }
}

/// A broken invariant in one thread must not leave the others serving on: what is in the log is
/// right, and the next start recovers it.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
