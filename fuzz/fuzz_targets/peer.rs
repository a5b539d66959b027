//! What servers of a cluster say to each other and what they write about it in the log: no bytes
//! make a decoder panic, and what it decodes encodes to the same bytes. A state that is handed over
//! encodes to what decodes to the same, since a number may be longer than it need be.

#![no_main]

use baton::engine::cluster::checkpoint::{Checkpoint, Head};
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
    if let Ok(head) = Head::read(bytes) {
        assert_eq!(Head::read(&head.encode().unwrap()).unwrap(), head);
    }
    if let Ok(given) = Checkpoint::read(&bytes.to_vec().into())
        && let Ok(state) = given.state()
    {
        let again = Checkpoint::new(given.head, &state).unwrap();
        let (head, of_state) = again.encode().unwrap();
        let again = Checkpoint::read(&[&head, of_state].concat().into()).unwrap();
        assert_eq!(again.state().unwrap(), state);
    }
});
