//! Scenarios 3a to 3e: clients that stall or die, each a process of its own that is stopped with
//! SIGSTOP or killed with SIGKILL.

mod common;

use baton::Connection;
use baton::protocol::Status;
use baton::types::Ticket;
use common::eventually;
use common::stage::Stage;
use std::time::{Duration, Instant};

const LEASE: &str = "500ms";

#[test]
fn scenario_3a_a_client_stuck_before_editing_loses_the_lock() {
    let stage = Stage::with_script(LEASE, "");
    let (mut c1, mut c2) = (stage.client(), stage.client());
    c1.ok("acquire");
    c1.stop();
    c2.ok("acquire");
    c2.ok("append file_0 B");
    c1.resume();
    c1.fails("append file_0 A", Status::LeaseExpired);
    c2.ok("append file_0 B");
    c2.ok("release");
    for command in ["acquire", "append file_0 A", "append file_0 A", "release"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), "BBAA");
}

#[test]
fn scenario_3b_what_a_stuck_client_had_appended_never_appears() {
    let stage = Stage::with_script(LEASE, "");
    let (mut c1, mut c2) = (stage.client(), stage.client());
    c1.ok("acquire");
    c1.ok("append file_0 A");
    c1.stop();
    c2.ok("acquire");
    c2.ok("append file_0 B");
    c1.resume();
    c1.fails("append file_0 A", Status::LeaseExpired);
    c2.ok("append file_0 B");
    c2.ok("release");
    for command in ["acquire", "append file_0 A", "append file_0 A", "release"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), "BBAA");
}

#[test]
fn scenario_3c_the_lock_of_a_killed_holder_passes_on_and_its_section_is_gone() {
    let stage = Stage::with_script(LEASE, "");
    let (mut c1, mut c2) = (stage.client(), stage.client());
    c1.ok("acquire");
    c1.ok("append file_0 A");
    stage.queue(&mut c2, 2);
    c1.kill();
    c2.answered_ok();
    c2.ok("release");
    assert_eq!(stage.file(), "");
}

#[test]
fn scenario_3d_a_killed_waiter_is_skipped_without_waiting_out_a_lease() {
    let lease = Duration::from_secs(20);
    let stage = Stage::with_script("20s", "");
    let (mut c1, mut c2, mut c3) = (stage.client(), stage.client(), stage.client());
    c1.ok("acquire");
    stage.queue(&mut c2, 2);
    stage.queue(&mut c3, 3);
    c2.kill();
    // Time passes for the waiters: the dead one has missed to ask again.
    stage.watch("request acquire of 3").wait();
    stage.watch("request acquire of 3").wait();
    let start = Instant::now();
    c1.ok("release");
    c3.answered_ok();
    assert!(start.elapsed() < lease / 2, "the dead waiter was waited for: {:?}", start.elapsed());
    c3.ok("append file_0 C");
    c3.ok("release");
    assert_eq!(stage.file(), "C");
}

#[test]
fn scenario_3e_a_slow_client_keeps_the_lock_that_nobody_else_wants() {
    let stage = Stage::with_script("200ms", "");
    let mut c1 = stage.client();
    let mut watcher = Connection::connect(&stage.server.addr().to_string()).unwrap();
    let token = c1.ok("acquire");
    c1.stop();
    eventually("its lease is over", || {
        let (page, _) = watcher.lock_page(Ticket(0)).unwrap();
        page.holder.unwrap().lease_left_ms == 0
    });
    c1.resume();
    assert_eq!(c1.ok("acquire"), token, "it never lost it");
    for command in ["append file_0 A", "append file_0 A", "release"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), "AA");
}
