//! docs/JSON.md against what the commands print: each field that is documented is there, and none
//! that is not.

mod common;

use common::cluster::Cluster;
use common::driver::Driver;
use common::{Server, eventually, hermetic};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The names in the first column of a section's tables, table by table. `.late` after `requests.all`
/// is `requests.late`.
fn documented(schema: &str) -> Vec<BTreeSet<String>> {
    let text = include_str!("../docs/JSON.md");
    let start = text.find(&format!("`{schema}`\n")).unwrap_or_else(|| panic!("no {schema}"));
    let section = text[start..].split("\n## ").next().unwrap();
    let tables = section.split("| field | meaning |\n|---|---|\n").skip(1);
    tables
        .map(|table| {
            table.lines().take_while(|line| line.starts_with('|')).flat_map(names).collect()
        })
        .collect()
}

fn names(row: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
        let parent = names.first().and_then(|first| first.split('.').next()).unwrap_or_default();
        names.push(if name.starts_with('.') { format!("{parent}{name}") } else { name.into() });
    }
    names
}

/// The fields of an object; those of an object within by a dot, where the document does so.
fn printed(object: &Value, documented: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in object.as_object().unwrap() {
        let is_opened = documented.iter().any(|name| name.starts_with(&format!("{key}.")));
        match value.as_object().filter(|_| is_opened) {
            Some(inner) => found.extend(inner.keys().map(|name| format!("{key}.{name}"))),
            None => drop(found.insert(key.clone())),
        }
    }
    found.remove("schema");
    found
}

fn run(server: &str, args: &[&str]) -> Value {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
    let output = command.args(args).arg("--json").env("BATON_SERVER", server).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

fn assert_fields(what: &str, object: &Value, documented: &BTreeSet<String>) {
    assert_eq!(&printed(object, documented), documented, "{what}: {object:#}");
}

#[test]
fn every_document_has_the_fields_that_are_documented_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &["--lease", "30s"]);
    let addr = server.addr().to_string();
    let (mut c1, mut c2) = (Driver::connect(server.addr()), Driver::connect(server.addr()));
    let token = c1.ok("acquire");
    c1.ok("append file_0 hello");
    c2.send("acquire");
    eventually("the other waits", || run(&addr, &["who"])["waiters"][0].is_object());

    let check = |schema: &str, args: &[&str]| {
        let document = run(&addr, args);
        assert_eq!(document["schema"], schema, "{args:?}");
        let tables = documented(schema);
        assert_fields(schema, &document, &tables[0]);
        (document, tables)
    };
    check("baton.status/1", &["status"]);
    let (who, tables) = check("baton.who/1", &["who"]);
    let holder = &tables[1];
    assert_fields("holder", &who["holder"], holder);
    let waiter = ["client", "position", "since", "waited_ms", "heard_ms_ago"].map(String::from);
    assert_fields("waiter", &who["waiters"][0], &waiter.into());
    let client =
        ["session", "host", "pid", "program", "user", "client_id"].map(String::from).into();
    assert_fields("client", &who["holder"]["client"], &client);
    assert_fields("client", &who["waiters"][0]["client"], &client);
    let (why, _) = check("baton.why/1", &["why"]);
    assert_fields("holder", &why["holder"], holder);
    check("baton.files/1", &["files"]);
    let file = &run(&addr, &["files", "--filled"]);
    assert_eq!(file["files"], Value::Array(vec![]), "nothing is published yet");
    let (revoked, _) = check("baton.revoke/1", &["revoke", &token, "--reason", "a test"]);
    assert_fields("holder", &revoked["holder"], holder);
    let (history, tables) = check("baton.history/1", &["history"]);
    for record in history["records"].as_array().unwrap() {
        assert_fields("record", record, &tables[1]);
    }
    let cluster = Cluster::start(3, &[]);
    cluster.leader();
    let document = cluster.status();
    assert_eq!(document["schema"], "baton.cluster/1");
    let tables = documented("baton.cluster/1");
    assert_fields("cluster", &document, &tables[0]);
    for server in document["servers"].as_array().unwrap() {
        assert_fields("server", server, &tables[1]);
    }
    check("baton.verify/1", &["history", "--verify"]);
    c2.ok("release");
    check("baton.bench/1", &["bench", "--duration", "100ms", "--warm-up", "10ms"]);
    let copy = dir.path().join("copy");
    check("baton.backup/1", &["backup", copy.to_str().unwrap()]);
    server.terminate();
    let path: &Path = &data;
    check("baton.wal-check/1", &["wal", "check", path.to_str().unwrap()]);
}
