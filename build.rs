//! Generates the C headers into `OUT_DIR` and names the shared library's ABI.
//!
//! `include/*.h` are committed copies of what is generated here, so that C programmers can read
//! and use them without Rust; `tests/headers.rs` fails when they differ, `make fix` copies them.

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};
use std::env;
use std::path::{Path, PathBuf};

/// The number in it changes when programs that are linked with an older library would break.
const SONAME: &str = "libbaton.so.0";

/// What a program written for the original `udp.h` gets with it.
const UDP_INCLUDES: [&str; 18] = [
    "stdio.h",
    "stdlib.h",
    "unistd.h",
    "errno.h",
    "string.h",
    "strings.h",
    "netdb.h",
    "fcntl.h",
    "assert.h",
    "sys/socket.h",
    "sys/wait.h",
    "sys/time.h",
    "sys/types.h",
    "sys/stat.h",
    "sys/select.h",
    "netinet/tcp.h",
    "netinet/in.h",
    "arpa/inet.h",
];

/// The same for the original `spinlock.h`.
const SPINLOCK_INCLUDES: [&str; 4] = ["stdio.h", "stdlib.h", "unistd.h", "assert.h"];

/// So that strict modes (-std=c11) show what the original headers brought in, such as usleep.
const DEFAULT_SOURCE: &str = "#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif";

const BUFFER_SIZE: &str = "
/* Room for a message, in bytes; a program may define its own before it includes this file. */
#ifndef BUFFER_SIZE
#define BUFFER_SIZE 1024
#endif";

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
    println!("cargo::rerun-if-changed=build.rs");

    let mut rpc = config("BATON_RPC_H", "The calls of a distributed lock with appended files.");
    rpc.includes = vec!["udp.h".into()];
    rpc.sys_includes = vec!["stddef.h".into(), "stdint.h".into()];
    rpc.after_includes = Some(BUFFER_SIZE.into());
    rpc.export.include = vec!["rpc_status".into(), "rpc_connection".into()];
    generate("rpc.h", rpc, &["src/ffi/rpc.rs", "src/ffi/extras.rs", "src/ffi/status.rs"]);

    let mut udp = config("BATON_UDP_H", "Five functions around a UDP socket.");
    udp.sys_includes = UDP_INCLUDES.map(String::from).to_vec();
    generate("udp.h", udp, &["src/ffi/udp.rs"]);

    let mut spinlock = config("BATON_SPINLOCK_H", "A test-and-set spin lock.");
    spinlock.sys_includes = SPINLOCK_INCLUDES.map(String::from).to_vec();
    generate("spinlock.h", spinlock, &["src/ffi/spinlock.rs"]);
}

fn config(guard: &str, purpose: &str) -> Config {
    let mut config = Config {
        language: Language::C,
        cpp_compat: true,
        include_guard: Some(guard.into()),
        header: Some(format!(
            "/* {purpose} Part of Baton; see docs/C_API.md.\n   Generated from the Rust sources: \
             change those, then `make fix`. */\n\n{DEFAULT_SOURCE}"
        )),
        no_includes: true,
        style: Style::Tag,
        documentation_style: DocumentationStyle::Doxy,
        line_length: 96,
        usize_is_size_t: true,
        ..Config::default()
    };
    config.export.rename.insert("sockaddr_in".into(), "struct sockaddr_in".into());
    config
}

fn generate(header: &str, config: Config, sources: &[&str]) {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let mut builder = Builder::new().with_config(config);
    for source in sources {
        println!("cargo::rerun-if-changed={source}");
        builder = builder.with_src(root.join(source));
    }
    let bindings = builder.generate().unwrap_or_else(|error| panic!("{header}: {error}"));
    bindings.write_to_file(Path::new(&out).join(header));
}
