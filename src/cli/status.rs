//! `baton status`: how the server is.

use super::connect::Purpose;
use super::show::{ShowArgs, duration, local_time, print_json, size};
use crate::json;
use crate::protocol::inspect::{RecordKind, ServerStatus};
use std::io::{self, Write};

/// Show how the server is: version, uptime, lock, queue, files, log, counters
#[derive(clap::Args, Clone, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    show: ShowArgs,
}

pub fn run(args: StatusArgs) -> anyhow::Result<()> {
    let server = args.show.server.find()?;
    let mut connection = server.connect(Purpose::Look)?;
    let status = connection.server_status().map_err(|error| server.failure(error))?;
    let addr = connection.send_addr().to_string();
    // What was asked for is here.
    let _ = connection.close();
    if args.show.json {
        return print_json(&json::status(&addr, &status));
    }
    print(&addr, &status)
}

/// Shows it to a person.
pub fn print(addr: &str, status: &ServerStatus) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for (what, text) in lines(addr, status) {
        writeln!(out, "{what:<11}{text}")?;
    }
    Ok(())
}

fn lines(addr: &str, status: &ServerStatus) -> Vec<(&'static str, String)> {
    let lock = match status.token.0 {
        0 => "free".to_owned(),
        token => format!("held under token {token}, {} staged", size(status.staged_bytes)),
    };
    let durability = if status.is_synced { "sync" } else { "os" };
    let counters = &status.counters;
    let behind = status.log_last - status.log_published.min(status.log_last);
    let recorded = RecordKind::ALL.into_iter().zip(status.recorded);
    let recorded = recorded.filter(|(_, count)| *count > 0);
    let recorded: Vec<String> =
        recorded.map(|(kind, count)| format!("{} {count}", kind.word())).collect();
    vec![
        ("server", format!("{addr}, version {}", status.version)),
        ("up", format!("{}, start {}", duration(status.uptime_ms.0), status.epoch)),
        ("clock", local_time(status.now_ms)),
        ("lock", format!("{lock}, {} waiting", status.waiters)),
        ("sessions", status.sessions.to_string()),
        (
            "settings",
            format!(
                "durability {durability}, lease {}, session-ttl {}, section-limit {}",
                duration(status.lease_ms),
                duration(status.session_ttl_ms),
                size(status.section_limit)
            ),
        ),
        ("data", status.data_dir.clone()),
        ("files", format!("{}, {} published", status.files, size(status.published_bytes))),
        (
            "log",
            format!(
                "{}, entry {}, {behind} not yet stable",
                size(status.log_bytes),
                status.log_last
            ),
        ),
        (
            "disk",
            match status.room_bytes {
                u64::MAX => "free space not known".to_owned(),
                room => format!("{} free", size(room)),
            },
        ),
        (
            "requests",
            format!(
                "{}; repeated {}, late {}, refused {}; malformed datagrams {}",
                counters.requests,
                counters.repeats,
                counters.ignored,
                counters.refused,
                counters.malformed
            ),
        ),
        ("history", format!("{} records kept; ever: {}", status.records, recorded.join(", "))),
    ]
}
