//! The C headers: what is committed is what the sources say, and it compiles everywhere.

mod common;

use common::c::{Program, ROOT, STRICT, assert_quiet_success};
use std::path::Path;
use std::process::Command;

const HEADERS: [(&str, &str); 3] = [
    ("rpc.h", include_str!(concat!(env!("OUT_DIR"), "/rpc.h"))),
    ("udp.h", include_str!(concat!(env!("OUT_DIR"), "/udp.h"))),
    ("spinlock.h", include_str!(concat!(env!("OUT_DIR"), "/spinlock.h"))),
];

/// With `BATON_FIX` set, as `make fix` does, it writes the headers instead.
#[test]
fn committed_headers_are_what_the_sources_say() {
    for (name, generated) in HEADERS {
        let path = Path::new(ROOT).join("include").join(name);
        if std::env::var_os("BATON_FIX").is_some() {
            std::fs::write(&path, generated).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == generated, "include/{name} is not up to date: run `make fix`");
    }
}

#[test]
fn headers_compile_alone_in_every_dialect_without_a_warning() {
    let dialects = [
        ("cc", "c", ["-std=c11", "-std=gnu11", "-std=gnu17"]),
        ("c++", "c++", ["-std=c++11", "-std=c++17", "-std=gnu++20"]),
    ];
    for (compiler, language, standards) in dialects {
        for standard in standards {
            for (name, _) in HEADERS {
                let output = Command::new(compiler)
                    .args(STRICT)
                    .args(["-fsyntax-only", "-Wno-pragma-once-outside-header", "-x", language])
                    .args([standard, &format!("include/{name}")])
                    .current_dir(ROOT)
                    .output()
                    .unwrap();
                assert_quiet_success(&format!("{compiler} {standard} {name}"), &output);
            }
        }
    }
}

#[test]
fn programs_with_string_literals_and_ignored_results_compile_without_a_warning() {
    for standard in ["-std=c11", "-std=gnu17"] {
        Program::compile("tests/c/uses_everything.c", &[&STRICT[..], &[standard]].concat());
    }
    let flags = [&STRICT[..], &["-std=c++17", "-x", "c++"]].concat();
    Program::compile_with("c++", "tests/c/uses_everything.c", &flags);
}

#[test]
fn the_originals_standard_headers_come_with_ours() {
    for source in ["tests/c/dropin.c", "tests/c/dropin_server.c", "tests/c/dropin_client.c"] {
        Program::compile(source, &["-std=gnu11", "-Wall", "-Werror"]);
    }
}
