//! What is to be had under which path.

use super::measures::Format;
use super::reply::{Reply, Status};
use crate::json;
use crate::server::cluster::Membership;
use crate::server::meter::{BOUNDS_US, Histogram, OpKind};
use crate::server::threads::{Health, Server, Snapshot};
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// Waiters, records and bytes of a file that are shown unless asked otherwise, and at most.
const WAITERS: (usize, usize) = (1_000, 10_000);
const RECORDS: (usize, usize) = (1_000, 2_000);
const TAIL: (usize, usize) = (1 << 10, 16 << 10);
/// Waiters in the document for the status page.
const WAITERS_LIVE: usize = 50;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const HTML: &str = include_str!("page/index.html");
const CSS: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const SCRIPT_DRAW: &str = include_str!("page/draw.js");
const SCRIPT_TEXT: &str = include_str!("page/text.js");
const ICON: &str = include_str!("page/icon.svg");

/// Answers a whole request. `is_local`: the endpoint listens on this machine only.
pub fn answer(server: &Arc<Server>, request: &httparse::Request<'_, '_>, is_local: bool) -> Reply {
    let is_head = request.method == Some("HEAD");
    if !is_head && request.method != Some("GET") {
        return Reply::text(Status::NotAllowed, "only to be read: GET or HEAD");
    }
    let (host, path) = split_target(request.path.unwrap_or_default());
    let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
    let host = host.map(str::as_bytes).or(header.map(|header| header.value));
    if is_local && !host.is_some_and(is_this_machine) {
        // A page from elsewhere that has its name resolved to this machine must not read it.
        return Reply::text(
            Status::Forbidden,
            "ask for localhost, or have batond listen elsewhere",
        );
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let accept = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
    let format = Format::accepted(accept.map(|header| header.value));
    let reply = route(server, path, &Query(query), format).unwrap_or_else(|error| error);
    Reply { is_head, ..reply }
}

/// The answer under this path, metrics in this format.
fn route(
    server: &Arc<Server>,
    path: &str,
    query: &Query<'_>,
    format: Format,
) -> Result<Reply, Reply> {
    Ok(match path {
        "/" => Reply::new("text/html; charset=utf-8", HTML),
        "/page.css" => Reply::new("text/css; charset=utf-8", CSS),
        "/page.js" => Reply::new(JAVASCRIPT, SCRIPT),
        "/draw.js" => Reply::new(JAVASCRIPT, SCRIPT_DRAW),
        "/text.js" => Reply::new(JAVASCRIPT, SCRIPT_TEXT),
        "/icon.svg" => Reply::new("image/svg+xml", ICON),
        "/healthz" => match server.snapshot().health {
            Health::Failed => unhealthy(Health::Failed),
            _ => Reply::text(Status::Ok, "ok"),
        },
        "/readyz" => match server.snapshot().health {
            Health::Good => Reply::text(Status::Ok, "ready"),
            other => unhealthy(other),
        },
        "/metrics" => Reply::new(format.kind(), format.encode(server.snapshot())),
        "/api/status" => Reply::json(&status(&server.snapshot())),
        "/api/who" => {
            let (view, waiting) = server.view(query.number("limit", WAITERS)?);
            Reply::json(&who(&view, waiting))
        }
        "/api/history" => history(server, query)?,
        "/api/files" => Reply::json(&json::files(&server.files())),
        "/api/tail" => tail(server, query)?,
        "/api/live" => Reply::json(&live(server)),
        _ => return Err(Reply::text(Status::NotFound, "there is nothing here")),
    })
}

fn unhealthy(health: Health) -> Reply {
    let line = match health {
        Health::Good => "ready",
        Health::Full => "not ready: the disk is full",
        Health::Leaderless => "not ready: no leader, or no way to it",
        Health::Failed => "not ready: the log has failed; see the server's messages, restart it",
        Health::Stopping => "not ready: stopping",
    };
    Reply::text(Status::Unavailable, line)
}

fn status(snapshot: &Snapshot) -> Value {
    let addr = snapshot.addr.map(|addr| addr.to_string()).unwrap_or_default();
    json::status(&addr, &snapshot.status)
}

/// `baton.who/1`, which also says how many wait when not all are in it.
fn who(view: &json::View, waiting: u64) -> Value {
    let mut document = json::who(view);
    document["waiting"] = json!(waiting);
    document
}

fn history(server: &Arc<Server>, query: &Query<'_>) -> Result<Reply, Reply> {
    let from = query.value("from").map(|_| query.number("from", (0, usize::MAX))).transpose()?;
    let most = query.number("last", RECORDS)?;
    let Some(found) = server.records(from.map(|from| from as u64), most) else {
        return Err(Reply::text(Status::Unavailable, "the history is not on stable storage yet"));
    };
    Ok(Reply::json(&json::history(found.oldest, found.newest, &found.records)))
}

/// The end of a file. Bytes that are no UTF-8 are replaced in `text`.
fn tail(server: &Arc<Server>, query: &Query<'_>) -> Result<Reply, Reply> {
    let name = query.value("file").unwrap_or_default();
    let most = query.number("bytes", TAIL)?;
    match server.tail(name, most) {
        Ok(Some(tail)) => Ok(Reply::json(&json!({
            "schema": "baton.tail/1",
            "name": name,
            "bytes": tail.size,
            "text": String::from_utf8_lossy(&tail.bytes),
            "text_bytes": tail.bytes.len(),
        }))),
        Ok(None) => Err(Reply::text(Status::NotFound, "there is no such data file")),
        Err(error) => Err(Reply::text(Status::Unavailable, format!("cannot read it: {error}"))),
    }
}

/// What the status page needs every second, in one document.
fn live(server: &Arc<Server>) -> Value {
    let snapshot = server.snapshot();
    let (view, waiting) = server.view(WAITERS_LIVE);
    let requests: Map<String, Value> = OpKind::ALL
        .into_iter()
        .map(|op| (op.word().to_owned(), json!(snapshot.meter.requests[op as usize])))
        .collect();
    let mut answers = Histogram::default();
    let is_section = |op: &OpKind| {
        matches!(op, OpKind::Acquire | OpKind::Append | OpKind::Release | OpKind::Abort)
    };
    OpKind::ALL.iter().filter(|op| is_section(op)).for_each(|op| {
        answers.add(&snapshot.meter.answers[*op as usize]);
    });
    json!({
        "schema": "baton.live/1",
        "health": format!("{:?}", snapshot.health).to_lowercase(),
        "status": status(&snapshot),
        "who": who(&view, waiting),
        "limits": {
            "sessions": snapshot.limits.sessions,
            "waiters": snapshot.limits.waiters,
            "data_bytes": (snapshot.limits.data < u64::MAX).then_some(snapshot.limits.data),
            "history_records": snapshot.records_limit,
            "disk_floor_bytes": snapshot.limits.disk_floor,
        },
        "cluster": snapshot.cluster.as_ref().map(cluster),
        "requests": requests,
        "bounds_us": BOUNDS_US,
        "times": {
            "answer": times(&answers),
            "wait": times(&snapshot.meter.waits),
            "hold": times(&snapshot.meter.holds),
            "sync": times(&snapshot.syncs),
        },
    })
}

fn cluster(cluster: &Membership) -> Value {
    let role = |id| match id == cluster.role.leader {
        true => "leads",
        false if cluster.role.leader == 0 => "unknown",
        false => "follows",
    };
    let servers = cluster.servers.iter().map(|(id, addr)| {
        json!({
            "id": id,
            "address": addr.map(|addr| addr.to_string()),
            "role": role(*id),
        })
    });
    json!({
        "id": cluster.id,
        "term": cluster.role.term,
        "leader": (cluster.role.leader > 0).then_some(cluster.role.leader),
        "is_leading": cluster.role.is_leading,
        "lag_entries": cluster.committed.saturating_sub(cluster.applied),
        "servers": servers.collect::<Vec<_>>(),
    })
}

fn times(histogram: &Histogram) -> Value {
    json!({ "counts": histogram.counts, "sum_us": histogram.sum_us })
}

/// What stands behind the question mark.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A number, as long as it is not above the most.
    fn number(&self, name: &str, (default, most): (usize, usize)) -> Result<usize, Reply> {
        let Some(text) = self.value(name) else { return Ok(default) };
        match text.parse() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(Reply::text(Status::Bad, format!("{name} is a number up to {most}"))),
        }
    }
}

/// Host and path, with the query, of what is asked for. It may be a whole URL, whose host then counts
/// instead of the header's (RFC 9112, 3.2.2).
fn split_target(target: &str) -> (Option<&str>, &str) {
    let Some((scheme, rest)) = target.split_once("://") else { return (None, target) };
    if !scheme.eq_ignore_ascii_case("http") {
        return (None, target);
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (Some(host), if path.starts_with('/') { path } else { "/" })
}

/// Whether the host that a request names is this machine, by what cannot be anybody else's name.
fn is_this_machine(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_names() {
        for host in ["localhost", "LOCALHOST:10080", "127.0.0.1:1", "[::1]:10080", "127.9.9.9"] {
            assert!(is_this_machine(host.as_bytes()), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "[::1"] {
            let is_open = host == "[::1";
            assert_eq!(is_this_machine(host.as_bytes()), is_open, "{host}");
        }
    }

    #[test]
    fn targets_are_paths_or_whole_urls() {
        for (target, host, path) in [
            ("/a?b=c", None, "/a?b=c"),
            ("/a?b=http://host/", None, "/a?b=http://host/"),
            ("http://host:1/a?b=c", Some("host:1"), "/a?b=c"),
            ("HTTP://[::1]:1", Some("[::1]:1"), "/"),
            ("http://host?b=/", Some("host"), "/"),
            ("ftp://host/a", None, "ftp://host/a"),
            ("*", None, "*"),
        ] {
            assert_eq!(split_target(target), (host, path), "{target}");
        }
    }

    #[test]
    fn queries_give_numbers_within_bounds() {
        let query = Query("a=5&b=&c=-1&file=file_0");
        assert_eq!(query.number("a", (1, 9)), Ok(5));
        assert_eq!(query.number("z", (1, 9)), Ok(1));
        assert!(query.number("a", (1, 4)).is_err());
        assert!(query.number("b", (1, 4)).is_err() && query.number("c", (1, 4)).is_err());
        assert_eq!(query.value("file"), Some("file_0"));
    }
}
