//! No bytes make the decoder of log entries panic, and an entry never reaches past them.

#![no_main]

use baton::wal::record::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &[u8])| {
    let (salt, bytes) = input;
    if let Ok(Some(record)) = decode(bytes, salt) {
        assert!(!record.payload.is_empty() && record.len_bytes() <= bytes.len());
    }
});
