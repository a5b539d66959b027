//! The JSON documents that operators get, from the command line and from the server's HTTP
//! endpoint alike; docs/JSON.md has their schemas.

use crate::protocol::ClientInfo;
use crate::protocol::inspect::{HolderView, Record, RecordKind, ServerStatus, WaiterView};
use crate::types::{Millis, SessionId};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The lock and its whole queue.
pub struct View {
    /// The server's clock.
    pub now_ms: Millis,
    pub holder: Option<HolderView>,
    /// First come first.
    pub waiters: Vec<WaiterView>,
}

impl View {
    /// How long ago that was by the server's clock.
    pub fn age(&self, since_ms: Millis) -> u64 {
        self.now_ms.0.saturating_sub(since_ms.0)
    }
}

/// `baton.status/1`; `addr` is the address that answered.
pub fn status(addr: &str, status: &ServerStatus) -> Value {
    let recorded: Map<String, Value> = RecordKind::ALL
        .into_iter()
        .zip(status.recorded)
        .map(|(kind, count)| (kind.word().to_owned(), json!(count)))
        .collect();
    json!({
        "schema": "baton.status/1",
        "server": addr,
        "version": status.version,
        "epoch": status.epoch,
        "now": utc_time(status.now_ms),
        "uptime_ms": status.uptime_ms.0,
        "sessions": status.sessions,
        "lock": {
            "token": (status.token.0 > 0).then_some(status.token.0),
            "staged_bytes": status.staged_bytes,
            "waiters": status.waiters,
        },
        "settings": {
            "durability": if status.is_synced { "sync" } else { "os" },
            "lease_ms": status.lease_ms,
            "session_ttl_ms": status.session_ttl_ms,
            "section_limit_bytes": status.section_limit,
        },
        "data": {
            "directory": status.data_dir,
            "files": status.files,
            "published_bytes": status.published_bytes,
            "room_bytes": (status.room_bytes < u64::MAX).then_some(status.room_bytes),
        },
        "log": {
            "bytes": status.log_bytes,
            "last": status.log_last,
            "written": status.log_written,
            "published": status.log_published,
        },
        "requests": {
            "all": status.counters.requests,
            "repeated": status.counters.repeats,
            "late": status.counters.ignored,
            "refused": status.counters.refused,
            "malformed": status.counters.malformed,
        },
        "history": { "records": status.records, "ever": recorded },
    })
}

/// `baton.who/1`.
pub fn who(view: &View) -> Value {
    let waiters: Vec<Value> =
        (1..).zip(&view.waiters).map(|(n, one)| waiter(view, n, one)).collect();
    json!({
        "schema": "baton.who/1",
        "now": utc_time(view.now_ms),
        "holder": holder(view),
        "waiters": waiters,
    })
}

/// The holder in `baton.who/1` and others.
pub fn holder(view: &View) -> Value {
    let Some(holder) = &view.holder else { return Value::Null };
    let mut client = client(holder.session, &holder.client);
    client["client_id"] = json!(holder.client_id);
    json!({
        "client": client,
        "token": holder.token.0,
        "since": utc_time(holder.since_ms),
        "held_ms": view.age(holder.since_ms),
        "lease_left_ms": holder.lease_left_ms,
        "is_called": holder.is_called,
        "staged_bytes": holder.staged_bytes,
        "heard_ms_ago": holder.heard_ms_ago,
    })
}

/// A waiter in `baton.who/1` and others.
pub fn waiter(view: &View, position: usize, waiter: &WaiterView) -> Value {
    let mut client = client(waiter.session, &waiter.client);
    client["client_id"] = json!(waiter.client_id);
    json!({
        "client": client,
        "position": position,
        "since": utc_time(waiter.since_ms),
        "waited_ms": view.age(waiter.since_ms),
        "heard_ms_ago": waiter.heard_ms_ago,
    })
}

/// `baton.history/1`.
pub fn history(oldest: u64, newest: u64, records: &[Record]) -> Value {
    json!({
        "schema": "baton.history/1",
        "oldest": oldest,
        "newest": newest,
        "records": records.iter().map(record).collect::<Vec<_>>(),
    })
}

/// A record of the history.
pub fn record(record: &Record) -> Value {
    let is_published = record.kind == RecordKind::Released;
    let whom = client(record.session, &record.client);
    json!({
        "number": record.number,
        "at": utc_time(record.at_ms),
        "event": record.kind.word(),
        "token": (record.token.0 > 0).then_some(record.token.0),
        "client": if record.session.0 > 0 { whom } else { Value::Null },
        "published_bytes": if is_published { record.bytes } else { 0 },
        "discarded_bytes": if is_published { 0 } else { record.bytes },
        "revoked_by": record.revocation.as_ref().map(|by| client(by.session, &by.client)),
        "reason": record.revocation.as_ref().map(|by| &by.reason),
        "hash": record.hash.to_string(),
    })
}

/// `baton.files/1`: names and published lengths.
pub fn files(files: &[(String, u64)]) -> Value {
    let list: Vec<Value> =
        files.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
    json!({ "schema": "baton.files/1", "files": list })
}

/// A client as it describes itself.
pub fn client(session: SessionId, client: &ClientInfo) -> Value {
    json!({
        "session": session.0,
        "host": client.host,
        "pid": client.pid,
        "program": client.program,
        "user": client.user,
    })
}

/// A time of the server's clock in RFC 3339.
pub fn utc_time(at: Millis) -> Value {
    timestamp(at).map_or(Value::Null, |at| json!(format!("{at:.3}")))
}

/// The same as a timestamp, where it is one.
pub fn timestamp(at: Millis) -> Option<Timestamp> {
    i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok())
}
