//! What the torture tests share: clients in closed loops (`tests/c/torture_client.c`), how far they
//! have come, what decides from their journals, and chance from a seed.

use super::driver::compile;
use super::{eventually, hermetic, wait_for_exit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Clients of which each takes the lock, appends and releases, until it is told to end.
pub struct Clients(Vec<Client>);

impl Clients {
    /// Starts them, with long lines of up to `letters`; their journals are in `dir`.
    pub fn start(count: usize, seed: u64, letters: u32, servers: &str, dir: &Path) -> Clients {
        let program = || Command::new(compile("torture_client.c"));
        Clients::start_by(program, seed, letters, &vec![servers.to_owned(); count], dir)
    }

    /// Starts one for each of `servers`, with that list, in a network namespace.
    pub fn start_in(
        namespace: &str,
        seed: u64,
        letters: u32,
        servers: &[String],
        dir: &Path,
    ) -> Clients {
        let program = || {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(compile("torture_client.c"));
            command
        };
        Clients::start_by(program, seed, letters, servers, dir)
    }

    fn start_by(
        program: impl Fn() -> Command,
        seed: u64,
        letters: u32,
        servers: &[String],
        dir: &Path,
    ) -> Clients {
        println!("journals in {}", dir.display());
        let start = |(n, servers): (usize, &String)| {
            Client::start(program(), n + 1, seed, letters, servers, dir)
        };
        Clients(servers.iter().enumerate().map(start).collect())
    }

    /// Stops one where it is, or lets it go on.
    pub fn hold(&self, at: usize, is_stopped: bool) {
        let signal = if is_stopped { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(self.0[at].child.id() as i32), signal).unwrap();
    }

    /// Waits until that many more sections have been acknowledged, whosever they are.
    pub fn go_on_for(&mut self, sections: u64) {
        let before = self.acknowledged();
        let mut after = before;
        eventually(&format!("{sections} more sections are acknowledged"), || {
            after = self.acknowledged();
            after - before >= sections
        });
    }

    /// Waits until one more section of each client has been acknowledged.
    pub fn all_go_on(&mut self) {
        for client in &mut self.0 {
            let before = client.acknowledged();
            let what = format!("a section more of {} is acknowledged", client.journal.display());
            eventually(&what, || client.acknowledged() > before);
        }
    }

    /// Lets them finish their sections and waits for that; their journals.
    pub fn end(self) -> Vec<PathBuf> {
        self.0.into_iter().map(Client::end).collect()
    }

    fn acknowledged(&mut self) -> u64 {
        self.0.iter_mut().map(Client::acknowledged).sum()
    }
}

/// One client process with its journal.
struct Client {
    child: Child,
    journal: PathBuf,
    /// The journal, read up to where it was looked at last.
    looked_at: File,
    /// What is there of a line that was not whole.
    rest: Vec<u8>,
    acknowledged: u64,
}

impl Client {
    fn start(
        program: Command,
        number: usize,
        seed: u64,
        letters: u32,
        servers: &str,
        dir: &Path,
    ) -> Client {
        let journal = dir.join(format!("c{number}.journal"));
        File::create(&journal).unwrap();
        let child = hermetic(program)
            .arg(servers)
            .arg(number.to_string())
            .arg(seed.to_string())
            .arg(&journal)
            .arg(letters.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let looked_at = File::open(&journal).unwrap();
        Client { child, journal, looked_at, rest: Vec::new(), acknowledged: 0 }
    }

    /// How many of its releases have returned 0.
    fn acknowledged(&mut self) -> u64 {
        self.looked_at.read_to_end(&mut self.rest).unwrap();
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let is_one = |line: &&[u8]| line.starts_with(b"released ") && line.ends_with(b" 0");
        self.acknowledged += lines.split(|byte| *byte == b'\n').filter(is_one).count() as u64;
        self.acknowledged
    }

    fn end(mut self) -> PathBuf {
        drop(self.child.stdin.take());
        let status = wait_for_exit(&mut self.child, "a client");
        assert!(status.success(), "{}: {status}", self.journal.display());
        std::mem::take(&mut self.journal)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Either fails only if the process has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the data files have what the journals say was promised; `bearing` is what a client may
/// be told besides (`--lossy`, `--expiring`).
pub fn is_kept(data: &Path, journals: &[PathBuf], bearing: &[&str]) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_journal.py");
    let mut command = Command::new("python3");
    command.arg(script).args(bearing).arg(data).args(journals);
    command.status().expect("python3 is needed").success()
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// At least 1, at most `most`.
    pub fn one_to(&mut self, most: u64) -> u64 {
        1 + self.next() % most
    }

    pub fn up_to_ms(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.next() % (most * 1000))
    }
}
