//! `make install`: what lands where, and that a program can be built against it.

mod common;

use common::c::{ROOT, STRICT, assert_quiet_success, built, run};
use common::has_tool;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PREFIX: &str = "/opt/baton";

/// A directory that looks like `target/release`, with what this test run has built.
fn stage(dir: &Path) -> PathBuf {
    let stage = dir.join("built");
    std::fs::create_dir(&stage).unwrap();
    for library in ["libbaton.so", "libbaton.a"] {
        symlink(built(library), stage.join(library)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_baton"), stage.join("baton")).unwrap();
    symlink(env!("CARGO_BIN_EXE_batond"), stage.join("batond")).unwrap();
    stage
}

fn make(target: &str, dir: &Path, stage: &Path) {
    let mut command = Command::new("make");
    command
        .args(["-s", "-f", "mk/install.mk", target, "NO_BUILD=1"])
        .arg(format!("PREFIX={PREFIX}"))
        .arg(format!("DESTDIR={}", dir.join("root").display()))
        .arg(format!("BUILT={}", stage.display()))
        .arg("SYSCONFDIR=/opt/baton/etc")
        .arg(format!("MAN_BUILT={}", dir.join("man").display()))
        .current_dir(ROOT);
    run(command);
}

/// What pkg-config says about the installed copy, below the directory it was installed to.
fn pkg_config(root: &Path, args: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command
        .env("PKG_CONFIG_SYSROOT_DIR", root)
        .env("PKG_CONFIG_LIBDIR", root.join("opt/baton/lib/pkgconfig"))
        .args(args)
        .arg("baton");
    run(command).split_whitespace().map(str::to_owned).collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn an_installed_copy_builds_programs_and_can_be_removed() {
    let dir = TempDir::new().unwrap();
    let stage = stage(dir.path());
    let root = dir.path().join("root");
    make("install", dir.path(), &stage);

    let prefix = root.join("opt/baton");
    let version = env!("CARGO_PKG_VERSION");
    for file in [
        "bin/baton",
        "bin/batond",
        "lib/libbaton.a",
        "include/baton/spinlock.h",
        "lib/systemd/system/batond.service",
    ] {
        assert!(prefix.join(file).is_file(), "{file}");
    }
    let target_of = |link: &str| std::fs::read_link(prefix.join("lib").join(link)).unwrap();
    assert_eq!(target_of("libbaton.so"), Path::new("libbaton.so.0"));
    assert_eq!(target_of("libbaton.so.0"), PathBuf::from(format!("libbaton.so.{version}")));
    if has_tool("pkg-config") {
        assert_eq!(pkg_config(&root, &["--modversion"]), [version]);
        an_application_builds_and_runs(dir.path(), &root);
    }

    make("uninstall", dir.path(), &stage);
    // Settings are the operator's.
    assert_eq!(files_below(&root), [prefix.join("etc/baton/batond.toml")]);
}

/// `dpkg-gensymbols` holds the package to its file; this holds the file to the sources, where there
/// is no dpkg, and tells at once.
#[test]
fn the_symbols_of_the_debian_package_are_those_that_are_exported() {
    if !has_tool("nm") {
        return;
    }
    let file = Path::new(ROOT).join("packaging/debian/libbaton0.symbols");
    let text = std::fs::read_to_string(file).unwrap();
    let listed = text.lines().filter_map(|line| line.strip_prefix(' ')?.split('@').next());
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only"]).arg(built("libbaton.so"));
    let said = run(nm);
    let mut exported: Vec<&str> = said.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    exported.sort_unstable();
    let mut listed: Vec<&str> = listed.collect();
    listed.sort_unstable();
    assert_eq!(listed, exported);
}

/// As somebody who uses the installed copy builds a program.
fn an_application_builds_and_runs(dir: &Path, root: &Path) {
    let program = dir.join("program");
    let source = dir.join("app.c");
    let app = "#include \"rpc.h\"\nint main(void) { puts(RPC_version()); return 0; }\n";
    std::fs::write(&source, app).unwrap();
    let output = Command::new("cc")
        .args(STRICT)
        .args([&source, Path::new("-o"), &program])
        .args(pkg_config(root, &["--cflags", "--libs"]))
        .output()
        .unwrap();
    assert_quiet_success("cc app.c $(pkg-config --cflags --libs baton)", &output);
    let mut command = Command::new(&program);
    command.env("LD_LIBRARY_PATH", root.join("opt/baton/lib"));
    assert_eq!(run(command).trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_function_has_a_manual_page_that_the_formatter_accepts() {
    let dir = TempDir::new().unwrap();
    let mut command = Command::new("python3");
    command
        .args(["tools/man3.py", "1.2.3", "include/rpc.h", "include/udp.h", "include/spinlock.h"])
        .arg(dir.path())
        .current_dir(ROOT);
    run(command);
    let pages = files_below(dir.path());
    assert_eq!(pages.len(), 28);
    let has_groff = has_tool("groff");
    for page in pages {
        if has_groff {
            let mut groff = Command::new("groff");
            groff.args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page);
            assert_quiet_success(&page.display().to_string(), &groff.output().unwrap());
        }
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.file_stem().unwrap().to_str().unwrap();
        assert!(text.contains(".SH SYNOPSIS") && text.contains(name), "{name}");
    }
}
