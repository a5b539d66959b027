//! The state of a member at one applied entry, as it is kept and handed to other members: first
//! what is to be known of it, then the state. The consensus library's messages bring the first;
//! the state, which may be large, is fetched.

use super::members::Members;
use crate::engine::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What is to be known of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The entry up to which all is applied.
    pub index: u64,
    pub term: u64,
    /// Index and term of the entry behind which the log goes on: applied entries are kept for a
    /// while, for members that lag.
    pub log_from: (u64, u64),
    pub members: Members,
    /// Term, vote and commit as known when it was made.
    pub hard: (u64, u64, u64),
}

impl Head {
    pub fn read(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }

    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }
}

/// It is cloned without copying the state, which is as large as what is staged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub head: Head,
    /// A [`State`], encoded.
    state: Bytes,
}

impl Checkpoint {
    pub fn new(head: Head, state: &State) -> Result<Self, postcard::Error> {
        Ok(Checkpoint { head, state: postcard::to_stdvec(state)?.into() })
    }

    /// Reads one of these bytes, but for the state.
    pub fn read(bytes: &Bytes) -> Result<Self, postcard::Error> {
        let (head, state) = postcard::take_from_bytes(bytes)?;
        Ok(Checkpoint { head, state: bytes.slice_ref(state) })
    }

    pub fn state(&self) -> Result<State, postcard::Error> {
        postcard::from_bytes(&self.state)
    }

    /// Bytes of the state.
    pub fn size(&self) -> u64 {
        self.state.len() as u64
    }

    /// Its bytes: the head's, then the state's.
    pub fn encode(&self) -> Result<(Vec<u8>, &[u8]), postcard::Error> {
        Ok((self.head.encode()?, &self.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::FileMark;

    fn whole(made: &Checkpoint) -> Bytes {
        let (head, state) = made.encode().unwrap();
        [&head, state].concat().into()
    }

    #[test]
    fn a_checkpoint_has_these_bytes_and_comes_back() {
        let members = Members::founding([(3, "a:1".to_owned())]);
        let head = Head { index: 5, term: 2, log_from: (4, 1), members, hard: (3, 1, 6) };
        let state = State { files: vec![FileMark::default()], ..State::default() };
        let made = Checkpoint::new(head, &state).unwrap();
        let bytes = whole(&made);
        let golden = [&[5, 2, 4, 1][..], &[1, 3, 1, 3], b"a:1", &[0, 3, 3, 1, 6]].concat();
        assert_eq!(bytes[..golden.len()], golden);
        assert_eq!(bytes[golden.len()..], postcard::to_stdvec(&state).unwrap());
        let read = Checkpoint::read(&bytes).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.state().unwrap(), state);
    }

    #[test]
    fn one_that_is_cut_is_not_read() {
        let made = Checkpoint::new(Head::default(), &State::default()).unwrap();
        let bytes = whole(&made);
        for len in 0..bytes.len() {
            let read = Checkpoint::read(&bytes.slice(..len)).and_then(|cut| cut.state());
            assert!(read.is_err(), "cut to {len}");
        }
    }
}
