//! docs/TUTORIAL.md followed to the letter: each command is run, its output compared.

mod common;

use std::path::Path;
use std::process::Command;

#[test]
fn the_tutorial_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let output = common::hermetic(Command::new("python3"))
        .arg(root.join("tests/support/tutorial.py"))
        .arg(root.join("docs/TUTORIAL.md"))
        .arg(Path::new(env!("CARGO_BIN_EXE_baton")).parent().unwrap())
        .current_dir(dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{failed}");
}
