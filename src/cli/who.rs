//! `baton who`: who holds the lock and who waits for it. `baton why` starts from the same view.

use super::connect::{Purpose, Server};
use super::show::{
    ShowArgs, Table, ago, client_json, duration, local_time, name, plain, print_json, size,
    utc_time,
};
use crate::client::Connection;
use crate::protocol::inspect::{HolderView, WaiterView};
use crate::types::{Millis, Ticket};
use serde_json::{Value, json};

/// Show who holds the lock and who waits for it
#[derive(clap::Args, Clone, Debug)]
pub struct WhoArgs {
    #[command(flatten)]
    show: ShowArgs,
}

/// The lock and its whole queue.
pub struct View {
    /// The server's clock.
    pub now_ms: Millis,
    pub holder: Option<HolderView>,
    /// First come first.
    pub waiters: Vec<WaiterView>,
}

pub fn run(args: WhoArgs) -> anyhow::Result<()> {
    let server = args.show.server.find()?;
    let mut connection = server.connect(Purpose::Look)?;
    let view = look(&mut connection, &server)?;
    // What was asked for is here.
    let _ = connection.close();
    if args.show.json {
        let waiters: Vec<Value> =
            (1..).zip(&view.waiters).map(|(n, waiter)| waiter_json(&view, n, waiter)).collect();
        return print_json(&json!({
            "schema": "baton.who/1",
            "now": utc_time(view.now_ms),
            "holder": holder_json(&view),
            "waiters": waiters,
        }));
    }
    let Some(holder) = &view.holder else {
        println!("The lock is free.");
        return Ok(());
    };
    let mut table =
        Table::new(&["HOLDER", "PROGRAM", "USER", ">TOKEN", "SINCE", ">LEASE", ">STAGED", "HEARD"]);
    table.row(vec![
        name(&holder.client),
        plain(&holder.client.program),
        plain(&holder.client.user),
        holder.token.to_string(),
        format!("{} ({})", local_time(holder.since_ms), duration(age(&view, holder.since_ms))),
        lease(holder),
        size(holder.staged_bytes),
        ago(holder.heard_ms_ago),
    ]);
    table.print()?;
    if view.waiters.is_empty() {
        println!("Nobody waits.");
        return Ok(());
    }
    println!();
    let mut table = Table::new(&[">POSITION", "WAITER", "PROGRAM", "USER", ">WAITS", "HEARD"]);
    for (position, waiter) in (1..).zip(&view.waiters) {
        table.row(vec![
            format!("{position}"),
            name(&waiter.client),
            plain(&waiter.client.program),
            plain(&waiter.client.user),
            duration(age(&view, waiter.since_ms)),
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

/// How long ago that was by the server's clock.
pub fn age(view: &View, since_ms: Millis) -> u64 {
    view.now_ms.0.saturating_sub(since_ms.0)
}

/// What is left of the lease, or what goes on instead.
fn lease(holder: &HolderView) -> String {
    match (holder.is_called, holder.lease_left_ms) {
        (true, _) => "called, not heard yet".into(),
        (false, 0) => "run out, nobody waits".into(),
        (false, left) => duration(left),
    }
}

pub fn holder_json(view: &View) -> Value {
    let Some(holder) = &view.holder else { return Value::Null };
    let mut client = client_json(holder.session, &holder.client);
    client["client_id"] = json!(holder.client_id);
    json!({
        "client": client,
        "token": holder.token.0,
        "since": utc_time(holder.since_ms),
        "held_ms": age(view, holder.since_ms),
        "lease_left_ms": holder.lease_left_ms,
        "is_called": holder.is_called,
        "staged_bytes": holder.staged_bytes,
        "heard_ms_ago": holder.heard_ms_ago,
    })
}

pub fn waiter_json(view: &View, position: usize, waiter: &WaiterView) -> Value {
    let mut client = client_json(waiter.session, &waiter.client);
    client["client_id"] = json!(waiter.client_id);
    json!({
        "client": client,
        "position": position,
        "since": utc_time(waiter.since_ms),
        "waited_ms": age(view, waiter.since_ms),
        "heard_ms_ago": waiter.heard_ms_ago,
    })
}
