//! C programs against a real server: the coursework's, the examples, and those that do everything
//! wrong; plain, with the sanitizers and under valgrind.

mod common;

use common::Server;
use common::c::{Program, SANITIZE, STRICT, run};
use std::process::Command;
use tempfile::TempDir;

/// A fresh server and the arguments that lead a C program to it.
fn start() -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    (dir, server)
}

fn with_port(mut command: Command, server: &Server) -> Command {
    command.arg(server.addr().port().to_string());
    command
}

fn at(mut command: Command, server: &Server) -> Command {
    command.arg(server.addr().ip().to_string());
    with_port(command, server)
}

#[test]
fn a_coursework_client_builds_and_runs_unchanged() {
    let (_dir, server) = start();
    for flags in [&["-std=gnu11"][..], &SANITIZE] {
        let program = Program::compile("tests/c/dropin.c", flags);
        assert_eq!(run(with_port(program.command(), &server)), "done\n");
    }
    assert_eq!(server.file("file_1"), "hello world".repeat(4));
    assert_eq!(server.file("file_0"), "");
}

#[test]
fn a_statically_linked_client_runs_too() {
    let (_dir, server) = start();
    let program = Program::compile_static("tests/c/dropin.c");
    assert_eq!(run(with_port(program.command(), &server)), "done\n");
}

#[test]
fn the_basic_example_publishes_its_line() {
    let (_dir, server) = start();
    for flags in [&["-std=c11"][..], &SANITIZE] {
        let basic = Program::compile("c-examples/basic.c", &[&STRICT[..], flags].concat());
        let said = run(at(basic.command(), &server));
        assert!(said.contains("Connected!") && said.contains("Disconnected!"), "{said}");
    }
    assert_eq!(server.file("file_0"), "hello world\n".repeat(2));
    let basic = Program::compile("c-examples/basic.c", &[]);
    let output = at(basic.command(), &server).arg("file_100").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("status 1: file not found"), "{said}");
}

#[test]
fn sections_of_contending_threads_do_not_interleave() {
    let (_dir, server) = start();
    for flags in [&["-std=c11"][..], &SANITIZE] {
        let contend = Program::compile("c-examples/contend.c", &[&STRICT[..], flags].concat());
        let said = run(at(contend.command(), &server));
        assert_eq!(said, "10 threads, 100 of 100 sections whole\n");
    }
}

/// Compiles a program and runs it plain, with the sanitizers and under valgrind, each time
/// against a fresh server.
fn run_every_way(source: &str) {
    let flags = [&STRICT[..], &["-std=gnu11"]].concat();
    let plain = Program::compile(source, &flags);
    let sanitized = Program::compile(source, &[&flags[..], &SANITIZE].concat());
    let commands = [plain.command(), sanitized.command()];
    for command in commands.into_iter().chain(plain.command_under_valgrind()) {
        let (_dir, server) = start();
        let mut command = with_port(command, &server);
        command.env("BATON", env!("CARGO_BIN_EXE_baton"));
        run(command);
    }
}

#[test]
fn bad_input_gets_its_status_and_harms_nothing() {
    run_every_way("tests/c/bad_input.c");
}

#[test]
fn threads_and_forked_children_may_not_harm_a_connection() {
    run_every_way("tests/c/shared.c");
}

#[test]
fn each_outcome_has_its_status() {
    let program = Program::compile("tests/c/statuses.c", &[&STRICT[..], &["-std=gnu11"]].concat());
    let dir = TempDir::new().unwrap();
    let flags = ["--lease", "300ms", "--section-limit", "1KiB"];
    let server = Server::start(&dir.path().join("data"), &flags);
    let mut command = with_port(program.command(), &server);
    command.arg(server.pid().to_string()).env("BATON_TIMEOUT_MS", "500");
    run(command);
}

#[test]
fn a_socket_closed_by_the_program_is_a_status_and_nobody_elses_file() {
    let program =
        Program::compile("tests/c/closed_socket.c", &[&STRICT[..], &["-std=c11"]].concat());
    let (_dir, server) = start();
    run(at(program.command(), &server));
}
