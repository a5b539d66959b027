//! Scenarios 1a to 1f: the basic workflow, through the C interface.

mod common;

use baton::protocol::Status;
use common::Server;
use common::c::{Program, STRICT, run};
use common::stage::Stage;
use tempfile::TempDir;

#[test]
fn scenario_1a_what_was_appended_under_the_lock_is_in_the_file() {
    let stage = Stage::with_script("10s", "");
    let mut c1 = stage.client();
    for command in ["acquire", "append file_0 A", "release", "close"] {
        c1.ok(command);
    }
    assert_eq!(stage.file(), "A");
}

#[test]
fn scenario_1b_waiters_are_granted_in_their_order_and_sections_are_contiguous() {
    let stage = Stage::with_script("10s", "");
    let (mut c1, mut c2, mut c3) = (stage.client(), stage.client(), stage.client());
    c1.ok("acquire");
    stage.queue(&mut c2, 2);
    stage.queue(&mut c3, 3);
    c1.ok("append file_0 1");
    c1.ok("append file_0 1");
    assert!(c2.is_blocked() && c3.is_blocked());
    c1.ok("release");
    c2.answered_ok();
    c2.ok("append file_0 2");
    c2.ok("append file_0 2");
    assert!(c3.is_blocked());
    c2.ok("release");
    c3.answered_ok();
    c3.ok("append file_0 3");
    c3.ok("release");
    assert_eq!(stage.file(), "11223");
}

#[test]
fn scenario_1c_an_append_never_makes_a_file() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("data");
    let server = Server::start(&data, &[]);
    let mut c1 = common::driver::Driver::connect(server.addr());
    c1.ok("acquire");
    for name in ["file_100", "../etc/passwd", "file_00", "file_1/../file_2", "/etc/passwd"] {
        c1.fails(&format!("append {name} A"), Status::FileNotFound);
    }
    c1.ok("release");
    assert_eq!(visible(&data), fresh());
    assert_eq!(visible(root.path()), ["data"]);
}

#[test]
fn scenario_1d_without_the_lock_nothing_is_written() {
    let stage = Stage::with_script("10s", "");
    let (mut c1, mut c2) = (stage.client(), stage.client());
    for command in ["append file_0 A", "release", "abort", "renew"] {
        c1.fails(command, Status::NotHolder);
    }
    c2.ok("acquire");
    c1.fails("append file_0 A", Status::NotHolder);
    c1.fails("release", Status::NotHolder);
    c2.ok("append file_0 B");
    c2.ok("release");
    assert_eq!(stage.file(), "B");
}

#[test]
fn scenario_1e_a_fresh_store_has_exactly_a_hundred_empty_files() {
    let root = TempDir::new().unwrap();
    let _server = Server::start(root.path(), &[]);
    assert_eq!(visible(root.path()), fresh());
    for name in fresh() {
        assert_eq!(std::fs::metadata(root.path().join(name)).unwrap().len(), 0);
    }
}

#[test]
fn scenario_1f_a_hundred_clients_append_thirty_thousand_lines_in_token_order() {
    let root = TempDir::new().unwrap();
    let server = Server::start(root.path(), &[]);
    let crowd = Program::compile("tests/c/crowd.c", &STRICT);
    let mut command = crowd.command();
    command.args([&server.addr().to_string(), "100", "100"]);
    assert_eq!(run(command), "");
    let text = server.file("file_0");
    let lines: Vec<Vec<u64>> = text
        .lines()
        .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect())
        .collect();
    assert_eq!(lines.len(), 30_000);
    let mut next_section = [0; 100];
    let mut last_token = 0;
    for section in lines.chunks(3) {
        let (token, thread, number) = (section[0][0], section[0][1], section[0][2]);
        for (at, line) in section.iter().enumerate() {
            assert_eq!(line[..], [token, thread, number, at as u64], "sections interleave");
        }
        assert!(token > last_token, "sections are not in the order of their grants");
        last_token = token;
        assert_eq!(number, next_section[thread as usize], "of thread {thread}");
        next_section[thread as usize] += 1;
    }
}

/// The names that `ls` shows.
fn visible(dir: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names
        .map(|name| name.into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn fresh() -> Vec<String> {
    let mut names: Vec<String> = (0..100).map(|n| format!("file_{n}")).collect();
    names.sort();
    names
}
