//! The manifest of a backup: no bytes make the decoder panic, and what it decodes encodes to what
//! decodes to the same.

#![no_main]

use baton::server::backup::manifest::Manifest;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|state: &[u8]| {
    // The fuzzer cannot guess a CRC-32C: the header is made right.
    let sum = crc32c::crc32c_append(crc32c::crc32c(b"BATONBKP\x01\0\0\0"), state);
    let bytes = [&b"BATONBKP\x01\0\0\0"[..], &sum.to_le_bytes(), state].concat();
    let path = Path::new("manifest");
    if let Ok(manifest) = Manifest::decode(&bytes, path) {
        let again = manifest.encode().unwrap();
        assert_eq!(Manifest::decode(&again, path).unwrap(), manifest);
    }
});
