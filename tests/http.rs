//! The HTTP endpoint: what it says, that it holds against slow, many and rude clients without
//! disturbing the lock's, and that the documents, dashboard and alerts name what there is.

mod common;

use baton::Connection;
use baton::types::Ticket;
use common::disk::SmallDisk;
use common::{Server, eventually, has_tool};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Endpoint {
    server: Server,
    addr: String,
    _traces: TempDir,
    _data: Option<TempDir>,
}

fn start(flags: &[&str]) -> Endpoint {
    let dir = TempDir::new().unwrap();
    let endpoint = start_over(&dir.path().join("data"), flags);
    Endpoint { _data: Some(dir), ..endpoint }
}

fn start_over(data: &Path, flags: &[&str]) -> Endpoint {
    start_in(data, flags, &[])
}

/// The same, with these environment variables.
fn start_in(data: &Path, flags: &[&str], env: &[(String, String)]) -> Endpoint {
    let dir = TempDir::new().unwrap();
    let traces = dir.path().join("traces");
    let flags: Vec<&str> = flags.iter().chain(&["--http", "127.0.0.1:0"]).copied().collect();
    let server = Server::start_traced_with_env(data, &flags, &traces, env);
    let text = std::fs::read_to_string(&traces).unwrap();
    let addr = text.split("http addr=").nth(1).unwrap().split_whitespace().next().unwrap();
    Endpoint { server, addr: addr.to_owned(), _traces: dir, _data: None }
}

impl Endpoint {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        stream
    }

    fn send(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn ask(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr))
    }

    fn body(&self, path: &str) -> String {
        let reply = self.ask(path);
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {reply}");
        reply.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// The metrics as Prometheus asks for them.
    fn open_metrics(&self) -> String {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.2";
        let host = &self.addr;
        let reply = self
            .send(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n"));
        assert!(reply.contains("Content-Type: application/openmetrics-text; version=1.0.0"));
        reply.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Samples by name and labels.
    fn metric(&self, name: &str) -> f64 {
        let text = self.body("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

fn section(addr: &str, data: &str) {
    let mut conn = Connection::connect(addr).unwrap();
    let mut section = conn.lock().unwrap();
    section.append("file_0", data).unwrap();
    section.release().unwrap();
    conn.close().unwrap();
}

#[test]
fn health_and_metrics_follow_what_happens() {
    let endpoint = start(&[]);
    let addr = endpoint.server.addr().to_string();
    assert_eq!(endpoint.body("/healthz"), "ok\n");
    assert_eq!(endpoint.body("/readyz"), "ready\n");
    section(&addr, "12345");
    let mut first = Connection::connect(&addr).unwrap();
    let mut second = Connection::connect(&addr).unwrap();
    first.acquire().unwrap();
    let waiter = std::thread::spawn(move || {
        second.acquire().unwrap();
        second.release().unwrap();
    });
    eventually("somebody waits", || endpoint.metric("baton_waiters") == 1.0);
    assert_eq!(endpoint.metric("baton_lock_held"), 1.0);
    eventually("it has waited for 20 ms", || {
        let (page, _) = first.lock_page(Ticket(0)).unwrap();
        page.now_ms.0 > page.waiters[0].since_ms.0 + 20
    });
    first.release().unwrap();
    waiter.join().unwrap();
    assert_eq!(endpoint.metric("baton_data_bytes"), 5.0);
    assert_eq!(endpoint.metric("baton_lock_events_total{event=\"granted\"}"), 3.0);
    assert_eq!(endpoint.metric("baton_lock_wait_duration_seconds_count"), 3.0);
    assert!(endpoint.metric("baton_lock_wait_duration_seconds_sum") >= 0.02);
    assert!(endpoint.metric("baton_lock_wait_duration_seconds_sum") < 60.0);
    assert!(endpoint.metric("baton_lock_hold_duration_seconds_count") >= 2.0);
    assert!(endpoint.metric("baton_log_sync_duration_seconds_count") >= 2.0);
    for op in ["init", "acquire", "append", "release", "close"] {
        let count = format!("baton_request_duration_seconds_count{{op=\"{op}\"}}");
        assert!(endpoint.metric(&count) >= 1.0, "{op}");
    }
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"rubbish", &addr).unwrap();
    let dropped = "baton_datagrams_dropped_total{reason=\"length\"}";
    eventually("rubbish is counted", || endpoint.metric(dropped) == 1.0);
    endpoint.metric("baton_datagrams_dropped_total{reason=\"overrun\"}");
}

#[test]
fn limits_show_before_they_are_reached_and_refusals_after() {
    let flags = ["--data-limit", "10", "--session-limit", "2", "--history-limit", "3"];
    let endpoint = start(&flags);
    let addr = endpoint.server.addr().to_string();
    assert_eq!(endpoint.metric("baton_data_limit_bytes"), 10.0);
    assert_eq!(endpoint.metric("baton_sessions_limit"), 2.0);
    let records = || endpoint.metric("baton_history_records");
    assert_eq!((records(), endpoint.metric("baton_history_records_limit")), (1.0, 3.0));
    let mut conn = Connection::connect(&addr).unwrap();
    let mut section = conn.lock().unwrap();
    let error = section.append("file_0", "more than ten").unwrap_err().to_string();
    assert!(error.contains("limit"), "{error}");
    section.abort().unwrap();
    let refused = "baton_requests_refused_total{status=\"refused\",reason=\"data_limit\"}";
    assert_eq!(endpoint.metric(refused), 1.0);
    // The start, the grant, and that it was given back.
    assert_eq!(records(), 3.0);
    conn.lock().unwrap().abort().unwrap();
    assert_eq!(records(), 3.0);
}

#[test]
fn a_full_disk_makes_the_server_unready_until_there_is_room() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let endpoint = start_over(&disk.path().join("data"), &["--disk-floor", "1MiB"]);
    assert_eq!(endpoint.body("/readyz"), "ready\n");
    disk.fill();
    // Also while nobody asks for anything else.
    eventually("it says so", || endpoint.ask("/readyz").contains("not ready: the disk is full"));
    assert_eq!(endpoint.body("/healthz"), "ok\n");
    assert_eq!(endpoint.metric("baton_ready"), 0.0);
    disk.make_room();
    eventually("it is ready", || endpoint.ask("/readyz").ends_with("\r\n\r\nready\n"));
    section(&endpoint.server.addr().to_string(), "there is room");
}

#[test]
fn rude_requests_get_an_answer_and_change_nothing() {
    let endpoint = start(&[]);
    let host = format!("Host: {}\r\n\r\n", endpoint.addr);
    for (request, status) in [
        (format!("POST /api/status HTTP/1.1\r\n{host}"), "405"),
        (format!("GET /../../etc/passwd HTTP/1.1\r\n{host}"), "404"),
        (format!("GET /api/tail?file=../x HTTP/1.1\r\n{host}"), "404"),
        (format!("GET /api/tail?file=file_0&bytes=99999999 HTTP/1.1\r\n{host}"), "400"),
        (format!("GET /api/history?last=x HTTP/1.1\r\n{host}"), "400"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".into(), "403"),
        ("GET / HTTP/1.1\r\n\r\n".into(), "403"),
        (format!("GET http://evil.example/ HTTP/1.1\r\n{host}"), "403"),
        (format!("GET ftp://{}/metrics HTTP/1.1\r\n{host}", endpoint.addr), "404"),
        ("\x16\x03\x01 hello\r\n\r\n".into(), "400"),
        (format!("GET /{} HTTP/1.1\r\n{host}", "x".repeat(9_000)), "431"),
        (format!("GET / HTTP/1.1\r\n{}{host}", "A: b\r\n".repeat(100)), "431"),
    ] {
        let reply = endpoint.send(&request);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {reply:.60}");
        assert!(reply.contains("default-src 'none'"), "{reply}");
    }
    let reply = endpoint.send(&format!("HEAD /api/status HTTP/1.1\r\n{host}"));
    assert!(reply.ends_with("\r\n\r\n") && reply.contains("200 OK"), "{reply}");
    assert_eq!(endpoint.metric("baton_data_bytes"), 0.0);
}

#[test]
fn a_whole_url_may_be_asked_for() {
    let endpoint = start(&[]);
    let url = format!("GET http://{}/healthz HTTP/1.1\r\n", endpoint.addr);
    for host in [&endpoint.addr, "evil.example"] {
        let reply = endpoint.send(&format!("{url}Host: {host}\r\n\r\n"));
        assert!(
            reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\nok\n"),
            "{reply}"
        );
    }
}

#[test]
fn slow_and_many_connections_keep_nobody_out_and_go_by_themselves() {
    let endpoint = start(&[]);
    let threads = endpoint.metric("process_threads");
    let idle: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = endpoint.connect();
            if n % 2 == 0 {
                stream.write_all(b"GET / HT").unwrap();
            }
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(endpoint.body("/healthz"), "ok\n");
    assert!(begun.elapsed() < Duration::from_secs(4), "kept out by idle connections");
    section(&endpoint.server.addr().to_string(), "the lock's clients go on");
    // A few more may have come for the section; none for a connection.
    assert!(endpoint.metric("process_threads") < threads + 20.0);
    assert!(endpoint.metric("process_open_fds") < 300.0);
    // One that asks and never takes the answer costs a buffer for a while, and no thread.
    let mut deaf = endpoint.connect();
    deaf.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", endpoint.addr).as_bytes())
        .unwrap();
    assert_eq!(endpoint.body("/healthz"), "ok\n");
    for mut stream in idle {
        // Dropped for newer ones, or at its deadline.
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_err() || rest.is_empty());
    }
}

#[test]
fn a_flood_of_questions_is_answered_at_a_bounded_pace() {
    let endpoint = start(&[]);
    let begun = Instant::now();
    for _ in 0..450 {
        assert_eq!(endpoint.body("/healthz"), "ok\n");
    }
    assert!(begun.elapsed() > Duration::from_millis(1_500), "450 answers in {:?}", begun.elapsed());
}

/// A port that nobody uses; somebody might take it before it is used.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The names that `/metrics` has as OpenMetrics, without what the kinds add.
fn names(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
        })
        .collect()
}

/// The names of metrics that a text mentions.
fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("baton_") || word.starts_with("process_"))
        .map(|word| {
            let parts = ["_bucket", "_sum", "_count"];
            let whole = parts.iter().find_map(|part| word.strip_suffix(part));
            whole.unwrap_or(word).to_owned()
        })
        .collect()
}

fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(common::c::ROOT).join(path)).unwrap()
}

#[test]
fn every_metric_is_documented_and_nothing_else_is_named_in_documents_dashboard_and_alerts() {
    let endpoint = start(&["--data-limit", "1GiB"]);
    let mut real = names(&endpoint.open_metrics());
    let member = start(&["--node", "1", "--cluster", &format!("1=127.0.0.1:{}", free_port())]);
    eventually("it leads", || member.metric("baton_cluster_leading") == 1.0);
    assert_eq!(member.metric("baton_cluster_servers"), 1.0);
    section(&member.server.addr().to_string(), "x");
    assert!(member.metric("baton_cluster_committed_entries_total") > 1.0);
    assert_eq!(member.body("/readyz"), "ready\n");
    real.extend(names(&member.open_metrics()));
    assert!(real.len() > 30, "{real:?}");
    let operations = document("docs/OPERATIONS.md");
    let rows = operations.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> =
        rows.flat_map(|row| mentioned(row.split('|').nth(1).unwrap())).collect();
    let unknown: Vec<_> = documented.difference(&real).collect();
    let missing: Vec<_> = real.difference(&documented).collect();
    assert!(
        unknown.is_empty() && missing.is_empty(),
        "not real: {unknown:?}; not told: {missing:?}"
    );
    for path in ["docs/grafana/baton.json", "docs/prometheus/alerts.yml"] {
        let named = mentioned(&document(path));
        let unknown: Vec<_> = named.difference(&real).collect();
        assert!(unknown.is_empty() && named.len() > 5, "{path} names {unknown:?}");
    }
}

#[test]
fn the_text_of_the_metrics_is_well_formed() {
    let endpoint = start(&[]);
    section(&endpoint.server.addr().to_string(), "x");
    let text = endpoint.open_metrics();
    assert!(text.ends_with("# EOF\n"));
    let mut seen = BTreeSet::new();
    let families = names(&text);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(sample.to_owned()), "twice: {sample}");
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0, "{line}");
        let name = sample.split('{').next().unwrap();
        assert!(mentioned(name).iter().all(|name| families.contains(name)), "{name}");
        for client in ["pid", "host", "session", "program", "user"] {
            assert!(!sample.contains(&format!("{client}=")), "a label for each client: {sample}");
        }
    }
    // Buckets only grow, up to the count.
    let buckets = |op: &str| -> Vec<f64> {
        let start = "baton_request_duration_seconds_bucket{le=";
        let ours = text.lines().filter(|line| line.starts_with(start) && line.contains(op));
        ours.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
    };
    let release = buckets("op=\"release\"");
    let count = "baton_request_duration_seconds_count{op=\"release\"} ";
    let count: f64 =
        text.lines().find_map(|line| line.strip_prefix(count)).unwrap().parse().unwrap();
    assert!(release.is_sorted() && *release.last().unwrap() == count, "{release:?} of {count}");
    assert!(count >= 1.0);
}

#[test]
fn promtool_finds_nothing_wrong() {
    if !has_tool("promtool") {
        return;
    }
    let promtool = |args: &[&str], input: &str| {
        let mut command = Command::new("promtool");
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "promtool {args:?}: {said}");
    };
    let rules = Path::new(common::c::ROOT).join("docs/prometheus/alerts.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()], "");
    // It reads the older format, which is what comes unless the other one is asked for.
    let endpoint = start(&[]);
    section(&endpoint.server.addr().to_string(), "x");
    let member = start(&["--node", "1", "--cluster", &format!("1=127.0.0.1:{}", free_port())]);
    eventually("it leads", || member.metric("baton_cluster_leading") == 1.0);
    promtool(&["check", "metrics"], &endpoint.body("/metrics"));
    promtool(&["check", "metrics"], &member.body("/metrics"));
}

#[test]
fn the_history_is_shown_while_the_disk_is_slow() {
    if !has_tool("cc") {
        return;
    }
    let slow = TempDir::new().unwrap();
    let (source, library) = (slow.path().join("slow.c"), slow.path().join("slow.so"));
    let text = "#include <unistd.h>\n#include <sys/syscall.h>\n\
        int fdatasync(int fd) { usleep(150000); return syscall(SYS_fdatasync, fd); }\n";
    std::fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
    assert!(compiler.status().unwrap().success());
    let preload = ("LD_PRELOAD".to_owned(), library.to_str().unwrap().to_owned());
    let data = slow.path().join("data");
    let endpoint = start_in(&data, &[], &[preload]);
    let addr = endpoint.server.addr().to_string();
    let newest = || {
        let reply = endpoint.ask("/api/history?last=5");
        let body = reply.split_once("\r\n\r\n").unwrap().1;
        let document: serde_json::Value = serde_json::from_str(body).ok()?;
        let records = document["records"].as_array().unwrap();
        assert_eq!(records.last().unwrap()["number"], document["newest"]);
        document["newest"].as_u64()
    };
    std::thread::scope(|scope| {
        // There is always something that is not stable yet.
        let (ended, ends) = mpsc::channel();
        for _ in 0..2 {
            let (ended, addr) = (ended.clone(), &addr);
            scope.spawn(move || {
                for _ in 0..15 {
                    section(addr, "x");
                    ended.send(()).unwrap();
                }
            });
        }
        drop(ended);
        let seen: Vec<_> = ends.iter().map(|()| newest()).collect();
        let told: Vec<u64> = seen.iter().flatten().copied().collect();
        assert!(told.is_sorted(), "{seen:?}");
        assert!(told.len() * 2 > seen.len() && told.first() < told.last(), "{seen:?}");
    });
}
