//! `baton` as scripts see it: what it prints where, and its exit codes.

mod common;

use baton::Connection;
use common::{Server, hermetic};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

fn baton(args: &[&str]) -> Output {
    hermetic(Command::new(env!("CARGO_BIN_EXE_baton"))).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A server with `text` published in file_0.
fn server_with(text: &str) -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let mut connection = Connection::connect(&server.addr().to_string()).unwrap();
    connection.acquire().unwrap();
    connection.append("file_0", text).unwrap();
    connection.release().unwrap();
    connection.close().unwrap();
    (dir, server)
}

fn wal_check(data: &Path, flags: &[&str]) -> Output {
    baton(&[&["wal", "check", data.to_str().unwrap()], flags].concat())
}

/// The newest segment of a data directory's log.
fn last_segment(data: &Path) -> std::path::PathBuf {
    let names = std::fs::read_dir(data.join(".baton")).unwrap();
    let paths = names.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|ext| ext == "log")).max().unwrap()
}

#[test]
fn cat_prints_published_bytes_and_only_those() {
    let text = "0123456789".repeat(20_000);
    let (_dir, server) = server_with(&text);
    let addr = server.addr().to_string();
    let mut holder = Connection::connect(&addr).unwrap();
    holder.acquire().unwrap();
    holder.append("file_0", "staged").unwrap();

    assert_eq!(stdout(&baton(&["cat", "file_0", "--server", &addr])), text);
    let part = ["cat", "file_0", "--server", &addr, "--offset", "99995", "--length", "10"];
    assert_eq!(stdout(&baton(&part)), "5678901234");
    let beyond = baton(&["cat", "file_0", "--server", &addr, "--offset", "1000000"]);
    assert!(beyond.status.success() && beyond.stdout.is_empty());
}

#[test]
fn cat_of_an_unknown_file_says_so() {
    let (_dir, server) = server_with("x");
    let output = baton(&["cat", "file_100", "--server", &server.addr().to_string()]);
    assert_eq!(output.status.code(), Some(66));
    assert_eq!(stderr(&output), "baton: the server has no file file_100; baton files lists them\n");
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    let unused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")))
        .args(["cat", "file_0"])
        .env("BATON_SERVER", unused.to_string())
        .env("BATON_TIMEOUT_MS", "300")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("--server"), "{}", stderr(&output));
}

/// The flag comes before the variable, the variable before the file.
#[test]
fn a_configuration_file_names_the_server() {
    let (dir, server) = server_with("configured");
    let config = dir.path().join("baton/config.toml");
    std::fs::create_dir(config.parent().unwrap()).unwrap();
    let cat = |flags: &[&str], variable: &str| {
        let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
        command.args(["cat", "file_0"]).args(flags).env("XDG_CONFIG_HOME", dir.path());
        command.env("BATON_TIMEOUT_MS", "300").env("BATON_SERVER", variable);
        command.output().unwrap()
    };
    let (here, nowhere) = (server.addr().to_string(), "127.0.0.1:9");
    std::fs::write(&config, format!("server = \"{here}\"\n")).unwrap();
    assert_eq!(stdout(&cat(&[], "")), "configured");
    assert_eq!(cat(&[], nowhere).status.code(), Some(69));
    std::fs::write(&config, format!("server = \"{nowhere}\"\n")).unwrap();
    assert_eq!(stdout(&cat(&[], &here)), "configured");
    assert_eq!(stdout(&cat(&["--server", &here], nowhere)), "configured");
    std::fs::write(&config, "# mine\nserver: here\n").unwrap();
    let output = cat(&[], "");
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("config.toml, line 2: "), "{}", stderr(&output));
}

#[test]
fn wal_check_tells_a_sound_log_from_a_torn_and_a_damaged_one() {
    let (dir, mut server) = server_with("published");
    let data = dir.path().join("data");
    let busy = wal_check(&data, &[]);
    assert_eq!(busy.status.code(), Some(75));
    assert!(stderr(&busy).contains("stop batond first"), "{}", stderr(&busy));
    server.kill();

    let sound = wal_check(&data, &[]);
    assert!(sound.status.success(), "{}", stderr(&sound));
    assert!(stdout(&sound).ends_with("verdict     sound\n"), "{}", stdout(&sound));

    let segment = last_segment(&data);
    let whole = std::fs::read(&segment).unwrap();
    let end = 1 + whole.iter().rposition(|&byte| byte != 0).unwrap();
    let mut torn = whole.clone();
    torn[end..end + 40].fill(0xEE);
    std::fs::write(&segment, &torn).unwrap();
    let report: serde_json::Value =
        serde_json::from_slice(&wal_check(&data, &["--json"]).stdout).unwrap();
    assert_eq!(report["verdict"], "sound, with a torn tail");
    assert_eq!((&report["torn"]["bytes"], &report["is_sound"]), (&40.into(), &true.into()));
    assert_eq!(std::fs::read(&segment).unwrap(), torn, "the check changed the log");

    let mut damaged = whole;
    damaged[100] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let output = wal_check(&data, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stdout(&output).ends_with("verdict     damaged\n"), "{}", stdout(&output));
    assert!(stderr(&output).contains("is damaged at byte"), "{}", stderr(&output));
}

#[test]
fn wal_check_wants_a_data_directory() {
    let dir = TempDir::new().unwrap();
    let output = wal_check(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(66));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn wrong_usage_ends_with_64_and_help_with_0() {
    assert_eq!(baton(&["dance"]).status.code(), Some(64));
    assert_eq!(baton(&["--help"]).status.code(), Some(0));
    assert_eq!(stdout(&baton(&["--version"])), "baton 0.1.0\n");
    let mut batond = hermetic(Command::new(env!("CARGO_BIN_EXE_batond")));
    assert_eq!(batond.arg("--lease=1ms").output().unwrap().status.code(), Some(64));
}

#[test]
fn a_completion_script_names_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&baton(&["completions", shell]));
        for word in ["wal", "shell", "keep-going", "conflict-exit-code"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
