//! Scenario 4d: the server is killed at random moments under eight clients in closed loops, again
//! and again, each time after they got some way; `tests/support/check_journal.py` then decides from
//! the clients' journals and the data files whether every promise was kept. `make torture N=500` is
//! the long form.

mod common;

use baton::proxy::{Faults, Proxy, Rates, Setup};
use common::Server;
use common::disk::SmallDisk;
use common::torture::{Clients, Random, is_kept};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

const CLIENTS: usize = 8;
/// Long enough that no lease runs out while a server restarts on a busy machine.
const LEASE: &str = "60s";
/// About as long as a few requests take, so that a kill meets every part of a section.
const MOMENT_MS: u64 = 5;

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
    torture(Plan { kills: kills().min(50), sections: 20, faults, ..Plan::new() });
}

/// What the server and its clients have to bear.
struct Plan<'a> {
    kills: u32,
    durability: &'a str,
    /// How long a long line may be.
    letters: u32,
    faults: Faults,
    /// How many sections are acknowledged at most from a start to the next kill, and a few.
    sections: u64,
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
            sections: 60,
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
    let Plan { kills, durability, letters, faults, sections, under } = plan;
    let seed = common::seed();
    let mut random = Random(seed);
    // Stays behind, for looking at, when the test fails.
    let dir = tempfile::tempdir().unwrap().keep();
    let data_dir = tempfile::tempdir_in(under).unwrap();
    let data = data_dir.path().join("data");
    let level = std::env::var("BATON_TORTURE_TRACE").unwrap_or("info".into());
    let flags = ["--lease", LEASE, "--durability", durability, "--trace", &level];
    let mut server = Server::start_traced(&data, &flags, &dir.join("traces"));
    let SocketAddr::V4(target) = server.addr() else { panic!("IPv4 is asked for") };
    let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let setup = Setup { faults, seed, ..Setup::default() };
    let bearing: &[_] = if setup.faults == Faults::default() { &[] } else { &["--lossy"] };
    let proxy = Proxy::start(listen, target, setup).unwrap();
    let mut clients = Clients::start(CLIENTS, seed, letters, &proxy.addr().to_string(), &dir);
    for kill in 1..=kills {
        clients.go_on_for(random.one_to(sections));
        thread::sleep(random.up_to_ms(MOMENT_MS));
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
    clients.all_go_on();
    let journals = clients.end();
    let check = |when: &str| {
        let good = is_kept(&data, &journals, bearing);
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
