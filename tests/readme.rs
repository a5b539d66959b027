//! README.md is the first thing that is tried: its programs do what it says.

mod common;

use common::Server;
use common::c::{Program, ROOT, STRICT, built, run};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The first code block of README.md in a language, with the address of the test's own server.
fn block(language: &str, server: &Server) -> String {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("```{language}\n")).unwrap();
    let code = rest.split("```").next().unwrap();
    assert!(code.contains("10000") && code.contains("localhost"), "{code}");
    let port = server.addr().port().to_string();
    code.replace("10000", &port).replace("localhost", "127.0.0.1")
}

fn start() -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    (dir, server)
}

#[test]
fn the_c_program_prints_and_appends_what_the_readme_shows() {
    let (dir, server) = start();
    let source = dir.path().join("app.c");
    fs::write(&source, block("c", &server)).unwrap();
    let program = Program::compile(source.to_str().unwrap(), &STRICT);
    assert_eq!(run(program.command()), "release: ok\n");
    assert_eq!(server.file("file_0"), "hello from C\n");
}

#[test]
fn the_python_program_prints_and_appends_what_the_readme_shows() {
    let (_dir, server) = start();
    let mut python = common::hermetic(Command::new("python3"));
    python
        .arg("-c")
        .arg(block("python", &server))
        .env("PYTHONPATH", Path::new(ROOT).join("python"))
        .env("BATON_LIBRARY", built("libbaton.so"));
    let said = run(python);
    assert!(said.starts_with("token ") && said.ends_with('\n'), "{said}");
    assert_eq!(server.file("file_0"), "hello from Python\n");
}
