//! No datagram makes the reply decoder panic, and what it decodes encodes to the same bytes.

#![no_main]

use baton::wire::{decode_reply, encode_reply};
use baton_fuzz::with_checksum;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let datagram = with_checksum(datagram);
    if let Ok(reply) = decode_reply(&datagram) {
        let mut again = Vec::new();
        encode_reply(&reply, &mut again);
        assert_eq!(again, datagram);
    }
});
