//! Bytes are written to the log and read back in one piece. Serde takes a `Vec<u8>` for a list of
//! numbers, which postcard encodes the same, but one at a time.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Bytes for where no field can be told to be encoded so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole(#[serde(with = "self")] pub Vec<u8>);

pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    from.deserialize_bytes(Bytes)
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_encoded_as_a_list_of_numbers_is() {
        for length in [0, 1, 127, 128, 300] {
            let list: Vec<u8> = (0..length).map(|number| number as u8).collect();
            let encoded = postcard::to_stdvec(&list).unwrap();
            assert_eq!(postcard::to_stdvec(&Whole(list.clone())).unwrap(), encoded);
            assert_eq!(postcard::from_bytes::<Whole>(&encoded).unwrap(), Whole(list));
        }
    }
}
