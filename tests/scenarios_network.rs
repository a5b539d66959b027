//! Scenarios 2a to 2f: the network loses, repeats, delays and reorders datagrams. The real server
//! and the real library, with the fault proxy between them deciding message by message.

mod common;

use baton::protocol::Status;
use baton::proxy::{Faults, Rates, Setup};
use common::stage::Stage;
use std::collections::BTreeMap;
use std::thread;

const LEASE: &str = "500ms";
/// For stories in which no lease is to run out, however slow the machine is.
const LONG_LEASE: &str = "60s";

#[test]
fn scenario_2a_an_append_delayed_past_its_lease_is_refused() {
    let stage = Stage::with_script(LEASE, include_str!("../docs/proxy/2a.txt"));
    let (mut c1, mut c2) = (stage.client(), stage.client());
    c1.ok("acquire");
    let delayed = stage.watch("request append of 1");
    c1.send("append file_0 A");
    delayed.wait();
    c2.ok("acquire");
    let answer = c1.answer();
    assert_eq!(answer.status, Status::LeaseExpired, "{answer:?}");
    c2.ok("release");
    assert_eq!(stage.file(), "");
}

#[test]
fn scenario_2b_a_lost_acquire_is_retried_and_granted_later() {
    let stage = Stage::with_script(LONG_LEASE, include_str!("../docs/proxy/2b.txt"));
    let (mut c1, mut c2) = (stage.client(), stage.client());
    let lost = stage.watch("request acquire of 1");
    c1.send("acquire");
    lost.wait();
    for command in ["acquire", "append file_0 B", "release"] {
        c2.ok(command);
    }
    c1.answered_ok();
    for command in ["append file_0 A", "release"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), "BA");
}

#[test]
fn scenario_2c_a_lost_grant_is_found_by_the_retry_and_counts_once() {
    let stage = Stage::with_script(LONG_LEASE, include_str!("../docs/proxy/2c.txt"));
    let (mut c1, mut c2) = (stage.client(), stage.client());
    let lost = stage.watch("reply granted of 1");
    c1.send("acquire");
    lost.wait();
    stage.queue(&mut c2, 2);
    let token = c1.answered_ok();
    assert_eq!(c1.ok("acquire"), token, "it holds the lock once");
    c1.ok("append file_0 A");
    assert!(c2.is_blocked());
    c1.ok("release");
    assert_ne!(c2.answered_ok(), token);
    c1.fails("release", Status::NotHolder);
    for command in ["append file_0 B", "release"] {
        c2.ok(command);
    }
    assert_eq!(stage.file(), "AB");
}

#[test]
fn scenario_2d_late_duplicates_of_append_and_release_do_nothing() {
    let stage = Stage::with_script(LONG_LEASE, include_str!("../docs/proxy/2d.txt"));
    let (mut c1, mut c2) = (stage.client(), stage.client());
    for command in ["acquire", "append file_0 A", "release"] {
        c1.ok(command);
    }
    for command in ["acquire", "append file_0 B"] {
        c2.ok(command);
    }
    // Behind the duplicates, on the same way.
    stage.queue(&mut c1, 1);
    c2.ok("append file_0 B");
    assert!(c1.is_blocked());
    c2.ok("release");
    c1.answered_ok();
    for command in ["append file_0 A", "release"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), "ABBA");
    assert_eq!(stage.proxy.stats().requests.duplicated, 2);
}

#[test]
fn scenario_2e_an_append_whose_request_and_then_reply_is_lost_counts_once() {
    let stage = Stage::with_script(LONG_LEASE, include_str!("../docs/proxy/2e.txt"));
    let (mut c1, mut c2) = (stage.client(), stage.client());
    let third = stage.watch("request append of 1 nth 2 copy 3");
    for command in ["acquire", "append file_0 1", "append file_0 A", "release"] {
        c1.ok(command);
    }
    assert!(third.has_come());
    for command in ["acquire", "append file_0 B", "release"] {
        c2.ok(command);
    }
    assert_eq!(stage.file(), "1AB");
}

#[test]
fn scenario_2f_under_heavy_loss_every_append_counts_once() {
    const SECTIONS: usize = 200;
    let seed = common::seed();
    let rates = Rates { drop: 0.3, duplicate: 0.1, reorder: 0.1, delay_us: (0, 0) };
    let faults = Faults { requests: rates.clone(), replies: rates };
    let stage = Stage::with_setup(LONG_LEASE, Setup { faults, seed, ..Setup::default() });
    thread::scope(|scope| {
        for client in 1..=2 {
            let addr = stage.proxy.addr().to_string();
            scope.spawn(move || {
                let mut connection = baton::Connection::connect(&addr).unwrap();
                for section in 0..SECTIONS {
                    connection.acquire().unwrap();
                    let line = format!("c{client} {section}\n");
                    connection.append(b"file_0", line.as_bytes()).unwrap();
                    connection.release().unwrap();
                }
                // Holding nothing it waits for two seconds, which such a network may use up.
                let _ = connection.close();
            });
        }
    });
    let content = stage.file();
    let mut next = BTreeMap::from([("c1", 0), ("c2", 0)]);
    for line in content.lines() {
        let (client, section) = line.split_once(' ').unwrap();
        let wanted = next.get_mut(client).unwrap();
        assert_eq!(section, wanted.to_string(), "of {client}: lost, doubled or out of order");
        *wanted += 1;
    }
    assert_eq!(next, BTreeMap::from([("c1", SECTIONS), ("c2", SECTIONS)]));
}

/// The client repeats the first unanswered piece only; the server has carried out later ones.
#[test]
fn a_large_append_whose_last_answers_are_lost_counts_once() {
    let script = "drop reply to append of 1 nth 16 copy 1
                  drop reply to append of 1 nth 17 copy 1
                  drop reply to append of 1 nth 18 copy 1";
    let stage = Stage::with_script(LONG_LEASE, script);
    let mut c1 = stage.client();
    for command in ["acquire", "fill file_0 20000", "append file_0 A", "release"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), format!("{}A", "x".repeat(20_000)));
    assert_eq!(stage.proxy.stats().replies.dropped, 3);
}

/// Each kind of message, lost, doubled or late: the story ends as if nothing had been.
#[test]
fn one_fault_at_any_message_changes_nothing() {
    for message in [
        "request init of 1",
        "request acquire of 1",
        "request append of 1 nth 2",
        "request release of 1",
        "request abort of 1",
        "request renew of 1",
        "request read of 1",
        "request close of 1",
        "reply to init of 1",
        "reply to acquire of 1",
        "reply to append of 1 nth 2",
        "reply to release of 1",
        "reply to abort of 1",
        "reply to renew of 1",
        "reply to read of 1",
        "reply to close of 1",
        "reply granted of 2",
    ] {
        let late =
            if message.contains("close") { "request close of 2" } else { "request close of 1" };
        for fault in [
            format!("drop {message} times 2"),
            format!("duplicate {message}"),
            format!("duplicate {message} at {late}"),
            format!("hold {message} for 60ms"),
        ] {
            println!("{fault}");
            play_with(&fault);
        }
    }
}

fn play_with(script: &str) {
    let stage = Stage::with_script(LONG_LEASE, script);
    let (mut c1, mut c2) = (stage.client(), stage.client());
    for command in ["acquire", "append file_0 A", "append file_0 B", "renew"] {
        c1.ok(command);
    }
    stage.queue(&mut c2, 2);
    c1.ok("release");
    assert_eq!(c1.ok("read file_0 0 9"), "AB");
    c2.answered_ok();
    for command in ["append file_0 C", "release"] {
        c2.ok(command);
    }
    for command in ["acquire", "append file_0 lost", "abort"] {
        c1.ok(command);
    }
    c1.ok("close");
    for command in ["acquire", "append file_0 D", "close"] {
        c2.ok(command);
    }
    assert_eq!(stage.file(), "ABCD", "{script}");
}
