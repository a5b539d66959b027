//! `baton revoke`: an operator takes the lock away.

use super::connect::Purpose;
use super::exit::{Exit, Failure};
use super::show::{ShowArgs, full_name, print_json, size};
use super::who::look;
use crate::client::Error;
use crate::json;
use crate::limits::REASON_TEXT_MAX;
use crate::protocol::Reason;
use crate::types::FencingToken;
use serde_json::json;
use std::io::{self, Write};

/// Take the lock away from its holder and discard what it has staged
///
/// The holder's next call fails, the next waiter is granted the lock at once, and `baton history`
/// shows who did it and why. The former holder learns of it when it calls next, `baton lock` within
/// half a second, and then kills its command: until then it may go on with what it does outside of
/// Baton, but nothing that it appends is published.
#[derive(clap::Args, Clone, Debug)]
pub struct RevokeArgs {
    #[command(flatten)]
    show: ShowArgs,
    /// The token under which the lock is held, as `baton who` shows it: whoever holds it by now
    /// under another keeps it
    token: u64,
    /// Why, for everybody to read in the history
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

pub fn run(args: RevokeArgs) -> anyhow::Result<()> {
    let server = args.show.server.find()?;
    let mut connection = server.connect(Purpose::Look)?;
    let view = look(&mut connection, &server)?;
    let holder = view.holder.as_ref().filter(|holder| holder.token.0 == args.token);
    let revoked = connection.revoke(FencingToken(args.token), &args.reason);
    // What was asked for is done or refused.
    let _ = connection.close();
    revoked.map_err(|error| match error {
        Error::Refused(Reason::NotHeld) => Failure::new(
            Exit::Failed,
            format!(
                "nobody holds the lock under token {}: nothing was changed; baton who shows the \
                 holder's token",
                args.token
            ),
        )
        .into(),
        // It may have been done.
        Error::TimedOut => Failure::new(
            Exit::Unavailable,
            "the server did not answer: whether the lock was taken away, baton history tells",
        )
        .into(),
        error => server.failure(error),
    })?;
    if args.show.json {
        return print_json(&json!({
            "schema": "baton.revoke/1",
            "token": args.token,
            "reason": args.reason,
            "holder": holder.map(|_| json::holder(&view)),
        }));
    }
    match holder {
        Some(holder) => writeln!(
            io::stdout(),
            "Took the lock from {}, token {}; {} discarded.",
            full_name(&holder.client),
            holder.token,
            size(holder.staged_bytes)
        )?,
        None => writeln!(io::stdout(), "Took the lock away, token {}.", args.token)?,
    }
    Ok(())
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why".into()),
        text if text.len() > REASON_TEXT_MAX => {
            Err(format!("at most {REASON_TEXT_MAX} bytes, this is {}", text.len()))
        }
        text => Ok(text.to_owned()),
    }
}
