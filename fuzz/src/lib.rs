//! What the fuzz targets share.

/// The datagram as a peer would send it: the fuzzer cannot guess a CRC-32C, so the four bytes of
/// the checksum are made right. That a wrong one is refused is a unit test.
pub fn with_checksum(datagram: &[u8]) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    if datagram.len() >= 8 {
        let sum = crc32c::crc32c_append(crc32c::crc32c(&datagram[..4]), &datagram[8..]);
        datagram[4..8].copy_from_slice(&sum.to_le_bytes());
    }
    datagram
}
