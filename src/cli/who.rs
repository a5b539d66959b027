//! `baton who`: who holds the lock and who waits for it. `baton why` starts from the same view.

use super::connect::{Purpose, Server};
use super::show::{ShowArgs, Table, ago, duration, local_time, name, plain, print_json, size};
use crate::client::Connection;
use crate::json::{self, View};
use crate::protocol::inspect::HolderView;
use crate::types::Ticket;
use std::io::{self, Write};

/// Show who holds the lock and who waits for it
#[derive(clap::Args, Clone, Debug)]
pub struct WhoArgs {
    #[command(flatten)]
    show: ShowArgs,
}

pub fn run(args: WhoArgs) -> anyhow::Result<()> {
    let server = args.show.server.find()?;
    let mut connection = server.connect(Purpose::Look)?;
    let view = look(&mut connection, &server)?;
    // What was asked for is here.
    let _ = connection.close();
    if args.show.json {
        return print_json(&json::who(&view));
    }
    print(&view)
}

/// Shows it to a person.
pub fn print(view: &View) -> anyhow::Result<()> {
    let Some(holder) = &view.holder else {
        writeln!(io::stdout(), "The lock is free.")?;
        return Ok(());
    };
    let mut table =
        Table::new(&["HOLDER", "PROGRAM", "USER", ">TOKEN", "SINCE", ">LEASE", ">STAGED", "HEARD"]);
    table.row(vec![
        name(&holder.client),
        plain(&holder.client.program),
        plain(&holder.client.user),
        holder.token.to_string(),
        format!("{} ({})", local_time(holder.since_ms), duration(view.age(holder.since_ms))),
        lease(holder),
        size(holder.staged_bytes),
        ago(holder.heard_ms_ago),
    ]);
    table.print()?;
    if view.waiters.is_empty() {
        writeln!(io::stdout(), "Nobody waits.")?;
        return Ok(());
    }
    writeln!(io::stdout())?;
    let mut table = Table::new(&[">POSITION", "WAITER", "PROGRAM", "USER", ">WAITS", "HEARD"]);
    for (position, waiter) in (1..).zip(&view.waiters) {
        table.row(vec![
            format!("{position}"),
            name(&waiter.client),
            plain(&waiter.client.program),
            plain(&waiter.client.user),
            duration(view.age(waiter.since_ms)),
            ago(waiter.heard_ms_ago),
        ]);
    }
    Ok(table.print()?)
}

/// Takes all pages of the lock.
pub fn look(connection: &mut Connection, server: &Server) -> anyhow::Result<View> {
    let mut page = |from| connection.lock_page(from).map_err(|error| server.failure(error));
    let (first, mut next) = page(Ticket(0))?;
    let mut view = View { now_ms: first.now_ms, holder: first.holder, waiters: first.waiters };
    while let Some(from) = next {
        let (more, after) = page(from)?;
        view.waiters.extend(more.waiters);
        next = after;
    }
    Ok(view)
}

/// What is left of the lease, or what goes on instead.
fn lease(holder: &HolderView) -> String {
    match (holder.is_called, holder.lease_left_ms) {
        (true, _) => "called, not heard yet".into(),
        (false, 0) => "run out, nobody waits".into(),
        (false, left) => duration(left),
    }
}
