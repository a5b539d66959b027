//! The command line; [`baton::cli`] has its commands.

use baton::cli::{self, Cli, exit};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::report_usage(&error),
    };
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => exit::report("baton", &error),
    }
}
