//! `baton lock` as a user has it: beside the system's flock(1) over a table of options and
//! outcomes, and with its processes stopped and killed while the command runs.

mod common;

use baton::{Connection, FencingToken};
use common::{Server, eventually, hermetic, wait_for_exit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server with a short lease, and a directory for what commands write.
struct Bench {
    dir: TempDir,
    server: Server,
}

impl Bench {
    fn new() -> Bench {
        Bench::with_lease("1s")
    }

    fn with_lease(lease: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&dir.path().join("data"), &["--lease", lease]);
        Bench { dir, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn lock(&self, arguments: &[&str]) -> Command {
        let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
        command.arg("lock").args(arguments).current_dir(self.dir.path());
        command.env("BATON_SERVER", self.server.addr().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn flock(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("flock");
        // flock(1) has its options, then the file, then the command.
        let is_over = |&argument: &&str| !takes_part_in_options(argument);
        let options = arguments.iter().position(|a| is_over(&a)).unwrap_or(arguments.len());
        command.args(&arguments[..options]).arg(self.path("flock.lock"));
        command.args(&arguments[options..]).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command of `arguments` under the lock and waits until it runs.
    fn hold(&self, mut command: Command) -> Child {
        let started = self.path("started");
        let _ = fs::remove_file(&started);
        let child = command.spawn().unwrap();
        eventually("the command runs", || started.exists());
        child
    }

    /// A command that marks each 10 ms of its life with the token it has, deaf to SIGTERM.
    fn marking(&self) -> String {
        "trap '' TERM; touch started; while :; do echo $BATON_LOCK_TOKEN >> marks; sleep 0.01; done"
            .into()
    }

    /// Fails the test if commands ran beside each other: tokens only rise in what they wrote.
    fn assert_no_overlap(&self) {
        let marks: Vec<u64> = self.read("marks").lines().map(|l| l.parse().unwrap()).collect();
        assert!(marks.is_sorted(), "two commands ran at once: {marks:?}");
    }

    /// Another command gets the lock, while whatever is left of the first may still write.
    fn next_one_runs_alone(&self) {
        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $BATON_LOCK_TOKEN >> marks; \
             sleep 0.02; done";
        let output = self.lock(&["sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let marks = self.read("marks");
        self.assert_no_overlap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(self.read("marks"), marks, "the first command still writes");
    }
}

fn takes_part_in_options(argument: &str) -> bool {
    argument.starts_with('-') && !["--", "-c", "--command"].contains(&argument)
}

fn guard_of(child: &Child) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let mut pid = None;
    eventually("there is a guard", || {
        let text = fs::read_to_string(&children).unwrap_or_default();
        pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        pid.is_some()
    });
    Pid::from_raw(pid.unwrap())
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

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
    thread::sleep(Duration::from_millis(200)); // so that the command itself has ended
    kill(guard_of(&first), Signal::SIGKILL).unwrap();
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
