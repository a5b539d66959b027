//! No datagram makes the request decoder panic, and what it decodes encodes to the same bytes.

#![no_main]

use baton::wire::{decode_request, encode_request};
use baton_fuzz::with_checksum;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let datagram = with_checksum(datagram);
    if let Ok(request) = decode_request(&datagram) {
        let mut again = Vec::new();
        encode_request(&request, &mut again);
        assert_eq!(again, datagram);
    }
});
