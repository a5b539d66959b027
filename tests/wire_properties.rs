//! The decoders against a million datagrams, random and mutated: none may panic, and what decodes
//! must encode to the same bytes. The same property as the targets in `fuzz/`, without a fuzzer.
//! `BATON_TEST_SEED=N cargo test --test wire_properties` replays a run, `BATON_RUBBISH=N` sets how many.

mod common;

use baton::wire::{decode_reply, decode_request, encode_reply, encode_request};
use common::rubbish::{Mutator, count};
use common::seed;

#[test]
fn a_million_random_and_mutated_datagrams_decode_faithfully_or_not_at_all() {
    let (seed, mut out, mut decoded) = (seed(), Vec::new(), 0u64);
    let mut mutator = Mutator::new(seed);
    let total = count(1_000_000);
    for _ in 0..total {
        let datagram = mutator.datagram();
        if let Ok(request) = decode_request(datagram) {
            encode_request(&request, &mut out);
            assert_eq!(out, datagram, "{request:?}, BATON_TEST_SEED={seed}");
            decoded += 1;
        }
        if let Ok(reply) = decode_reply(datagram) {
            encode_reply(&reply, &mut out);
            assert_eq!(out, datagram, "{reply:?}, BATON_TEST_SEED={seed}");
            decoded += 1;
        }
    }
    // Otherwise the round trip would not have been tried.
    assert!(decoded > total / 100, "only {decoded} of {total} decoded, BATON_TEST_SEED={seed}");
}
