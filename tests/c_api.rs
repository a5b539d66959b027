//! The shared library as C programs see it, without a server; `c_programs.rs` has those with one.

mod common;

use common::c::{Program, ROOT, SANITIZE, STRICT, built, run};
use common::{PATIENCE, wait_for_exit};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The words of a tool's output about the shared library, a line each.
fn inspect(tool: &str, flags: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new(tool);
    command.args(flags).arg(built("libbaton.so"));
    let text = run(command);
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn only_the_functions_of_the_headers_are_exported() {
    let exported: BTreeSet<String> = inspect("nm", &["-D", "--defined-only"])
        .into_iter()
        .map(|words| words.last().unwrap().clone())
        .collect();
    let mut declared = BTreeSet::new();
    for header in ["rpc.h", "udp.h", "spinlock.h"] {
        let text = std::fs::read_to_string(Path::new(ROOT).join("include").join(header)).unwrap();
        let declarations = text.lines().filter(|line| !line.starts_with([' ', '#', '/']));
        declared.extend(declarations.filter_map(|line| {
            let name = line.split_once('(')?.0.rsplit([' ', '*']).next()?;
            Some(name.to_owned())
        }));
    }
    assert_eq!(exported, declared);
    assert_eq!(declared.len(), 28, "the interface has grown: is it in docs/C_API.md?");
}

#[test]
fn every_function_is_in_the_documentation() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/C_API.md")).unwrap();
    for words in inspect("nm", &["-D", "--defined-only"]) {
        let name = words.last().unwrap();
        assert!(text.contains(&format!("`{name}`")), "docs/C_API.md does not mention {name}");
    }
}

#[test]
fn the_library_names_its_abi_and_needs_only_the_c_library() {
    let dynamic = inspect("readelf", &["-d"]);
    let entries = |tag: &str| -> Vec<String> {
        let of_tag = dynamic.iter().filter(|words| words.iter().any(|word| word == tag));
        of_tag.map(|words| words.last().unwrap().trim_matches(['[', ']']).to_owned()).collect()
    };
    assert_eq!(entries("(SONAME)"), ["libbaton.so.0"]);
    for needed in entries("(NEEDED)") {
        let is_system = ["libc.so.", "libm.so.", "libgcc_s.so.", "ld-linux"]
            .iter()
            .any(|p| needed.starts_with(p));
        assert!(is_system, "the library needs {needed}");
    }
}

#[test]
fn an_absent_server_is_a_status_in_time_and_not_a_hang() {
    let basic = Program::compile("c-examples/basic.c", &STRICT);
    // A bound socket that nobody reads: silence, without the help of ICMP.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let mut command = basic.command();
    command.arg("127.0.0.1").arg(silent.local_addr().unwrap().port().to_string());
    let output = command.env("BATON_TIMEOUT_MS", "300").output().unwrap();
    assert!(!output.status.success() && begun.elapsed() < PATIENCE);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("status 6: no server available (not done)"), "{said}");
}

#[test]
fn udp_programs_of_their_own_protocol_run_unchanged() {
    let server = Program::compile("tests/c/dropin_server.c", &[]);
    let client = Program::compile("tests/c/dropin_client.c", &[]);
    let mut serving = server.command().arg("0").stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(serving.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let mut command = client.command();
    command.arg(port.trim());
    assert_eq!(run(command), "client:: got reply [size:1000 contents:(goodbye 1000)\n".repeat(2));
    assert!(wait_for_exit(&mut serving, "dropin_server").success());
}

#[test]
fn udp_and_spin_examples_run_clean() {
    for (source, last_line) in [
        ("c-examples/udp_echo.c", "three -> THREE"),
        ("c-examples/spin.c", "4 threads counted to 400000 of 400000"),
    ] {
        for flags in [&[][..], &SANITIZE] {
            let program = Program::compile(source, &[&STRICT[..], &["-std=c11"], flags].concat());
            let said = run(program.command());
            assert_eq!(said.lines().last(), Some(last_line), "{source} {flags:?}");
        }
    }
}
