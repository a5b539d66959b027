//! `baton lock` as a user has it: signals and terminals, and its processes stopped and killed while
//! the command runs.

mod common;

use baton::{Connection, FencingToken};
use common::lock::{Bench, children_of, code, guard_of, pid};
use common::{eventually, hermetic, wait_for_exit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn the_command_gets_the_token_the_server_and_the_input() {
    let bench = Bench::new();
    let mut command = bench.lock(&["sh", "-c", "cat; echo $BATON_LOCK_TOKEN $BATON_SERVER"]);
    fs::write(bench.path("input"), "from outside\n").unwrap();
    command.stdin(fs::File::open(bench.path("input")).unwrap());
    let stdout = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let (input, rest) = stdout.split_once('\n').unwrap();
    let (token, server) = rest.trim_end().split_once(' ').unwrap();
    assert_eq!(input, "from outside");
    assert!(token.parse::<u64>().unwrap() > 0);
    assert_eq!(server, bench.server.addr().to_string());
}

#[test]
fn a_command_outlasts_many_leases_and_nobody_else_gets_in() {
    let bench = Bench::new();
    let mut first =
        bench.hold(bench.lock(&["sh", "-c", "touch started; sleep 3; echo 1 >> marks"]));
    let output = bench.lock(&["sh", "-c", "echo 2 >> marks"]).output().unwrap();
    assert!(output.status.success());
    assert!(wait_for_exit(&mut first, "the first").success());
    assert_eq!(bench.read("marks"), "1\n2\n");
}

#[test]
fn the_lock_is_held_for_what_the_command_leaves_behind_unless_close_is_given() {
    let bench = Bench::new();
    let began = Instant::now();
    assert!(bench.lock(&["sh", "-c", "setsid sleep 1 >&- 2>&- &"]).status().unwrap().success());
    assert!(began.elapsed() >= Duration::from_secs(1));
    let began = Instant::now();
    assert!(
        bench
            .lock(&["-o", "sh", "-c", "sleep 30 >&- 2>&- & echo $! > left"])
            .status()
            .unwrap()
            .success()
    );
    assert!(began.elapsed() < Duration::from_secs(20));
    let left = Pid::from_raw(bench.read("left").trim().parse().unwrap());
    kill(left, Signal::SIGKILL).unwrap();
}

#[test]
fn signals_reach_the_command() {
    let bench = Bench::new();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGUSR1] {
        let script = format!(
            "trap 'exit 33' {}; touch started; while :; do sleep 0.01; done",
            &signal.as_str()[3..]
        );
        let mut child = bench.hold(bench.lock(&["sh", "-c", &script]));
        kill(pid(&child), signal).unwrap();
        assert_eq!(wait_for_exit(&mut child, "baton lock").code(), Some(33), "{signal}");
    }
}

#[test]
fn a_signal_ends_the_wait_and_leaves_the_queue() {
    let bench = Bench::new();
    let mut holder = bench.hold(bench.lock(&["sh", "-c", "touch started; exec sleep 30"]));
    let mut waiter = bench.lock(&["true"]).spawn().unwrap();
    guard_of(&waiter);
    kill(pid(&waiter), Signal::SIGTERM).unwrap();
    let status = wait_for_exit(&mut waiter, "the waiter");
    assert_eq!(status.signal(), Some(15), "{status}");
    kill(pid(&holder), Signal::SIGTERM).unwrap();
    wait_for_exit(&mut holder, "the holder");
    assert!(bench.lock(&["-w5", "true"]).status().unwrap().success());
}

#[test]
fn a_killed_front_takes_its_command_along_before_the_lock_passes_on() {
    let bench = Bench::new();
    let mut first = bench.hold(bench.lock(&["sh", "-c", &bench.marking()]));
    kill(pid(&first), Signal::SIGKILL).unwrap();
    bench.next_one_runs_alone();
    first.wait().unwrap();
}

#[test]
fn a_stopped_front_loses_its_command_before_the_lock_passes_on() {
    let bench = Bench::new();
    let mut first = bench.hold(bench.lock(&["sh", "-c", &bench.marking()]));
    kill(pid(&first), Signal::SIGSTOP).unwrap();
    bench.next_one_runs_alone();
    kill(pid(&first), Signal::SIGCONT).unwrap();
    assert_eq!(wait_for_exit(&mut first, "the first").code(), Some(75));
}

#[test]
fn a_killed_guard_ends_the_command_and_what_left_its_group() {
    let bench = Bench::new();
    let script = format!("setsid sh -c '{}' & wait", bench.marking().replace("''", "\"\""));
    let mut first = bench.hold(bench.lock(&["sh", "-c", &script]));
    kill(guard_of(&first), Signal::SIGKILL).unwrap();
    assert_eq!(wait_for_exit(&mut first, "the first").code(), Some(75));
    bench.next_one_runs_alone();
}

#[test]
fn a_stopped_guard_is_stood_in_for_when_the_network_is_cut() {
    let bench = Bench::new();
    let mut first = bench.hold(bench.lock(&["sh", "-c", &bench.marking()]));
    kill(guard_of(&first), Signal::SIGSTOP).unwrap();
    kill(bench.server.pid(), Signal::SIGSTOP).unwrap();
    assert_eq!(wait_for_exit(&mut first, "the first").code(), Some(75));
    kill(bench.server.pid(), Signal::SIGCONT).unwrap();
    bench.next_one_runs_alone();
}

/// Nobody runs who could end the command: the kernel kills the guard, and the group with it.
#[test]
fn a_command_whose_front_and_guard_are_stopped_ends_before_the_lock_passes_on() {
    let bench = Bench::new();
    let script = format!("({}) & {}", bench.marking(), bench.marking());
    let mut first = bench.hold(bench.lock(&["sh", "-c", &script]));
    kill(guard_of(&first), Signal::SIGSTOP).unwrap();
    kill(pid(&first), Signal::SIGSTOP).unwrap();
    bench.next_one_runs_alone();
    kill(pid(&first), Signal::SIGCONT).unwrap();
    assert_eq!(wait_for_exit(&mut first, "the first").code(), Some(75));
}

#[test]
fn a_command_whose_front_and_guard_are_killed_at_once_ends_with_its_group() {
    let bench = Bench::new();
    let script = format!("({}) & {}", bench.marking(), bench.marking());
    let mut first = bench.hold(bench.lock(&["sh", "-c", &script]));
    let guard = guard_of(&first);
    kill(pid(&first), Signal::SIGKILL).unwrap();
    kill(guard, Signal::SIGKILL).unwrap();
    bench.next_one_runs_alone();
    first.wait().unwrap();
}

/// Stopped, continued, killed and cut off at random for a while. `BATON_TEST_SECONDS` makes it
/// longer.
#[test]
fn commands_never_overlap_whatever_is_done_to_their_processes() {
    let bench = Bench::new();
    let seed = common::seed();
    let seconds = std::env::var("BATON_TEST_SECONDS").unwrap_or("10".into());
    let test = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/lock_storm.py");
    let output = hermetic(Command::new("python3"))
        .arg(test)
        .args([env!("CARGO_BIN_EXE_baton"), &bench.server.addr().to_string(), &seconds])
        .arg(seed.to_string())
        .current_dir(bench.dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{told}");
    assert!(output.status.success(), "{told}");
}

/// What is left of the command when the guard is killed is ended, also when the command itself has
/// ended by itself.
#[test]
fn a_killed_guard_takes_along_what_the_command_left_behind() {
    let bench = Bench::new();
    let script = format!("setsid sh -c '{}' &", bench.marking().replace("''", "\"\""));
    let mut first = bench.hold(bench.lock(&["sh", "-c", &script]));
    let guard = guard_of(&first);
    eventually("the command itself has ended, and the guard has what it left", || {
        let children = children_of(guard);
        // What was left is alone in a session of its own.
        !children.is_empty() && children.iter().all(|child| getsid(Some(*child)) == Ok(*child))
    });
    kill(guard, Signal::SIGKILL).unwrap();
    assert_eq!(wait_for_exit(&mut first, "the first").code(), Some(75));
    bench.next_one_runs_alone();
}

/// An operator's decision reaches the command soon, however long the lease is.
#[test]
fn a_revoked_lock_ends_its_command_at_once() {
    let bench = Bench::with_lease("60s");
    let mut first = bench.hold(bench.lock(&["sh", "-c", &bench.marking()]));
    let mut operator = Connection::connect(&bench.server.addr().to_string()).unwrap();
    let mut token = None;
    eventually("the command has its token", || {
        token = bench.read("marks").lines().next().and_then(|line| line.parse().ok());
        token.is_some()
    });
    operator.revoke(FencingToken(token.unwrap()), "enough").unwrap();
    let revoked = Instant::now();
    assert_eq!(wait_for_exit(&mut first, "the first").code(), Some(75));
    assert!(revoked.elapsed() < Duration::from_secs(10), "{:?}", revoked.elapsed());
    operator.close().unwrap();
}

#[test]
fn a_server_that_is_silent_ends_the_command_within_the_lease() {
    let bench = Bench::new();
    let mut first = bench.hold(bench.lock(&["sh", "-c", &bench.marking()]));
    let cut = Instant::now();
    kill(bench.server.pid(), Signal::SIGSTOP).unwrap();
    assert_eq!(wait_for_exit(&mut first, "the first").code(), Some(75));
    assert!(cut.elapsed() < Duration::from_millis(1500), "{:?}", cut.elapsed());
    kill(bench.server.pid(), Signal::SIGCONT).unwrap();
    bench.next_one_runs_alone();
}

#[test]
fn no_server_is_told_from_no_lock() {
    let bench = Bench::new();
    let mut command = bench.lock(&["true"]);
    command.env("BATON_SERVER", "127.0.0.1:9").env("BATON_TIMEOUT_MS", "200");
    let output = command.output().unwrap();
    assert_eq!(code(&output), 69);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is batond running"), "{output:?}");
}

/// In a terminal: Ctrl-C reaches the command alone, Ctrl-Z stops the job and fg goes on with it.
#[test]
fn a_terminal_works_as_without_the_lock() {
    let bench = Bench::with_lease("20s");
    let test = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/lock_terminal.py");
    let output = hermetic(Command::new("python3"))
        .arg(test)
        .arg(env!("CARGO_BIN_EXE_baton"))
        .env("BATON_SERVER", bench.server.addr().to_string())
        .current_dir(bench.dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
