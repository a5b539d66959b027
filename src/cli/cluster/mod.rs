//! `baton cluster`: who belongs to a cluster, and changes of that.

mod change;
mod view;

use super::show::{ShowArgs, print_json};
use crate::client::survey::survey;
use crate::protocol::Reform;
use crate::server::cluster::settings::{check_addr, node};
use crate::units::parse_duration_ms;
use clap::Subcommand;
use std::io::{self, Write};
use std::time::Duration;
use view::View;

/// Show the servers of a cluster, add one, remove one, have another one lead
#[derive(clap::Args, Clone, Debug)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Show each server: role, how far it is behind, whether it answers
    ///
    /// Every server is asked, also those that the named ones know of, and answers from what it
    /// knows: this works without a leader.
    Status {
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Let a server in that waits for it (batond --node NUMBER --join …)
    ///
    /// It takes over what the others have, catches up, and then counts for a majority. The command
    /// waits for that; the server goes on catching up also without it.
    Add {
        #[command(flatten)]
        change: ChangeArgs,
        /// A number that no server of the cluster has had, above all those, and the TCP address at
        /// which the others reach the server
        #[arg(value_name = "NUMBER=HOST:PORT", value_parser = added)]
        added: (u64, String),
    },
    /// Remove a server for ever: its number is not used again
    ///
    /// It may be dead, if a majority of those who stay is not. One that lives ends by itself; a
    /// leader hands the lead over first.
    Remove {
        #[command(flatten)]
        change: ChangeArgs,
        #[arg(value_name = "NUMBER", value_parser = node)]
        number: u64,
    },
    /// Have a server lead
    Transfer {
        #[command(flatten)]
        change: ChangeArgs,
        #[arg(value_name = "NUMBER", value_parser = node)]
        number: u64,
    },
}

/// Flags of the commands that change something.
#[derive(clap::Args, Clone, Debug)]
struct ChangeArgs {
    #[command(flatten)]
    show: ShowArgs,
    /// How long to wait until it is done
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration_ms)]
    timeout: u64,
}

pub fn run(args: ClusterArgs) -> anyhow::Result<()> {
    let (change, reform) = match args.command {
        Command::Status { show } => return status(&show),
        Command::Add { change, added: (server, addr) } => (change, Reform::Add { server, addr }),
        Command::Remove { change, number } => (change, Reform::Remove { server: number }),
        Command::Transfer { change, number } => (change, Reform::Transfer { server: number }),
    };
    let server = change.show.server.find()?;
    let view = change::follow(&server, &reform, Duration::from_millis(change.timeout))?;
    if change.show.json {
        return print_json(&view.json());
    }
    writeln!(io::stdout(), "{}", change::done(&reform))?;
    Ok(())
}

fn status(show: &ShowArgs) -> anyhow::Result<()> {
    let server = show.server.find()?;
    let answers = survey(server.address(), PATIENCE).map_err(|error| server.failure(error))?;
    let view = View::of(answers);
    if show.json { print_json(&view.json()) } else { view.print() }
}

fn added(text: &str) -> Result<(u64, String), String> {
    let expected = || "expected NUMBER=HOST:PORT (as in 4=db4:10001)".to_owned();
    let (number, addr) = text.split_once('=').ok_or_else(expected)?;
    check_addr(addr).map_err(|why| format!("{why} behind the number"))?;
    Ok((node(number)?, addr.to_owned()))
}

/// How long servers that do not answer are waited for.
const PATIENCE: Duration = Duration::from_secs(1);
