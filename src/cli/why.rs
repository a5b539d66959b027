//! `baton why`: what a waiting client waits for.

use super::connect::Purpose;
use super::exit::{Exit, Failure};
use super::show::{ShowArgs, ago, duration, full_name, local_time, name, print_json, size};
use super::who::look;
use crate::json::{self, View};
use crate::protocol::ClientInfo;
use crate::types::SessionId;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Tell what a waiting client waits for, and when that may end
///
/// Without --client: for every client of this host that waits.
#[derive(clap::Args, Clone, Debug)]
pub struct WhyArgs {
    #[command(flatten)]
    show: ShowArgs,
    /// Which client: HOST:PID as `baton who` shows it, or its session or client id
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
}

pub fn run(args: WhyArgs) -> anyhow::Result<()> {
    let server = args.show.server.find()?;
    let mut connection = server.connect(Purpose::Look)?;
    let view = look(&mut connection, &server)?;
    // What was asked for is here.
    let _ = connection.close();
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let is_asked_for = |session: SessionId, client_id: u32, client: &ClientInfo| match &args.client
    {
        None => client.host == host,
        Some(text) => is_named(text, session, client_id, client),
    };
    let found: Vec<_> = (1..)
        .zip(&view.waiters)
        .filter(|(_, waiter)| is_asked_for(waiter.session, waiter.client_id, &waiter.client))
        .collect();
    let holds = view
        .holder
        .as_ref()
        .is_some_and(|holder| is_asked_for(holder.session, holder.client_id, &holder.client));
    if let Some(text) = args.client.as_ref().filter(|_| found.is_empty() && !holds) {
        let message = format!(
            "{text} neither holds the lock nor waits for it; baton who shows who does, and \
             baton history what happened"
        );
        return Err(Failure::new(Exit::Failed, message).into());
    }
    if args.show.json {
        let waiters: Vec<Value> =
            found.iter().map(|(position, waiter)| json::waiter(&view, *position, waiter)).collect();
        return print_json(&json!({
            "schema": "baton.why/1",
            "now": json::utc_time(view.now_ms),
            "holds": holds,
            "waiters": waiters,
            "holder": json::holder(&view),
        }));
    }
    let mut out = io::stdout().lock();
    if found.is_empty() && args.client.is_none() {
        writeln!(out, "Nobody on {host} waits for the lock.")?;
    }
    for (position, waiter) in &found {
        writeln!(
            out,
            "{} waits for the lock: position {position} of {}, for {}, last heard {}.",
            full_name(&waiter.client),
            view.waiters.len(),
            duration(view.age(waiter.since_ms)),
            ago(waiter.heard_ms_ago),
        )?;
    }
    if let Some(text) = held(&view).filter(|_| holds || !found.is_empty()) {
        writeln!(out, "{text}")?;
    }
    Ok(())
}

/// Who holds the lock, and what it takes until it passes on.
fn held(view: &View) -> Option<String> {
    let holder = view.holder.as_ref()?;
    let first = view.waiters.first().map(|waiter| name(&waiter.client));
    let left = duration(holder.lease_left_ms);
    let next = match (&first, holder.is_called, holder.lease_left_ms) {
        (None, true, _) => format!("It was told that its turn has come; it has {left} to answer."),
        (None, false, 0) => "Its lease has run out, but nobody waits: it keeps the lock.".into(),
        (None, false, _) => format!("Its lease ends in {left}; nobody waits for that."),
        (Some(first), true, _) => format!(
            "It was told that its turn has come and has not answered; in {left} the lock passes \
             to {first}."
        ),
        (Some(first), false, _) => format!(
            "Its lease ends in {left} unless it is heard before; then, or when it gives the lock \
             back, the lock passes to {first}."
        ),
    };
    Some(format!(
        "{} holds it under token {} since {} ({}), with {} staged, last heard {}.\n{next}",
        full_name(&holder.client),
        holder.token,
        local_time(holder.since_ms),
        duration(view.age(holder.since_ms)),
        size(holder.staged_bytes),
        ago(holder.heard_ms_ago),
    ))
}

fn is_named(text: &str, session: SessionId, client_id: u32, client: &ClientInfo) -> bool {
    if let Some((host, pid)) = text.rsplit_once(':') {
        return client.host == host && pid.parse() == Ok(client.pid);
    }
    text.parse::<u64>().is_ok_and(|id| id == session.0 || id == u64::from(client_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_by_host_and_pid_session_or_client_id() {
        let client = ClientInfo { host: "h1".into(), pid: 42, ..ClientInfo::default() };
        for text in ["h1:42", "1099511627777", "1"] {
            assert!(is_named(text, SessionId((1 << 40) + 1), 1, &client), "{text}");
        }
        for text in ["h1:4", "h2:42", "42", "h1", ""] {
            assert!(!is_named(text, SessionId((1 << 40) + 1), 1, &client), "{text}");
        }
    }
}
