//! Scenario 5g: the leader is cut off from the other servers while clients still reach it. Each
//! server has a network namespace with one link to the others and one to the clients. Needs root
//! and `ip`; skipped loudly otherwise.

mod common;

use baton::protocol::Status;
use common::driver::Driver;
use common::eventually;
use common::network::{Net, Network};

fn file(network: &Network, id: usize) -> String {
    std::fs::read_to_string(network.data(id).join("file_0")).unwrap_or_default()
}

fn client(network: &Network, servers: &str, variables: &[(&str, &str)]) -> Driver {
    let mut driver = Driver::start_in(&network.clients(), variables);
    driver.ok(&format!("init {servers}"));
    driver
}

#[test]
fn scenario_5g_a_leader_that_is_cut_off_acknowledges_and_shows_nothing() {
    let Some(network) = Network::start(3, &["--lease", "60s"]) else {
        return;
    };
    eventually("there is a leader", || network.leader().is_some());
    let all = &network.list();
    let mut holder = client(&network, all, &[]);
    holder.ok("acquire");
    holder.ok("append file_0 A");
    holder.ok("release");
    let token: u64 = holder.ok("acquire").parse().unwrap();
    holder.ok("append file_0 B");
    let (term, leader) = network.leader().unwrap();
    let hasty = [("BATON_TIMEOUT_MS", "1500")];
    // It knows only the server that is cut off.
    let mut lured = client(&network, &format!("10.98.0.{leader}:10000"), &hasty);
    let mut reader = client(&network, &format!("10.98.0.{leader}:10000"), &hasty);

    network.cut(Net::Peers, leader, true);
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
    assert_eq!(file(&network, leader), "A", "it published nothing");

    network.cut(Net::Peers, leader, false);
    for id in 1..=3 {
        eventually("all servers are identical", || file(&network, id) == "ABB");
    }
    // The next call settles what became of the other; whichever that is, it holds once.
    let after: u64 = lured.ok("acquire").parse().unwrap();
    assert!(after > token);
    lured.ok("append file_0 C");
    lured.ok("release");
    assert_eq!(reader.ok("read file_0 0 9"), "ABBC");
    for id in 1..=3 {
        eventually("all servers are identical", || file(&network, id) == "ABBC");
    }
}
