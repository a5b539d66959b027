//! What the tests of `baton lock` share: a server, commands under its lock and under flock(1)'s.

use super::{Server, eventually, hermetic};
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A server with a short lease, and a directory for what commands write.
pub struct Bench {
    pub dir: TempDir,
    pub server: Server,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with_lease("1s")
    }

    pub fn with_lease(lease: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&dir.path().join("data"), &["--lease", lease]);
        Bench { dir, server }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn lock(&self, arguments: &[&str]) -> Command {
        let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_baton")));
        command.arg("lock").args(arguments).current_dir(self.dir.path());
        command.env("BATON_SERVER", self.server.addr().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn flock(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("flock");
        // flock(1) has its options, then the file, then the command.
        let is_over = |argument: &&str| !takes_part_in_options(argument);
        let options = arguments.iter().position(is_over).unwrap_or(arguments.len());
        command.args(&arguments[..options]).arg(self.path("flock.lock"));
        command.args(&arguments[options..]).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command of `arguments` under the lock and waits until it runs.
    pub fn hold(&self, mut command: Command) -> Child {
        let started = self.path("started");
        let _ = fs::remove_file(&started);
        let child = command.spawn().unwrap();
        eventually("the command runs", || started.exists());
        child
    }

    /// A command that marks each 10 ms of its life with the token it has, deaf to SIGTERM.
    pub fn marking(&self) -> String {
        "trap '' TERM; touch started; while :; do echo $BATON_LOCK_TOKEN >> marks; sleep 0.01; done"
            .into()
    }

    /// Fails the test if commands ran beside each other: tokens only rise in what they wrote.
    pub fn assert_no_overlap(&self) {
        let marks: Vec<u64> = self.read("marks").lines().map(|l| l.parse().unwrap()).collect();
        assert!(marks.is_sorted(), "two commands ran at once: {marks:?}");
    }

    /// Another command gets the lock, while whatever is left of the first may still write.
    pub fn next_one_runs_alone(&self) {
        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $BATON_LOCK_TOKEN >> marks; \
             sleep 0.02; done";
        let output = self.lock(&["sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        eventually("nothing that could write is left", || !self.has_shells());
        self.assert_no_overlap();
    }

    /// Whether any shell works in the bench's directory.
    fn has_shells(&self) -> bool {
        let here = fs::canonicalize(self.dir.path()).unwrap();
        let mut processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        processes.any(|process| {
            // One that has ended, and that nobody has waited for yet, is nowhere.
            fs::read_link(process.join("cwd")).is_ok_and(|place| place == here)
                && fs::read_to_string(process.join("comm")).is_ok_and(|name| name == "sh\n")
        })
    }
}

/// Whether flock(1) takes the word for an option, and not for the file or the command.
pub fn takes_part_in_options(argument: &str) -> bool {
    argument.starts_with('-') && !["--", "-c", "--command"].contains(&argument)
}

/// The process between `baton lock` and its command.
pub fn guard_of(child: &Child) -> Pid {
    let mut guard = None;
    eventually("there is a guard", || {
        guard = children_of(pid(child)).first().copied();
        guard.is_some()
    });
    guard.unwrap()
}

/// The children of the first thread of a process.
pub fn children_of(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// The exit code; -1 for a signal.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}
