//! `baton append`, `cat`, `tail` and `files` as a person or a script uses them.

mod common;

use baton::Connection;
use baton::types::Ticket;
use common::{Server, eventually, hermetic, wait_for_exit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

fn start(flags: &[&str]) -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[&["--files", "4"], flags].concat());
    (dir, server)
}

fn baton(server: &Server, args: &[&str]) -> Command {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
    command.args(args).env("BATON_SERVER", server.addr().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(server: &Server, args: &[&str]) -> Output {
    baton(server, args).output().unwrap()
}

/// What a command prints that must succeed without another word.
fn shows(server: &Server, args: &[&str]) -> String {
    let output = run(server, args);
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(server: &Server, args: &[&str]) -> (i32, String) {
    let output = run(server, args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Appends what will be written into its input.
fn appending(server: &Server, file: &str) -> Child {
    baton(server, &["append", file]).stdin(Stdio::piped()).spawn().unwrap()
}

fn feed(child: &mut Child, text: &str) {
    child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn several_files_get_their_part_in_one_section_or_none_does() {
    let (_dir, server) = start(&[]);
    assert_eq!(shows(&server, &["append", "file_0=debit", "file_1=credit", "file_0=a=b"]), "");
    assert_eq!(
        (server.file("file_0"), server.file("file_1")),
        ("debit\na=b\n".into(), "credit\n".into())
    );
    let history = shows(&server, &["history", "--last", "1"]);
    assert!(history.contains("released"), "one section: {history}");
    for (args, code, part) in [
        (
            &["append", "file_0=x", "file_9=y"][..],
            66,
            "file_9: nothing was appended: the server has no",
        ),
        (&["append", "file_9", "x"], 66, "baton files lists them"),
        (&["append", "file_0=x", "file_1"], 64, "give FILE DATA, or each as FILE=DATA"),
        (&["append", "file_0", "x", "y"], 64, "FILE=DATA"),
        (&["append"], 64, "FILE"),
    ] {
        let (is, said) = fails(&server, args);
        assert!(is == code && said.contains(part), "{args:?}: {is} {said}");
    }
    assert_eq!(server.file("file_0"), "debit\na=b\n", "nothing of what failed");
    shows(&server, &["append", "-n", "file_2", "no newline"]);
    shows(&server, &["append", "file_2", ""]);
    assert_eq!(server.file("file_2"), "no newline\n");
    shows(&server, &["lock", "-n", "true"]); // each has given the lock back
}

#[test]
fn the_input_is_appended_as_it_is_however_long() {
    let (_dir, server) = start(&["--section-limit", "2MiB"]);
    let text = "0123456789abcde\n".repeat(100_000);
    let mut child = appending(&server, "file_0");
    feed(&mut child, &text);
    drop(child.stdin.take());
    assert!(wait_for_exit(&mut child, "append").success());
    assert!(server.file("file_0") == text);
    let mut child =
        baton(&server, &["append", "file_1", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    feed(&mut child, "x");
    drop(child.stdin.take());
    assert!(wait_for_exit(&mut child, "append -").success());
    assert_eq!(server.file("file_1"), "x");
    // More than a section may have is refused, whole.
    let mut child = appending(&server, "file_1");
    let _ = child.stdin.as_mut().unwrap().write_all(text.repeat(2).as_bytes());
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("more than one section may hold"), "{said}");
    assert_eq!(server.file("file_1"), "x");
}

/// A waiter would get the lock as soon as the lease is not renewed.
#[test]
fn the_lock_is_kept_while_the_input_is_slow_and_others_wait() {
    let (_dir, server) = start(&["--lease", "400ms"]);
    let mut slow = appending(&server, "file_0");
    feed(&mut slow, "first ");
    eventually("it has the lock", || {
        run(&server, &["lock", "-n", "true"]).status.code() == Some(1)
    });
    let mut waiter = baton(&server, &["append", "file_0", "waiter"]).spawn().unwrap();
    let mut watcher = Connection::connect(&server.addr().to_string()).unwrap();
    eventually("it has held the lock for five leases, and the other one waits", || {
        let (page, _) = watcher.lock_page(Ticket(0)).unwrap();
        page.waiting == 1 && page.now_ms.0 >= page.holder.unwrap().since_ms.0 + 2_000
    });
    assert_eq!(server.file("file_0"), "", "nothing shows yet, and the waiter waits");
    feed(&mut slow, "last\n");
    drop(slow.stdin.take());
    assert!(wait_for_exit(&mut slow, "the slow one").success());
    assert!(wait_for_exit(&mut waiter, "the waiter").success());
    assert_eq!(server.file("file_0"), "first last\nwaiter\n");
}

#[test]
fn an_append_that_loses_the_lock_appends_nothing_and_says_so() {
    let (_dir, server) = start(&["--lease", "400ms"]);
    let mut slow = appending(&server, "file_0");
    feed(&mut slow, "half");
    eventually("it has the lock", || {
        run(&server, &["lock", "-n", "true"]).status.code() == Some(1)
    });
    let pid = Pid::from_raw(slow.id().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    shows(&server, &["append", "file_0", "the next one"]);
    kill(pid, Signal::SIGCONT).unwrap();
    // It may have ended before it reads this.
    let _ = slow.stdin.as_mut().unwrap().write_all(b"other half\n");
    drop(slow.stdin.take());
    let output = slow.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(
        said.contains("nothing was appended: the lock was lost") && said.contains("try again"),
        "{said}"
    );
    assert_eq!(server.file("file_0"), "the next one\n");
}

#[test]
fn tail_follows_what_is_published_also_over_a_restart() {
    let (dir, mut server) = start(&[]);
    for line in ["one", "two", "three"] {
        shows(&server, &["append", "file_0", line]);
    }
    assert_eq!(shows(&server, &["tail", "-n", "2", "file_0"]), "two\nthree\n");
    assert_eq!(shows(&server, &["tail", "-n0", "file_0"]), "");
    let (code, said) = fails(&server, &["tail", "file_9"]);
    assert!(code == 66 && said.contains("baton files lists them"), "{code} {said}");

    let seen = dir.path().join("seen");
    let mut command = baton(&server, &["tail", "-f", "-n1", "file_0"]);
    command.stdout(fs::File::create(&seen).unwrap()).env("BATON_TIMEOUT_MS", "1000");
    let said = dir.path().join("said");
    command.stderr(fs::File::create(&said).unwrap());
    let mut tail = command.spawn().unwrap();
    let shown = || fs::read_to_string(&seen).unwrap();
    eventually("the last line is shown", || shown() == "three\n");
    shows(&server, &["append", "file_0", "four"]);
    eventually("the new line is shown", || shown() == "three\nfour\n");
    server.kill();
    eventually("it has tried for its time", || {
        fs::read_to_string(&said).unwrap().contains("no server answers; still trying")
    });
    server.restart();
    shows(&server, &["append", "file_0", "five"]);
    eventually("it goes on", || shown() == "three\nfour\nfive\n");
    assert!(tail.try_wait().unwrap().is_none(), "until it is interrupted");
    kill(Pid::from_raw(tail.id().cast_signed()), Signal::SIGINT).unwrap();
    wait_for_exit(&mut tail, "tail");
}

#[test]
fn files_are_listed_with_their_lengths() {
    let (_dir, server) = start(&[]);
    shows(&server, &["append", "file_2", "12345"]);
    let expected =
        "           0  file_0\n           0  file_1\n           6  file_2\n           0  file_3\n";
    assert_eq!(shows(&server, &["files"]), expected);
    assert_eq!(shows(&server, &["files", "--filled"]), "           6  file_2\n");
}

/// Bars while long work lasts and colours for headings, in a terminal and nowhere else.
#[test]
fn a_terminal_gets_progress_and_colours_unless_no_color_is_set() {
    let (dir, server) = start(&[]);
    fs::write(dir.path().join("input"), "x".repeat(20_000_000)).unwrap();
    let test = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/files_terminal.py");
    let output = hermetic(Command::new("python3"))
        .arg(test)
        .arg(env!("CARGO_BIN_EXE_baton"))
        .env("BATON_SERVER", server.addr().to_string())
        .env_remove("NO_COLOR")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(server.file("file_0").len(), 20_000_000);
}
