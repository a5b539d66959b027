//! `batond` as a service: the service manager, the watchdog, settings that change, the unit file.

mod common;

use baton::Connection;
use common::{Server, eventually, has_tool, hermetic};
use nix::sys::signal::{Signal, kill};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The service manager's end: what the server tells it.
struct Manager {
    dir: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
        Manager { dir, socket }
    }

    fn env(&self, watchdog: &str) -> Vec<(String, String)> {
        let path = self.dir.path().join("notify").display().to_string();
        vec![("NOTIFY_SOCKET".into(), path), ("WATCHDOG_USEC".into(), watchdog.into())]
    }

    fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).expect("the service manager was told nothing");
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    /// Waits until it is told this.
    fn expect(&self, wanted: &str) {
        while !self.told().lines().any(|line| line == wanted) {}
    }
}

fn check(file: &Path, flags: &[&str]) -> Output {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_batond")));
    command.arg("--config").arg(file).arg("--check-config").args(flags).output().unwrap()
}

#[test]
fn check_config_names_file_line_and_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("batond.toml");
    std::fs::write(&file, "files = 3\n\nsesion-limit = 5\n").unwrap();
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("batond.toml, line 3: unknown key sesion-limit"), "{said}");
    assert!(said.contains("did you mean session-limit?"), "{said}");
    // What a start would refuse is no good either.
    std::fs::write(&file, "files = 3\nsession-limit = 5\n").unwrap();
    let output = check(&file, &["--node", "1"]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--node 1 needs --cluster"), "{said}");
    let output = check(&file, &["--lease", "3s"]);
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("session-limit = \"5\"\n") && shown.contains("lease = \"3s\"\n"));
    assert!(!dir.path().join("baton-data").exists(), "checking must not start anything");
}

#[test]
fn the_configuration_file_that_is_installed_is_good_and_names_every_setting() {
    let file = Path::new(common::c::ROOT).join("packaging/batond.toml");
    assert!(check(&file, &[]).status.success());
    let text = std::fs::read_to_string(&file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path().join("all.toml");
    std::fs::write(&all, text.replace("\n#", "\n").replace("\n ", "\n# ")).unwrap();
    let without_words: String = std::fs::read_to_string(&all)
        .unwrap()
        .lines()
        .filter(|line| line.contains(" = "))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&all, &without_words).unwrap();
    let output = check(&all, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let keys = String::from_utf8(output.stdout).unwrap().lines().count();
    assert_eq!(without_words.lines().count(), keys, "a setting is missing in batond.toml");
}

#[test]
fn the_manager_is_told_when_the_server_is_ready_serves_and_stops() {
    let manager = Manager::new();
    let data = TempDir::new().unwrap();
    let env = manager.env("600000");
    let mut server = Server::start_with_env(data.path(), &[], &env);
    manager.expect("READY=1");
    manager.expect("WATCHDOG=1");
    let first = Instant::now();
    manager.expect("WATCHDOG=1");
    assert!(first.elapsed() < Duration::from_millis(600), "later than the limit");
    assert!(server.terminate().success());
    manager.expect("STOPPING=1");
}

#[test]
fn a_server_that_does_not_answer_does_not_tell_the_watchdog_that_it_does() {
    let manager = Manager::new();
    let data = TempDir::new().unwrap();
    let server = Server::start_with_env(data.path(), &[], &manager.env("300000"));
    manager.expect("WATCHDOG=1");
    kill(server.pid(), Signal::SIGSTOP).unwrap();
    manager.socket.set_nonblocking(true).unwrap();
    while manager.socket.recv(&mut [0; 64]).is_ok() {}
    manager.socket.set_nonblocking(false).unwrap();
    manager.socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "a stopped process says that it serves");
    kill(server.pid(), Signal::SIGCONT).unwrap();
    manager.socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    manager.expect("WATCHDOG=1");
}

#[test]
fn hangup_changes_what_can_change_and_tells_the_rest() {
    let manager = Manager::new();
    let data = TempDir::new().unwrap();
    let file = data.path().join("batond.toml");
    let traces = data.path().join("traces");
    std::fs::write(&file, "lease = \"30s\"\nfiles = 3\n").unwrap();
    let flags = ["--config", file.to_str().unwrap()];
    let env = manager.env("0");
    let server = Server::start_traced_with_env(&data.path().join("d"), &flags, &traces, &env);
    manager.expect("READY=1");
    let text = || std::fs::read_to_string(&traces).unwrap();
    let addr = server.addr().to_string();
    let mut operator = Connection::connect(&addr).unwrap();
    assert_eq!(operator.server_status().unwrap().lease_ms, 30_000);

    std::fs::write(&file, "lease = \"7s\"\nfiles = 4\nsession-limit = 1\ntrace = \"debug\"\n")
        .unwrap();
    kill(server.pid(), Signal::SIGHUP).unwrap();
    manager.expect("RELOADING=1");
    manager.expect("READY=1");
    assert_eq!(operator.server_status().unwrap().lease_ms, 7_000);
    let said = text();
    assert!(said.contains("setting changed key=\"lease\" old=\"30s\" new=\"7s\""), "{said}");
    assert!(said.contains("only with a restart key=\"files\""), "{said}");
    // The new level holds from then on.
    eventually("requests are traced", || text().contains("DEBUG"));
    let refused = Connection::connect(&addr).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("as many sessions as it takes"), "{refused}");

    std::fs::write(&file, "leese = 1\n").unwrap();
    kill(server.pid(), Signal::SIGHUP).unwrap();
    manager.expect("READY=1");
    assert!(text().contains("did you mean lease?"), "{}", text());
    assert_eq!(operator.server_status().unwrap().lease_ms, 7_000);
}

#[test]
fn a_copy_of_a_stopped_servers_directory_is_a_backup() {
    let dir = TempDir::new().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let publish = |server: &Server, text: &str| {
        let mut conn = Connection::connect(&server.addr().to_string()).unwrap();
        let mut section = conn.lock().unwrap();
        section.append("file_0", text).unwrap();
        section.release().unwrap();
    };
    let mut server = Server::start(&data, &[]);
    publish(&server, "before");
    assert!(server.terminate().success());
    assert!(Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap().success());
    server.restart();
    publish(&server, " and after");
    assert_eq!(server.file("file_0"), "before and after");
    let restored = Server::start(&copy, &[]);
    assert_eq!(restored.file("file_0"), "before");
    publish(&restored, " again");
    assert_eq!(restored.file("file_0"), "before again");
}

/// Reads the sources of the server, and finds level and words of each message in them, `…` for what
/// varies. Without spaces.
fn read_messages(dir: &Path, sources: &mut String, said: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_messages(&path, sources, said);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", "");
            let text: String = text.split_whitespace().collect();
            for level in ["error", "warn", "info"] {
                for call in text.split(&format!("{level}!(")).skip(1) {
                    let mut parts = call.split('"').nth(1).unwrap().split(['{', '}']);
                    let mut words = parts.next().unwrap().to_owned();
                    while let (Some(_), Some(part)) = (parts.next(), parts.next()) {
                        words = words + "…" + part;
                    }
                    said.push((level.to_owned(), words));
                }
            }
            sources.push_str(&text);
        }
    }
}

#[test]
fn every_message_is_documented_and_those_that_are_documented_are_real() {
    let root = Path::new(common::c::ROOT);
    let (mut sources, mut said) = (String::new(), Vec::new());
    read_messages(&root.join("src/server"), &mut sources, &mut said);
    assert!(said.len() > 50, "{said:?}");
    let text = std::fs::read_to_string(root.join("docs/OPERATIONS.md")).unwrap();
    let mut told = Vec::new();
    for row in text.split("## Messages").nth(1).unwrap().lines() {
        let cells: Vec<&str> = row.split(" | ").collect();
        for words in cells[0].split('`').skip(1).step_by(2) {
            told.push((cells[1], words.replace(' ', "")));
        }
    }
    // A row may leave out what follows after a colon or so.
    let is_row_of = |(at, start): &(&str, String), (level, words): &(String, String)| {
        let rest = words.strip_prefix(start.as_str());
        at == level && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ';', ',']))
    };
    // Some are put together elsewhere, and there is nothing but them in the call.
    let missing: Vec<_> = said
        .iter()
        .filter(|message| message.1 != "…" && !told.iter().any(|row| is_row_of(row, message)))
        .collect();
    assert!(missing.is_empty(), "not in docs/OPERATIONS.md: {missing:#?}");
    let unreal: Vec<_> = told
        .iter()
        .filter(|row| !said.iter().any(|message| is_row_of(row, message)))
        .filter(|row| !row.1.split('…').all(|part| part.len() > 5 && sources.contains(part)))
        .collect();
    assert!(unreal.is_empty(), "no message says {unreal:#?}");
}

#[test]
fn the_unit_file_is_good() {
    if !has_tool("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(common::c::ROOT);
    let unit = std::fs::read_to_string(root.join("packaging/batond.service.in")).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_batond")).parent().unwrap();
    let unit = unit.replace("@BINDIR@", bin.to_str().unwrap()).replace("@SYSCONFDIR@", "/etc");
    let path = dir.path().join("batond.service");
    std::fs::write(&path, unit).unwrap();
    let analyze = |args: &[&str]| {
        let output = Command::new("systemd-analyze").args(args).arg(&path).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    // What it says of other units of the machine is none of our business.
    let (_, said) = analyze(&["verify", "--man=no"]);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("batond")).collect();
    assert!(ours.is_empty(), "{said}");
    let (is_good, said) = analyze(&["security", "--offline=yes", "--threshold=20"]);
    assert!(is_good, "{said}");
}
