//! The server daemon: parse, run, exit code.

use baton::server::config::{ConfigError, ServerConfig};
use std::io::IsTerminal;
use std::process::ExitCode;

/// sysexits(3): the configuration is wrong.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let config = match ServerConfig::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Usage(error)) => error.exit(),
        Err(error) => {
            eprintln!("batond: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_max_level(config.trace)
        .init();
    end_on_panic();
    match baton::server::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("batond: {error}");
            ExitCode::FAILURE
        }
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
