//! What the integration tests share: a real `batond` in a process of its own, and waiting for a
//! condition instead of for a time.

// Each test binary compiles this module and uses its own part of it.
#![allow(dead_code)]

pub mod c;
pub mod cluster;
pub mod disk;
pub mod driver;
pub mod lock;
pub mod network;
pub mod rubbish;
pub mod stage;
pub mod torture;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running `batond`; killed when dropped.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    launch: Launch,
}

/// How it is started, also after a crash.
struct Launch {
    data: PathBuf,
    flags: Vec<String>,
    /// Where its standard error goes, if not to the test's.
    traces: Option<PathBuf>,
    env: Vec<(String, String)>,
}

impl Server {
    /// Starts a server on a free port of 127.0.0.1 over the data directory `data` and waits for
    /// its ready line.
    pub fn start(data: &Path, flags: &[&str]) -> Server {
        Server::launch(data, flags, None, &[])
    }

    /// The same at an address where no other server listens any more.
    pub fn start_at(addr: SocketAddr, data: &Path, flags: &[&str]) -> Server {
        let flags = flags.iter().map(|flag| flag.to_string()).collect();
        let launch = Launch { data: data.to_owned(), flags, traces: None, env: Vec::new() };
        let (child, addr) = launch.spawn(addr).expect("batond did not start");
        Server { child, addr, launch }
    }

    /// The same, with these environment variables.
    pub fn start_with_env(data: &Path, flags: &[&str], env: &[(String, String)]) -> Server {
        Server::launch(data, flags, None, env)
    }

    /// The same, with its standard error in a file.
    pub fn start_traced(data: &Path, flags: &[&str], traces: &Path) -> Server {
        Server::launch(data, flags, Some(traces.to_owned()), &[])
    }

    /// The same, with these environment variables.
    pub fn start_traced_with_env(
        data: &Path,
        flags: &[&str],
        traces: &Path,
        env: &[(String, String)],
    ) -> Server {
        Server::launch(data, flags, Some(traces.to_owned()), env)
    }

    fn launch(
        data: &Path,
        flags: &[&str],
        traces: Option<PathBuf>,
        env: &[(String, String)],
    ) -> Server {
        let flags = flags.iter().map(|flag| flag.to_string()).collect();
        let launch = Launch { data: data.to_owned(), flags, traces, env: env.to_vec() };
        let free_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, addr) = launch.spawn(free_port).expect("batond did not start");
        Server { child, addr, launch }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// What a file of the data directory holds now.
    pub fn file(&self, name: &str) -> String {
        String::from_utf8(std::fs::read(self.launch.data.join(name)).unwrap()).unwrap()
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Server::kill`] or [`Server::terminate`]: same port, directory, flags.
    pub fn restart(&mut self) {
        let (child, addr) = self.launch.spawn(self.addr).expect("batond did not start again");
        assert_eq!(addr, self.addr);
        self.child = child;
    }

    /// Starts it again, as [`Server::restart`] does, and kills it after that time, whether it was
    /// ready or not.
    pub fn start_and_kill(&mut self, after: Duration) {
        let mut child = self.launch.command(self.addr).spawn().unwrap();
        thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the server has ended by itself, and with which code.
    pub fn ended(&mut self) -> Option<i32> {
        wait_for_exit(&mut self.child, "batond by itself").code()
    }

    /// Starts the server again, which is to end by itself because of its settings; what it says.
    pub fn refused_restart(&self) -> String {
        let mut command = self.launch.command(self.addr);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Asks it to end and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        wait_for_exit(&mut self.child, "batond after SIGTERM")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only if the process has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Launch {
    /// A `batond` that said that it is ready, or why there is none.
    fn spawn(&self, listen: SocketAddr) -> Result<(Child, SocketAddr), String> {
        let mut child = self.command(listen).spawn().map_err(|error| error.to_string())?;
        match ready_line(&mut child) {
            Ok(addr) => Ok((child, addr)),
            Err(reason) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(reason)
            }
        }
    }

    fn command(&self, listen: SocketAddr) -> Command {
        let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_batond")));
        command.arg("--listen").arg(listen.to_string()).arg("--data").arg(&self.data);
        command.args(&self.flags).stdout(Stdio::piped());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(traces) = &self.traces {
            let file = File::options().create(true).append(true).open(traces).unwrap();
            command.stderr(file);
        }
        command
    }
}

/// The address in the one line that a ready server prints; it is the line's last word.
fn ready_line(child: &mut Child) -> Result<SocketAddr, String> {
    let stdout = child.stdout.take().expect("stdout is piped");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens after the first; reading on keeps the server from a full pipe.
            let _ = sender.send(line);
        }
    });
    let line = lines.recv_timeout(PATIENCE).map_err(|_| "no ready line".to_string())?;
    let address = line.split_whitespace().next_back().and_then(|word| word.parse().ok());
    address.ok_or_else(|| format!("no address in the ready line {line:?}"))
}

/// The command without the `BATON_…` variables and the configuration of whoever runs the tests.
pub fn hermetic(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BATON_") {
            command.env_remove(name);
        }
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent").env("XDG_STATE_HOME", "/nonexistent");
    command
}

/// Whether a tool is there that a test can do without; says what is left out when it is not.
pub fn has_tool(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).status();
    if found.is_err() {
        eprintln!("SKIPPED: what needs {tool}, which is missing; `make setup` installs it");
    }
    found.is_ok()
}

/// Waits until `is_so`, looking often; fails the test when it does not come true.
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true(is_so), "still not so: {what}");
}

/// Waits until `is_so`, looking often; whether it has come true in time.
pub fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Waits for a process to end; fails the test when it does not.
pub fn wait_for_exit(child: &mut Child, what: &str) -> ExitStatus {
    let mut status = None;
    eventually(&format!("{what} has ended"), || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// The seed of a random test: `BATON_TEST_SEED`, or another one each time. Printed, so that a
/// failure can be played again.
pub fn seed() -> u64 {
    let given = std::env::var("BATON_TEST_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().hash_one(std::process::id()) >> 32,
        |text| text.parse().expect("BATON_TEST_SEED is a number"),
    );
    let test = thread::current().name().unwrap_or_default().to_owned();
    println!("seed {seed}; again with: BATON_TEST_SEED={seed} cargo nextest run {test}");
    seed
}
