//! `baton shell`, from a script and in a terminal.

mod common;

use common::{Server, hermetic};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn start() -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--lease", "1s", "--files", "5"]);
    (dir, server)
}

fn shell(server: &str, flags: &[&str], script: &str) -> Output {
    let mut child = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")))
        .arg("shell")
        .args(flags)
        .env("BATON_SERVER", server)
        .env("BATON_TIMEOUT_MS", "2000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A shell that ended early does not read all of it.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_script_does_what_it_says() {
    let (_dir, server) = start();
    let script = "# a comment\n\nacquire 5\nappend file_0 hello world\nrenew\nrelease\n\
                  cat file_0 6 5\nstatus\nwho\nhelp\nquit\nnever reached\n";
    let output = shell(&server.addr().to_string(), &[], script);
    let (said, failed) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && failed.is_empty(), "{said}{failed}");
    for part in [
        "connected to 127.0.0.1:",
        "the lock is held: token ",
        "staged for file_0",
        "renewed: ",
        "released: 12 B published, on stable storage\nworld",
        "the lock is not held by this shell",
        "The lock is free.",
        "stall SECONDS",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    assert_eq!(server.file("file_0"), "hello world\n");
}

#[test]
fn the_first_failure_ends_a_script_with_its_code_and_publishes_nothing() {
    let (_dir, server) = start();
    let addr = server.addr().to_string();
    for (script, code, part) in [
        ("acquire\nappend file_0 x\nappend file_9 y\nrelease\n", 66, "line 3: the server has no"),
        ("append file_0 x\n", 75, "line 1: the lock is not held; try: acquire"),
        ("acquire\nappend file_0 x\nreleas\n", 64, "line 3: releas: there is no such command"),
        ("acquire\nappend file_0\n", 64, "line 2: it is: append FILE DATA"),
    ] {
        let output = shell(&addr, &[], script);
        assert_eq!(output.status.code(), Some(code), "{script}: {output:?}");
        assert!(text(&output.stderr).contains(part), "{script}: {output:?}");
        assert_eq!(server.file("file_0"), "", "{script}");
        let next = shell(&addr, &[], "try\n");
        assert!(next.status.success(), "the lock is given back: {next:?}");
    }
}

#[test]
fn a_script_that_keeps_going_ends_with_the_code_of_the_first_failure() {
    let (_dir, server) = start();
    let script = "append file_0 early\nnonsense\nacquire\nappend file_0 x\nrelease\n";
    let output = shell(&server.addr().to_string(), &["--keep-going"], script);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert_eq!(server.file("file_0"), "x\n");
}

#[test]
fn a_section_that_a_script_leaves_open_or_aborts_is_discarded() {
    let (_dir, server) = start();
    for end in ["", "quit\n", "abort\n"] {
        let script = format!("acquire\nappend file_0 x\n{end}");
        let output = shell(&server.addr().to_string(), &[], &script);
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).contains("2 B discarded"), "{output:?}");
    }
    assert_eq!(server.file("file_0"), "");
}

#[test]
fn without_a_server_it_says_what_to_try() {
    let output = shell("127.0.0.1:9", &[], "acquire\n");
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("is batond running there?"), "{output:?}");
}

#[test]
fn two_people_at_terminals_see_who_has_the_lock() {
    let (dir, server) = start();
    let test = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/shell_terminal.py");
    let output = hermetic(Command::new("python3"))
        .arg(test)
        .arg(env!("CARGO_BIN_EXE_baton"))
        .env("BATON_SERVER", server.addr().to_string())
        .current_dir(dir.path())
        .output()
        .unwrap();
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{told}");
}
