//! Scenario 4d: the server is killed at random moments under eight clients in closed loops, again
//! and again; `tests/support/check_journal.py` then decides from the clients' journals and the
//! data files whether every promise was kept. `make torture N=500` is the long form.

mod common;

use baton::proxy::{Faults, Proxy, Rates, Setup};
use common::Server;
use common::disk::SmallDisk;
use common::driver::compile;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const CLIENTS: usize = 8;
/// Long enough that no lease runs out while a server restarts on a busy machine.
const LEASE: &str = "60s";

#[test]
fn scenario_4d_killed_at_any_moment_nothing_acknowledged_is_lost_or_doubled_or_torn() {
    let durability = std::env::var("BATON_TORTURE_DURABILITY").unwrap_or("sync".into());
    torture(Plan { durability: &durability, ..Plan::new() });
}

#[test]
fn scenario_4d_without_syncs_a_killed_process_still_loses_nothing() {
    torture(Plan { kills: kills().min(15), durability: "os", ..Plan::new() });
}

/// On a disk that is nearly full the log is cut short all the time.
#[test]
fn scenario_4d_killed_amid_checkpoints_nothing_is_lost_either() {
    if let Some(disk) = SmallDisk::mount("63m") {
        let (kills, under) = (kills().min(50), disk.path().to_owned());
        torture(Plan { kills, letters: 100_000, under, ..Plan::new() });
    }
}

#[test]
fn scenario_4d_killed_behind_a_bad_network_nothing_is_lost_either() {
    let rates = Rates { drop: 0.05, duplicate: 0.1, reorder: 0.1, delay_us: (0, 3_000) };
    let faults = Faults { requests: rates.clone(), replies: rates };
    torture(Plan { kills: kills().min(50), up_ms: 1_500, faults, ..Plan::new() });
}

/// What the server and its clients have to bear.
struct Plan<'a> {
    kills: u32,
    durability: &'a str,
    /// How long a long line may be.
    letters: u32,
    faults: Faults,
    /// How long the server is up at most between two kills.
    up_ms: u64,
    /// Where the data directory is to be.
    under: PathBuf,
}

impl Plan<'_> {
    fn new() -> Self {
        Plan {
            kills: kills(),
            durability: "sync",
            letters: 5_000,
            faults: Faults::default(),
            up_ms: 250,
            under: std::env::temp_dir(),
        }
    }
}

/// How often the server is killed: `BATON_TORTURE_KILLS`, or a few times.
fn kills() -> u32 {
    let given = std::env::var("BATON_TORTURE_KILLS").ok();
    given.map_or(15, |text| text.parse().expect("BATON_TORTURE_KILLS is a number"))
}

fn torture(plan: Plan<'_>) {
    let Plan { kills, durability, letters, faults, up_ms, under } = plan;
    let seed = common::seed();
    let mut random = Random(seed);
    // Stays behind, for looking at, when the test fails.
    let dir = tempfile::tempdir().unwrap().keep();
    println!("journals and traces in {}", dir.display());
    let data_dir = tempfile::tempdir_in(under).unwrap();
    let data = data_dir.path().join("data");
    let level = std::env::var("BATON_TORTURE_TRACE").unwrap_or("info".into());
    let flags = ["--lease", LEASE, "--durability", durability, "--trace", &level];
    let mut server = Server::start_traced(&data, &flags, &dir.join("traces"));
    let SocketAddr::V4(target) = server.addr() else { panic!("IPv4 is asked for") };
    let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let setup = Setup { faults, seed, ..Setup::default() };
    let is_lossy = setup.faults != Faults::default();
    let proxy = Proxy::start(listen, target, setup).unwrap();
    let start = |number| Client::start(number, seed, letters, proxy.addr(), &dir);
    let clients: Vec<Client> = (1..=CLIENTS).map(start).collect();
    for kill in 1..=kills {
        thread::sleep(random.up_to_ms(up_ms));
        server.kill();
        // Now and then again while it recovers.
        while random.next().is_multiple_of(4) {
            server.start_and_kill(random.up_to_ms(30));
        }
        server.restart();
        if kill.is_multiple_of(100) {
            println!("{kill} kills");
        }
    }
    thread::sleep(random.up_to_ms(up_ms));
    let journals: Vec<PathBuf> = clients.into_iter().map(Client::end).collect();
    let check = |when: &str| {
        let good = check(&data, &journals, is_lossy);
        if !good {
            eprintln!("{when}: seed {seed}, {kills} kills");
        }
        good
    };
    let is_good = check("after the last section")
        && {
            let status = server.terminate();
            assert!(status.success(), "{status}");
            check("after a clean end")
        }
        && {
            server.restart();
            check("after a new start")
        };
    if !is_good {
        drop(server);
        // A small disk does not outlive the test.
        let copied = Command::new("cp").arg("-a").arg(&data).arg(&dir).status();
        panic!("promises were broken: see above and {} ({copied:?})", dir.display());
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

fn check(data: &Path, journals: &[PathBuf], is_lossy: bool) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_journal.py");
    let mut command = Command::new("python3");
    command.arg(script).args(is_lossy.then_some("--lossy")).arg(data).args(journals);
    command.status().expect("python3 is needed").success()
}

/// One client process with its journal.
struct Client {
    child: Child,
    journal: PathBuf,
}

impl Client {
    fn start(number: usize, seed: u64, letters: u32, server: SocketAddrV4, dir: &Path) -> Client {
        let journal = dir.join(format!("c{number}.journal"));
        let child = common::hermetic(Command::new(compile("torture_client.c")))
            .arg(server.to_string())
            .arg(number.to_string())
            .arg(seed.to_string())
            .arg(&journal)
            .arg(letters.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Client { child, journal }
    }

    /// Lets it finish its section, and waits for that.
    fn end(mut self) -> PathBuf {
        drop(self.child.stdin.take());
        let status = common::wait_for_exit(&mut self.child, "a client");
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

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn up_to_ms(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.next() % (most * 1000))
    }
}
