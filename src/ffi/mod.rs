//! The C interface: thin functions over [`crate::client`] and [`crate::sync`].
//!
//! | module | header | what |
//! |---|---|---|
//! | `rpc` | `rpc.h` | the coursework's calls: init, acquire, append, release, close |
//! | `extras` | `rpc.h` | what Baton adds: abort, timeouts, tokens, leases, reads |
//! | `status` | `rpc.h` | statuses and messages |
//! | `udp` | `udp.h` | five functions around a UDP socket |
//! | `spinlock` | `spinlock.h` | the server's test-and-set lock for C |
//! | `table` | | which connection a `rpc_conn_t` means, in this process |
//! | `boundary` | | from C to Rust and back: panics, pointers, strings, errors |
//!
//! The doc comments of the exported functions become the headers (`build.rs` with cbindgen), and
//! from there the manual pages.

// C decides the names here.
#![allow(non_camel_case_types, non_snake_case)]

mod boundary;
mod extras;
mod rpc;
// Loom's atomics are no C integers.
#[cfg(not(loom))]
mod spinlock;
mod status;
mod table;
mod udp;
