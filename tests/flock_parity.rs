//! `baton lock` beside the system's flock(1), over a table of options and outcomes.

mod common;

use common::lock::{Bench, code, pid, takes_part_in_options};
use common::{eventually, wait_for_exit};
use nix::sys::signal::{Signal, kill};

/// Options, and a command whose outcome is compared with that of flock(1) while the lock is free.
const FREE: &[&[&str]] = &[
    &["true"],
    &["false"],
    &["sh", "-c", "exit 42"],
    &["sh", "-c", "kill -TERM $$"],
    &["sh", "-c", "kill -KILL $$"],
    &["sh", "-c", "echo out; echo err >&2"],
    &["-c", "exit 3"],
    &["-n", "echo", "-n", "a  b"],
    &["-x", "true"],
    &["-e", "true"],
    &["-w0", "true"],
    &["-w1.5", "sh", "-c", "exit 5"],
    &["-n", "-E9", "sh", "-c", "exit 2"],
    &["-o", "true"],
    &["--nonblock", "true"],
    &["--nb", "true"],
    &["--timeout=2", "true"],
    &["--wait=2", "true"],
    &["--conflict-exit-code=4", "false"],
    &["--exclusive", "--close", "true"],
    &["-wnonsense", "true"],
    &["-w", "0.5", "true"],
    &["-w", ".5", "true"],
    &["-w", "1e3", "true"],
    &["-w", " 1", "true"],
    &["-w", "1s", "true"],
    &["-w", "", "true"],
    &["-Ex", "true"],
    &["-E256", "true"],
    &["-E-1", "true"],
    &["-E", "", "true"],
    &["-E255", "false"],
    &["--bogus", "true"],
    &["-n", "-n", "true"],
    &["-w1", "-w2", "true"],
    &["-x", "-e", "-n", "true"],
    &["-xn", "true"],
    &["-nE5", "true"],
    &["--conf=3", "--nonb", "true"],
    &["-F", "sh", "-c", "exit 7"],
    &["--no-fork", "true"],
    &["-F", "-o", "true"],
    &["-c"],
    &["-c", "true", "extra"],
    &["-c", "kill -9 $$"],
    &["--command", "exit 4"],
    &["-n", "-c", "exit 2"],
    &["true", "-n"],
    &["echo", "--help"],
    &["echo", "-c", "x"],
    &["sh", "-c", "exit $1", "x", "4"],
    &["sh", "-c", "exit 255"],
    &["sh", "-c", "kill -INT $$"],
    &["sh", "-c", "kill -SEGV $$"],
    &["cat"],
    &[],
];

/// The same while somebody else has the lock.
const TAKEN: &[&[&str]] = &[
    &["-n", "echo", "ran"],
    &["--nonblock", "echo", "ran"],
    &["-n", "-E77", "echo", "ran"],
    &["-w0", "echo", "ran"],
    &["-w0.1", "echo", "ran"],
    &["-w", "0.1", "-E3", "-c", "echo ran"],
    &["-n", "-w5", "echo", "ran"],
    &["-n", "-E0", "echo", "ran"],
    &["-w0.1", "-E255", "echo", "ran"],
    &["-n", "-E77", "-w5", "echo", "ran"],
    &["-n", "-o", "echo", "ran"],
    &["-n", "-F", "echo", "ran"],
    &["-n", "no-such-command-anywhere"],
    &["-n", "-c", "echo ran"],
];

fn compare(bench: &Bench, arguments: &[&str]) {
    // An option with its value in two words would be taken for the file by the helper above.
    let joined: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
    let glued = glue(&joined);
    let glued: Vec<&str> = glued.iter().map(String::as_str).collect();
    let theirs = bench.flock(&glued).output().unwrap();
    let ours = bench.lock(arguments).output().unwrap();
    assert_eq!(
        (code(&ours), &ours.stdout),
        (code(&theirs), &theirs.stdout),
        "{arguments:?}: baton lock {ours:?}, flock {theirs:?}"
    );
}

fn glue(arguments: &[String]) -> Vec<String> {
    match arguments {
        [option, value, rest @ ..] if option == "-w" && value.is_empty() => {
            [vec!["--wait=".to_owned()], glue(rest)].concat()
        }
        [option, value, rest @ ..] if option == "-E" && value.is_empty() => {
            [vec!["--conflict-exit-code=".to_owned()], glue(rest)].concat()
        }
        [option, value, rest @ ..] if option == "-w" || option == "-E" => {
            [vec![format!("{option}{value}")], glue(rest)].concat()
        }
        [first, rest @ ..] if takes_part_in_options(first) => {
            [vec![first.clone()], glue(rest)].concat()
        }
        rest => rest.to_vec(),
    }
}

#[test]
fn options_and_outcomes_are_those_of_flock() {
    let bench = Bench::new();
    for arguments in FREE {
        compare(&bench, arguments);
    }
    let mut theirs = bench.flock(&["sleep", "30"]).spawn().unwrap();
    let mut ours = bench.hold(bench.lock(&["sh", "-c", "touch started; exec sleep 30"]));
    eventually("flock has its lock", || code(&bench.flock(&["-n", "true"]).output().unwrap()) == 1);
    for arguments in TAKEN {
        compare(&bench, arguments);
    }
    theirs.kill().unwrap();
    theirs.wait().unwrap();
    kill(pid(&ours), Signal::SIGTERM).unwrap();
    assert_eq!(wait_for_exit(&mut ours, "the holder").code(), Some(143));
}

/// Where it is not flock(1)'s: messages are on standard error, `--` needs no file before it.
#[test]
fn what_it_says_is_for_people_and_on_standard_error() {
    let bench = Bench::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let output = bench.lock(&["--verbose", "--", "sh", "-c", "exit 9"]).output().unwrap();
    assert_eq!((code(&output), output.stdout.len()), (9, 0));
    let said = text(&output.stderr);
    assert!(said.contains("getting the lock took") && said.contains("executing sh"), "{said}");
    for option in ["--version", "-V"] {
        let output = bench.lock(&[option]).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(text(&output.stdout).contains(env!("CARGO_PKG_VERSION")), "{output:?}");
    }
    let help = bench.lock(&["--help"]).output().unwrap();
    assert_eq!(code(&help), 0);
    assert!(text(&help.stdout).contains("Exit codes: "), "{help:?}");
    let mut holder = bench.hold(bench.lock(&["sh", "-c", "touch started; exec sleep 30"]));
    for (arguments, part) in [
        (["-n", "--verbose", "true"], "failed to get"),
        (["-w0.1", "--verbose", "true"], "timeout"),
    ] {
        let output = bench.lock(&arguments).output().unwrap();
        assert_eq!(code(&output), 1);
        assert!(text(&output.stderr).contains(part), "{output:?}");
    }
    assert_eq!(bench.lock(&["-n", "true"]).output().unwrap().stderr, b"", "as flock: not a word");
    kill(pid(&holder), Signal::SIGTERM).unwrap();
    wait_for_exit(&mut holder, "the holder");
}

/// Any status is the command's own, any -E the caller's.
#[test]
fn every_exit_code_comes_through() {
    let bench = Bench::with_lease("20s");
    for status in [0, 1, 63, 64, 69, 75, 125, 126, 127, 128, 130, 254, 255] {
        let output = bench.lock(&["sh", "-c", &format!("exit {status}")]).output().unwrap();
        assert_eq!(code(&output), status);
    }
    let mut holder = bench.hold(bench.lock(&["sh", "-c", "touch started; exec sleep 30"]));
    for status in [0, 1, 2, 64, 75, 127, 128, 255] {
        let output = bench.lock(&["-n", "-E", &status.to_string(), "true"]).output().unwrap();
        assert_eq!(code(&output), status);
    }
    kill(pid(&holder), Signal::SIGTERM).unwrap();
    wait_for_exit(&mut holder, "the holder");
}

#[test]
fn what_a_lease_cannot_have_is_refused_with_a_reason() {
    let bench = Bench::new();
    for option in ["-s", "-u"] {
        let output = bench.lock(&[option, "true"]).output().unwrap();
        assert_eq!(code(&output), 64, "{option}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(option), "{output:?}");
    }
}

/// As flock(1) has it since util-linux 2.39; before, it was 69 for either.
#[test]
fn a_command_that_cannot_be_executed_is_told_from_one_that_does_not_exist() {
    let bench = Bench::new();
    assert_eq!(code(&bench.lock(&["no-such-command-anywhere"]).output().unwrap()), 127);
    assert_eq!(code(&bench.lock(&["/"]).output().unwrap()), 126);
    assert_eq!(code(&bench.lock(&["-n", "true"]).output().unwrap()), 0, "the lock is given back");
}
