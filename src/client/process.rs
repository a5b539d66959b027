//! What a connection needs to know of the process it is in.

use crate::protocol::ClientInfo;
use std::io::{self, Read};

/// How this process shows in the server's lists.
pub(super) fn describe() -> ClientInfo {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let host = nix::unistd::gethostname().unwrap_or_default();
    let program = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    ClientInfo {
        host: host.to_string_lossy().into_owned(),
        user: user.map_or_else(|| uid.to_string(), |user| user.name),
        program: program.trim_end().to_owned(),
        pid: std::process::id(),
    }
}

/// A number from the system's source: two processes must not share a session, not even a parent
/// and its forked child.
pub(super) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
