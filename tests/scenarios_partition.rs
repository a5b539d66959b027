//! Scenario 5g: the leader is cut off from the other servers while clients still reach it. Each
//! server has a network namespace with one link to the others and one to the clients. Needs root
//! and `ip`; skipped loudly otherwise.

mod common;

use baton::protocol::Status;
use common::driver::Driver;
use common::{eventually, hermetic};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Three servers in namespaces of their own, and one for clients. Gone when dropped.
struct Network {
    tag: String,
    children: Vec<Child>,
    dir: TempDir,
}

fn ip(args: &str) -> bool {
    let status = Command::new("ip").args(args.split_whitespace()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Network {
    /// None where namespaces are not permitted.
    fn new() -> Option<Network> {
        let tag = format!("bt{}", std::process::id() % 100_000);
        let network =
            Network { tag: tag.clone(), children: Vec::new(), dir: tempfile::tempdir().unwrap() };
        let must = |args: String| if ip(&args) { Some(()) } else { None };
        // The switch has a bridge for the servers; clients have one in their namespace.
        must(format!("netns add {tag}s"))?;
        must(format!("netns add {tag}c"))?;
        must(format!("-n {tag}s link add br0 type bridge"))?;
        must(format!("-n {tag}s link set br0 up"))?;
        must(format!("-n {tag}c link add br0 type bridge"))?;
        must(format!("-n {tag}c addr add 10.98.0.100/24 dev br0"))?;
        must(format!("-n {tag}c link set br0 up"))?;
        must(format!("-n {tag}c link set lo up"))?;
        for id in 1..=3 {
            must(format!("netns add {tag}n{id}"))?;
            must(format!("-n {tag}n{id} link set lo up"))?;
            for (side, net, name) in [("s", 97, "peers"), ("c", 98, "clients")] {
                must(format!(
                    "-n {tag}{side} link add p{id} type veth peer name {name} netns {tag}n{id}"
                ))?;
                must(format!("-n {tag}{side} link set p{id} master br0 up"))?;
                must(format!("-n {tag}n{id} addr add 10.{net}.0.{id}/24 dev {name}"))?;
                must(format!("-n {tag}n{id} link set {name} up"))?;
            }
        }
        Some(network)
    }

    fn start(&mut self) {
        let cluster = "1=10.97.0.1:7000,2=10.97.0.2:7000,3=10.97.0.3:7000";
        for id in 1..=3 {
            let traces = std::fs::File::create(self.dir.path().join(format!("traces{id}")));
            let mut command = hermetic(Command::new("ip"));
            command
                .args(["netns", "exec", &format!("{}n{id}", self.tag)])
                .args([env!("CARGO_BIN_EXE_batond"), "--node", &id.to_string()])
                .args(["--cluster", cluster, "--listen", &format!("10.98.0.{id}:10000")])
                .args(["--lease", "60s", "--data"])
                .arg(self.data(id))
                .stdout(Stdio::null())
                .stderr(traces.unwrap());
            self.children.push(command.spawn().unwrap());
        }
    }

    fn data(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("data{id}"))
    }

    fn file(&self, id: usize) -> String {
        std::fs::read_to_string(self.data(id).join("file_0")).unwrap_or_default()
    }

    /// The server that said last that it serves clients, by the highest term.
    fn leader(&self) -> Option<(u64, usize)> {
        let term = |id: usize| {
            let traces = std::fs::read_to_string(self.dir.path().join(format!("traces{id}")));
            let traces = traces.unwrap_or_default();
            let line = traces.lines().rfind(|line| line.contains("serves clients"))?;
            let (_, rest) = line.split_once("term=")?;
            Some((rest.split_whitespace().next()?.parse().ok()?, id))
        };
        (1..=3).filter_map(term).max()
    }

    /// Cuts a server off from the others, or joins it again.
    fn link(&self, id: usize, state: &str) {
        assert!(ip(&format!("-n {}s link set p{id} {state}", self.tag)));
    }

    fn client(&self, servers: &str, variables: &[(&str, &str)]) -> Driver {
        let mut driver = Driver::start_in(&format!("{}c", self.tag), variables);
        driver.ok(&format!("init {servers}"));
        driver
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in ["s", "c", "n1", "n2", "n3"] {
            ip(&format!("netns del {}{name}", self.tag));
        }
    }
}

#[test]
fn scenario_5g_a_leader_that_is_cut_off_acknowledges_and_shows_nothing() {
    let Some(mut network) = Network::new() else {
        eprintln!("SKIPPED: scenario 5g, which needs root and network namespaces");
        return;
    };
    network.start();
    eventually("there is a leader", || network.leader().is_some());
    let all = "10.98.0.1:10000,10.98.0.2:10000,10.98.0.3:10000";
    let mut holder = network.client(all, &[]);
    holder.ok("acquire");
    holder.ok("append file_0 A");
    holder.ok("release");
    let token: u64 = holder.ok("acquire").parse().unwrap();
    holder.ok("append file_0 B");
    let (term, leader) = network.leader().unwrap();
    let hasty = [("BATON_TIMEOUT_MS", "1500")];
    // It knows only the server that is cut off.
    let mut lured = network.client(&format!("10.98.0.{leader}:10000"), &hasty);
    let mut reader = network.client(&format!("10.98.0.{leader}:10000"), &hasty);

    network.link(leader, "down");
    lured.send("acquire");
    holder.ok("append file_0 B");
    assert_eq!(holder.ok("token").parse(), Ok(token), "it kept the lock and its token");
    holder.ok("release");
    let (newer, other) = network.leader().unwrap();
    assert!(newer > term && other != leader);
    let read = reader.call("read file_0 0 9");
    assert_eq!(read.status, Status::Unavailable, "a read without a quorum: {read:?}");
    let acquired = lured.answer();
    assert_eq!(acquired.status, Status::TimedOut, "{acquired:?}");
    assert_eq!(network.file(leader), "A", "it published nothing");

    network.link(leader, "up");
    for id in 1..=3 {
        eventually("all servers are identical", || network.file(id) == "ABB");
    }
    // The next call settles what became of the other; whichever that is, it holds once.
    let after: u64 = lured.ok("acquire").parse().unwrap();
    assert!(after > token);
    lured.ok("append file_0 C");
    lured.ok("release");
    assert_eq!(reader.ok("read file_0 0 9"), "ABBC");
    for id in 1..=3 {
        eventually("all servers are identical", || network.file(id) == "ABBC");
    }
}
