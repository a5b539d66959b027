//! What servers of a cluster say to each other, and what they write about it in the log: no bytes
//! make a decoder panic, and what it decodes encodes to the same bytes.

#![no_main]

use baton::engine::cluster::codec::{decode_message, encode_message};
use baton::engine::cluster::members::Change;
use baton::server::cluster::hello::Hello;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut again = Vec::new();
    if let Ok(message) = decode_message(bytes) {
        encode_message(&message, &mut again);
        assert_eq!(again, bytes);
    }
    if let Ok(change) = Change::decode(bytes) {
        assert_eq!(change.encode(), bytes);
    }
    if let Ok(hello) = Hello::read(&mut &bytes[..]) {
        assert!(bytes.starts_with(&hello.encode()));
    }
});
