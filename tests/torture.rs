//! Scenario 4d: the server is killed at random moments under eight clients in closed loops, again
//! and again; `tests/support/check_journal.py` then decides from the clients' journals and the
//! data files whether every promise was kept. `make torture N=500` is the long form.

mod common;

use common::Server;
use common::disk::SmallDisk;
use common::driver::compile;
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
    torture(kills(), &durability, 5_000, &std::env::temp_dir());
}

#[test]
fn scenario_4d_without_syncs_a_killed_process_still_loses_nothing() {
    torture(kills().min(15), "os", 5_000, &std::env::temp_dir());
}

/// On a disk that is nearly full the log is cut short all the time.
#[test]
fn scenario_4d_killed_amid_checkpoints_nothing_is_lost_either() {
    if let Some(disk) = SmallDisk::mount("63m") {
        torture(kills().min(50), "sync", 100_000, disk.path());
    }
}

/// How often the server is killed: `BATON_TORTURE_KILLS`, or a few times.
fn kills() -> u32 {
    let given = std::env::var("BATON_TORTURE_KILLS").ok();
    given.map_or(15, |text| text.parse().expect("BATON_TORTURE_KILLS is a number"))
}

/// `letters`: how long a long line may be.
fn torture(kills: u32, durability: &str, letters: u32, under: &Path) {
    let seed = common::seed();
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let data_dir = tempfile::tempdir_in(under).unwrap();
    let data = data_dir.path().join("data");
    let mut server = Server::start(&data, &["--lease", LEASE, "--durability", durability]);
    let start = |number| Client::start(number, seed, letters, &server, dir.path());
    let clients: Vec<Client> = (1..=CLIENTS).map(start).collect();
    for kill in 1..=kills {
        thread::sleep(random.up_to_ms(250));
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
    thread::sleep(random.up_to_ms(250));
    let journals: Vec<PathBuf> = clients.into_iter().map(Client::end).collect();
    let check = |when: &str| {
        let good = check(&data, &journals);
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
        let kept = dir.keep();
        // A small disk does not outlive the test.
        let copied = Command::new("cp").arg("-a").arg(&data).arg(&kept).status();
        panic!("promises were broken: see above and {} ({copied:?})", kept.display());
    }
}

fn check(data: &Path, journals: &[PathBuf]) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_journal.py");
    let status = Command::new("python3").arg(script).arg(data).args(journals).status();
    status.expect("python3 is needed").success()
}

/// One client process with its journal.
struct Client {
    child: Child,
    journal: PathBuf,
}

impl Client {
    fn start(number: usize, seed: u64, letters: u32, server: &Server, dir: &Path) -> Client {
        let journal = dir.join(format!("c{number}.journal"));
        let child = common::hermetic(Command::new(compile("torture_client.c")))
            .arg(server.addr().to_string())
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
        self.journal
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
