//! What operators see and do, as they do it: `baton status`, `who`, `why`, `history` and `revoke`
//! as processes, against a real server with clients in processes of their own.

mod common;

use baton::disk::RealDisk;
use baton::protocol::{Reason, Status};
use baton::proxy::{Faults, Rates, Setup};
use baton::server::PRIVATE_DIR;
use baton::types::Ticket;
use baton::{Connection, Error, wal};
use common::driver::Driver;
use common::stage::Stage;
use common::{Server, eventually, hermetic};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::thread;

/// A server with a lease that no pause of a busy machine outlasts.
fn server(dir: &tempfile::TempDir) -> Server {
    Server::start(&dir.path().join("data"), &["--lease", "30s"])
}

fn command(server: &Server, args: &[&str]) -> Command {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
    command.args(args).env("BATON_SERVER", server.addr().to_string());
    command
}

fn run(server: &Server, args: &[&str]) -> Output {
    command(server, args).output().unwrap()
}

/// What a command that must succeed prints.
fn shows(server: &Server, args: &[&str]) -> String {
    let output = run(server, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and the line on standard error of a command that must fail.
fn fails(server: &Server, args: &[&str]) -> (i32, String) {
    let output = run(server, args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn json(server: &Server, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let text = shows(server, &args);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["schema"], format!("baton.{}/1", args[0]));
    document
}

/// Waits until this many clients stand in the queue.
fn queued(server: &Server, count: usize) {
    eventually("the clients wait", || {
        json(server, &["who"])["waiters"].as_array().unwrap().len() == count
    });
}

fn events(server: &Server) -> Vec<String> {
    let history = json(server, &["history"]);
    let records = history["records"].as_array().unwrap();
    records.iter().map(|record| record["event"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn status_tells_how_the_server_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let text = shows(&server, &["status"]);
    assert!(text.contains("lock       free, 0 waiting"), "{text}");
    assert!(text.contains("durability sync, lease 30.0 s"), "{text}");
    let mut c1 = Driver::connect(server.addr());
    let token = c1.ok("acquire");
    c1.ok("append file_0 hello");
    let status = json(&server, &["status"]);
    assert_eq!(status["lock"]["token"].to_string(), token);
    assert_eq!(status["lock"]["staged_bytes"], 5);
    assert_eq!(status["data"]["published_bytes"], 0);
    c1.ok("release");
    let status = json(&server, &["status"]);
    assert_eq!((&status["lock"]["token"], &status["epoch"]), (&Value::Null, &1.into()));
    assert_eq!(status["data"]["published_bytes"], 5);
    assert_eq!(status["history"]["ever"]["released"], 1);
    let directory = dir.path().join("data").canonicalize().unwrap();
    assert_eq!(status["data"]["directory"], directory.to_str().unwrap());
    assert!(status["log"]["bytes"].as_u64().unwrap() > 0);
    assert!(status["requests"]["all"].as_u64().unwrap() > 5);
}

#[test]
fn who_shows_the_holder_and_the_queue_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    assert_eq!(shows(&server, &["who"]), "The lock is free.\n");
    let mut c1 = Driver::connect(server.addr());
    let token = c1.ok("acquire");
    c1.ok("append file_0 hello");
    assert!(shows(&server, &["who"]).ends_with("Nobody waits.\n"));
    let mut waiters = Vec::new();
    for count in 1..=3 {
        let mut client = Driver::connect(server.addr());
        client.send("acquire");
        waiters.push(client);
        queued(&server, count);
    }
    let who = json(&server, &["who"]);
    let holder = &who["holder"];
    assert_eq!((holder["token"].to_string(), &holder["staged_bytes"]), (token, &5.into()));
    assert_eq!(
        (&holder["client"]["program"], &holder["is_called"]),
        (&"driver".into(), &false.into())
    );
    assert!(holder["lease_left_ms"].as_u64().unwrap() <= 30_000);
    let all = who["waiters"].as_array().unwrap();
    let ids: Vec<_> = all.iter().map(|w| w["client"]["session"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted(), "they came in the order of their sessions: {ids:?}");
    for (position, waiter) in (1..).zip(all) {
        assert_eq!(waiter["position"], position);
        assert!(waiter["waited_ms"].is_u64() && waiter["heard_ms_ago"].is_u64(), "{waiter}");
    }
    let text = shows(&server, &["who"]);
    let waiting = text.lines().filter(|line| line.contains("driver")).count();
    assert_eq!(waiting, 4, "{text}");
}

#[test]
fn why_tells_a_waiting_client_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    assert!(shows(&server, &["why"]).contains("waits for the lock"));
    let (mut c1, mut c2) = (Driver::connect(server.addr()), Driver::connect(server.addr()));
    let token = c1.ok("acquire");
    c2.send("acquire");
    queued(&server, 1);
    let who = json(&server, &["who"]);
    let client = |view: &Value| {
        format!("{}:{}", view["client"]["host"].as_str().unwrap(), view["client"]["pid"])
    };
    let (holder, waiter) = (client(&who["holder"]), client(&who["waiters"][0]));
    let session = who["waiters"][0]["client"]["session"].to_string();
    let id = who["waiters"][0]["client"]["client_id"].to_string();
    for name in [&waiter, &session, &id] {
        let text = shows(&server, &["why", "--client", name]);
        assert!(text.contains(&format!("{waiter} (driver, user ")), "{text}");
        assert!(text.contains("position 1 of 1"), "{text}");
        assert!(text.contains(&format!("under token {token}")), "{text}");
        assert!(text.contains("Its lease ends in 2"), "{text}");
    }
    assert!(shows(&server, &["why"]).contains(&waiter), "all of this host");
    let why = json(&server, &["why", "--client", &waiter]);
    assert_eq!(why["waiters"][0]["position"], 1);
    assert_eq!(client(&why["holder"]), holder);
    assert_eq!(json(&server, &["why", "--client", &holder])["holds"], true);
    let (code, message) = fails(&server, &["why", "--client", "nobody:1"]);
    assert_eq!(code, 1);
    assert!(message.contains("nobody:1 neither holds the lock nor waits"), "{message}");
}

#[test]
fn revoke_passes_the_lock_on_tells_the_holder_and_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let (mut c1, mut c2) = (Driver::connect(server.addr()), Driver::connect(server.addr()));
    let token = c1.ok("acquire");
    c1.ok("append file_0 lost");
    c2.send("acquire");
    queued(&server, 1);
    let (code, message) = fails(&server, &["revoke", "7", "--reason", "wrong"]);
    assert_eq!(code, 1);
    assert!(message.contains("nobody holds the lock under token 7"), "{message}");
    assert_eq!(fails(&server, &["revoke", &token]).0, 64, "a reason is needed");
    assert_eq!(fails(&server, &["revoke", &token, "--reason", " "]).0, 64);
    let text = shows(&server, &["revoke", &token, "--reason", "stuck since noon"]);
    assert!(text.contains("Took the lock from") && text.contains("4 B discarded"), "{text}");
    c2.answered_ok();
    c1.fails("release", Status::LeaseExpired);
    assert!(c1.call("message").rest.contains("an operator took the lock away"));
    c2.ok("append file_0 kept");
    c2.ok("release");
    assert_eq!(server.file("file_0"), "kept");
    assert_eq!(events(&server), ["started", "granted", "revoked", "granted", "released"]);
    let history = json(&server, &["history"]);
    let revoked = &history["records"][2];
    assert_eq!(
        (&revoked["reason"], &revoked["discarded_bytes"]),
        (&"stuck since noon".into(), &4.into())
    );
    assert_eq!(revoked["revoked_by"]["program"], "baton");
    assert_eq!(revoked["client"]["program"], "driver");
    assert!(shows(&server, &["history"]).contains("stuck since noon"));
}

/// Whichever is first is done, and the other is told so.
#[test]
fn of_a_revocation_and_a_release_that_cross_exactly_one_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let connect = || Connection::connect(&server.addr().to_string()).unwrap();
    let (mut holder, mut operator) = (connect(), connect());
    let mut expected = String::new();
    for round in 0..200 {
        let token = holder.acquire().unwrap();
        let line = format!("{round}\n");
        holder.append("file_0", &line).unwrap();
        let (released, revoked) = thread::scope(|scope| {
            let revoking = scope.spawn(|| operator.revoke(token, "crossing"));
            (holder.release(), revoking.join().unwrap())
        });
        match (released, revoked) {
            (Ok(()), Err(Error::Refused(_))) => expected.push_str(&line),
            (Err(Error::LeaseExpired), Ok(())) => {
                assert!(holder.last_message().contains("an operator"));
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
    assert_eq!(server.file("file_0"), expected);
    let ever = &json(&server, &["status"])["history"]["ever"];
    assert_eq!(ever["released"].as_u64().unwrap() + ever["revoked"].as_u64().unwrap(), 200);
}

/// Lost, doubled and late datagrams change nothing about what is seen and done.
#[test]
fn a_bad_network_neither_loses_nor_doubles_a_revocation() {
    let rates = || Rates { drop: 0.3, duplicate: 0.2, reorder: 0.2, ..Rates::default() };
    let faults = Faults { requests: rates(), replies: rates() };
    let setup = Setup { faults, seed: common::seed(), ..Setup::default() };
    let stage = Stage::with_setup("60s", setup);
    let connect = || Connection::connect(&stage.proxy.addr().to_string()).unwrap();
    let (mut holder, mut operator) = (connect(), connect());
    for round in 1..=10 {
        let token = holder.acquire().unwrap();
        holder.append("file_0", "lost").unwrap();
        let (page, _) = operator.lock_page(Ticket(0)).unwrap();
        assert_eq!(page.holder.unwrap().token, token);
        operator.revoke(token, "bad network").unwrap();
        assert!(matches!(operator.revoke(token, "again"), Err(Error::Refused(Reason::NotHeld))));
        assert!(matches!(holder.release(), Err(Error::LeaseExpired)));
        let (page, next) = operator.history_page(2 * round).unwrap();
        assert_eq!((page.newest, next), (2 * round + 1, 2 * round + 2));
        assert_eq!(page.records[1].revocation.as_ref().unwrap().reason, "bad network");
    }
    assert_eq!(stage.server.file("file_0"), "");
}

#[test]
fn history_survives_a_killed_server_and_goes_by_number_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server(&dir);
    let mut c1 = Driver::connect(server.addr());
    for _ in 0..20 {
        c1.ok("acquire");
        c1.ok("append file_0 x");
        c1.ok("release");
    }
    server.kill();
    server.restart();
    let all = json(&server, &["history"]);
    assert_eq!((&all["oldest"], &all["newest"]), (&1.into(), &42.into()));
    let records = all["records"].as_array().unwrap();
    let numbers: Vec<_> = records.iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=42).collect::<Vec<_>>());
    assert_eq!(records[41]["event"], "started");
    let last = json(&server, &["history", "--last", "3"]);
    assert_eq!(last["records"], Value::Array(records[39..].to_vec()));
    for at in [5, 25, 41] {
        let since = json(&server, &["history", "--since", records[at]["at"].as_str().unwrap()]);
        // Others may have happened in the same millisecond.
        let first = since["records"][0]["number"].as_u64().unwrap() as usize;
        assert!(first <= at + 1 && records[first - 1]["at"] == records[at]["at"], "{at}: {first}");
    }
    assert_eq!(json(&server, &["history", "--since", "1h"])["records"], all["records"]);
    let later = json(&server, &["history", "--since", "2999-01-01T00:00:00Z"]);
    assert_eq!(later["records"], Value::Array(Vec::new()));
    let text = shows(&server, &["history"]);
    assert_eq!(text.lines().count(), 43);
    assert!(!text.contains('\x1b'), "no colours into a pipe");
    c1.ok("close");
}

#[test]
fn history_keeps_as_many_records_as_the_operator_wants_and_says_what_it_forgot() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &["--history-limit", "5"]);
    let mut conn = Connection::connect(&server.addr().to_string()).unwrap();
    let mut section = || conn.lock().unwrap().release().unwrap();
    (0..2).for_each(|_| section());
    // The start, and two records a section.
    let output = run(&server, &["history"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "nothing forgotten yet");
    section();
    let history = json(&server, &["history"]);
    assert_eq!((&history["oldest"], &history["newest"]), (&3.into(), &7.into()));
    let said = String::from_utf8(run(&server, &["history"]).stderr).unwrap();
    assert!(said.contains("records before 3 are forgotten"), "{said}");
    assert!(run(&server, &["history", "--last", "2"]).stderr.is_empty());
    shows(&server, &["history", "--verify"]);
    // Fewer from the next start on, which is a record itself; then more again.
    for (limit, oldest, newest) in [("2", 7, 8), ("4", 7, 9)] {
        assert!(server.terminate().success());
        server = Server::start(&data, &["--history-limit", limit]);
        let history = json(&server, &["history"]);
        let known = (&history["oldest"], &history["newest"]);
        assert_eq!(known, (&oldest.into(), &newest.into()), "with {limit}");
        shows(&server, &["history", "--verify"]);
    }
}

#[test]
fn history_can_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let mut child = command(&server, &["history", "--follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["event"], "started");
    let mut c1 = Driver::connect(server.addr());
    c1.ok("acquire");
    assert_eq!(next()["event"], "granted");
    c1.ok("abort");
    assert_eq!(next()["event"], "aborted");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_changed_history_does_not_verify() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server(&dir);
    let mut c1 = Driver::connect(server.addr());
    let token = c1.ok("acquire");
    shows(&server, &["revoke", &token, "--reason", "stuck"]);
    c1.ok("acquire");
    c1.ok("release");
    let text = shows(&server, &["history", "--verify"]);
    assert!(text.starts_with("Intact: 5 records"), "{text}");
    let verified: Value =
        serde_json::from_str(&shows(&server, &["history", "--verify", "--json"])).unwrap();
    assert_eq!((&verified["is_intact"], &verified["records"]), (&true.into(), &5.into()));
    let head = verified["head"].as_str().unwrap();
    shows(&server, &["history", "--verify", "--head", head]);
    let other = format!("4{}", &head[1..]);
    let (code, message) = fails(&server, &["history", "--verify", "--head", &other]);
    assert_eq!(code, 65);
    assert!(message.contains("record 4 is there, but not with the hash"), "{message}");
    let cut = format!("99{}", &head[1..]);
    assert!(fails(&server, &["history", "--verify", "--head", &cut]).1.contains("has been cut"));
    // Somebody with the run of the server's disk makes the reason another.
    assert!(server.terminate().success());
    let private = dir.path().join("data").join(PRIVATE_DIR);
    let found = wal::read_checkpoint(&RealDisk, &private).unwrap().unwrap();
    let mut state = found.state;
    let at = state.windows(5).position(|bytes| bytes == b"stuck").unwrap();
    state[at..at + 5].copy_from_slice(b"spite");
    wal::write_checkpoint(&RealDisk, &private, found.index, &[&state]).unwrap();
    server.restart();
    assert!(shows(&server, &["history"]).contains("spite"));
    let (code, message) = fails(&server, &["history", "--verify"]);
    assert_eq!(code, 65);
    assert!(message.contains("record 3 is not what was recorded"), "{message}");
}

#[test]
fn json_is_json_to_others_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let mut c1 = Driver::connect(server.addr());
    let token = c1.ok("acquire");
    let commands: [&[&str]; 7] = [
        &["files", "--json"],
        &["status", "--json"],
        &["who", "--json"],
        &["why", "--json"],
        &["history", "--json"],
        &["history", "--verify", "--json"],
        &["revoke", &token, "--reason", "\"quoted\"\n\u{1b}", "--json"],
    ];
    for args in commands {
        let text = shows(&server, args);
        let mut parser = Command::new("python3")
            .args(["-m", "json.tool"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success(), "{args:?}: {text}");
    }
}

#[test]
fn without_a_server_each_says_what_to_try() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server(&dir);
    server.kill();
    let commands: [&[&str]; 5] =
        [&["status"], &["who"], &["why"], &["history"], &["revoke", "1", "--reason", "x"]];
    for args in commands {
        let output = command(&server, args).env("BATON_TIMEOUT_MS", "100").output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{args:?}: {message}");
        assert!(message.contains("is batond running there? --server or BATON_SERVER"), "{message}");
        assert!(output.stdout.is_empty());
    }
}
