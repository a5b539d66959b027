//! Clients in processes of their own, through the C ABI: `tests/c/driver.c`, told line by line
//! what to do. A process can be stopped, resumed and killed, which a thread cannot.

use super::{PATIENCE, c, hermetic};
use baton::protocol::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

/// A client process with an open connection; killed when dropped.
pub struct Driver {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The command.
    pub command: String,
    pub status: Status,
    /// What it gave: a token, what was read.
    pub rest: String,
}

impl Driver {
    /// Starts a client and connects it.
    pub fn connect(server: impl Display) -> Driver {
        let mut driver = Driver::start();
        driver.ok(&format!("init {server}"));
        driver
    }

    /// Starts a client that is not connected yet.
    pub fn start() -> Driver {
        Driver::start_with(&[])
    }

    /// The same, with these variables.
    pub fn start_with(variables: &[(&str, &str)]) -> Driver {
        Driver::spawn(Command::new(compile("driver.c")), variables)
    }

    /// The same, in a network namespace.
    pub fn start_in(namespace: &str, variables: &[(&str, &str)]) -> Driver {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(compile("driver.c"));
        Driver::spawn(command, variables)
    }

    fn spawn(command: Command, variables: &[(&str, &str)]) -> Driver {
        let mut child = hermetic(command)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Nobody listens any more when the test is over.
                let _ = sender.send(line);
            }
        });
        Driver { child, stdin, answers }
    }

    /// Gives it a command without waiting for the end.
    pub fn send(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
    }

    /// Waits for the end of the oldest command that has not been answered.
    pub fn answer(&mut self) -> Answer {
        let line = self.answers.recv_timeout(PATIENCE).expect("no answer from a client");
        Answer::read(&line)
    }

    /// Gives it a command and waits for the end.
    pub fn call(&mut self, command: &str) -> Answer {
        self.send(command);
        self.answer()
    }

    /// Gives it a command that must succeed; returns what it gave.
    pub fn ok(&mut self, command: &str) -> String {
        self.send(command);
        self.answered_ok()
    }

    /// Waits for the end of a command that must succeed; returns what it gave.
    pub fn answered_ok(&mut self) -> String {
        let answer = self.answer();
        assert_eq!(answer.status, Status::Ok, "{answer:?}");
        answer.rest
    }

    /// Gives it a command that must end with this status.
    pub fn fails(&mut self, command: &str, status: Status) {
        let answer = self.call(command);
        assert_eq!(answer.status, status, "{answer:?}");
    }

    /// Whether its command has not ended yet.
    pub fn is_blocked(&self) -> bool {
        match self.answers.try_recv() {
            Err(mpsc::TryRecvError::Empty) => true,
            Ok(line) => panic!("the client answered {line:?}"),
            Err(mpsc::TryRecvError::Disconnected) => panic!("the client is gone"),
        }
    }

    /// Stops the process where it is.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a stopped process go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends the process without a chance to say anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert_eq!(self.answers.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Either fails only if the process has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    fn read(line: &str) -> Answer {
        let mut words = line.splitn(3, ' ');
        let command = words.next().unwrap_or_default().to_owned();
        let code = words.next().and_then(|word| word.parse().ok());
        let status = code.and_then(Status::from_code);
        let status = status.unwrap_or_else(|| panic!("no status in {line:?}"));
        Answer { command, status, rest: words.next().unwrap_or_default().to_owned() }
    }
}

/// Compiles a program of `tests/c` into one that can stay: unlike a [`super::c::Program`] it is
/// linked statically and kept until its source or the library is newer, since every test starts
/// several of it.
pub fn compile(source: &str) -> PathBuf {
    let library = c::built("libbaton.a");
    let source = Path::new(c::ROOT).join("tests/c").join(source);
    let name = source.file_stem().unwrap().to_str().unwrap();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if program.exists() && [&source, &library].iter().all(|path| is_older(path, &program)) {
        return program;
    }
    // Tests run side by side: each builds its own and moves it into place.
    let mine = program.with_extension(std::process::id().to_string());
    let output = Command::new("cc")
        .args(["-std=gnu11", "-g", "-O1", "-Iinclude", "-o"])
        .arg(&mine)
        .args(c::STRICT)
        .args([&source, &library])
        .args(["-lpthread", "-ldl", "-lm"])
        .current_dir(c::ROOT)
        .output()
        .unwrap();
    c::assert_quiet_success(&format!("cc {}", source.display()), &output);
    std::fs::rename(&mine, &program).unwrap();
    program
}

fn is_older(path: &Path, than: &Path) -> bool {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).unwrap();
    modified(path) < modified(than)
}
