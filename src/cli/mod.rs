//! The command line `baton`: one module a subcommand, each with its arguments and a `run`. This
//! file is the frame: the list of subcommands, and how an error becomes a line and an exit code.

mod append;
mod backup;
mod bench;
mod cat;
mod chain;
mod cluster;
mod connect;
pub mod exit;
mod files;
mod history;
mod lock;
mod manual;
mod output;
mod progress;
mod proxy;
mod revoke;
mod seconds;
mod shell;
mod show;
mod sim;
mod status;
mod tail;
mod wal;
mod who;
mod why;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::io;
use std::process::ExitCode;

/// Take a lock that programs on many machines share, append to files under it, see who has it
///
/// A server, batond, has one lock and a number of append-only files, file_0, file_1 and so on.
/// Whoever holds the lock may append; what was appended appears in the files all at once when the
/// lock is released, or not at all.
///
/// To begin with: baton lock -- COMMAND runs a command while it holds the lock, baton append
/// appends, baton cat reads, baton who shows who has the lock and who waits. Each command has its
/// own --help; docs/TUTORIAL.md goes through them.
#[derive(Debug, Parser)]
#[command(name = "baton", version, max_term_width = 100, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, propagate_version = true)]
#[command(after_help = exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Append(append::AppendArgs),
    Backup(backup::BackupArgs),
    Bench(bench::BenchArgs),
    Cat(cat::CatArgs),
    Cluster(cluster::ClusterArgs),
    Files(files::FilesArgs),
    History(history::HistoryArgs),
    Lock(lock::LockArgs),
    Proxy(proxy::ProxyArgs),
    Revoke(revoke::RevokeArgs),
    Shell(shell::ShellArgs),
    Status(status::StatusArgs),
    Tail(tail::TailArgs),
    Wal(wal::WalArgs),
    Who(who::WhoArgs),
    Why(why::WhyArgs),
    Sim(sim::SimArgs),
    /// Print a completion script for a shell
    Completions {
        shell: Shell,
    },
    /// Write the manual pages baton.1, baton-*.1 and batond.8 into a directory
    #[command(hide = true)]
    Man(manual::ManArgs),
}

/// Runs the command that the arguments name. Returns the code to end with.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let done = match cli.command {
        Command::Lock(args) => return lock::run(args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "baton", &mut io::stdout());
            Ok(())
        }
        Command::Append(args) => append::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Cluster(args) => cluster::run(args),
        Command::History(args) => history::run(args),
        Command::Proxy(args) => proxy::run(args),
        Command::Revoke(args) => revoke::run(args),
        Command::Status(args) => status::run(args),
        Command::Wal(args) => wal::run(args),
        Command::Who(args) => who::run(args),
        Command::Why(args) => why::run(args),
        Command::Files(args) => files::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Sim(args) => sim::run(args),
        Command::Shell(args) => return shell::run(args),
        Command::Man(args) => manual::run(args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
