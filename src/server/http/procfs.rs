//! What the kernel knows of this process and its socket, from /proc: read when somebody looks.

use std::fs;
use std::net::{IpAddr, SocketAddr};

pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub open_fds: u64,
    pub threads: u64,
}

/// This process, as far as /proc is there.
pub fn process() -> Option<Process> {
    // proc_pid_stat(5): the fields after the name, which is in parentheses and may hold anything.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    Some(Process {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks as f64,
        resident_bytes: field(24)? * u64::try_from(page).ok()?,
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        threads: field(20)?,
    })
}

/// Datagrams to this address that the kernel dropped because the buffer was full; none where that
/// is not to be learned.
pub fn datagrams_dropped(addr: Option<SocketAddr>) -> Option<u64> {
    let addr = addr?;
    let IpAddr::V4(ip) = addr.ip() else { return None };
    let table = fs::read_to_string("/proc/self/net/udp").ok()?;
    drops_in(&table, &format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), addr.port()))
}

/// proc(5): the second column is the local address, the last one the drops.
fn drops_in(table: &str, local: &str) -> Option<u64> {
    let mut lines = table.lines().skip(1).map(|line| line.split_whitespace());
    let mut line = lines.find(|fields| fields.clone().nth(1) == Some(local))?;
    line.next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn this_process_and_its_sockets_are_found() {
        let process = process().unwrap();
        assert!(process.resident_bytes > 100_000 && process.open_fds > 2 && process.threads > 0);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(datagrams_dropped(socket.local_addr().ok()), Some(0));
        assert_eq!(datagrams_dropped(None), None);
    }

    #[test]
    fn drops_are_the_last_column_of_the_sockets_line() {
        let table = "  sl  local_address rem_address st ... drops\n\
            6: 0100007F:0035 00000000:0000 07 00000000:00000000 00:0 0 0 0 3 2 x 17\n\
            7: 0100007F:2710 00000000:0000 07 00000000:00000000 00:0 0 0 0 4 2 x 5\n";
        assert_eq!(drops_in(table, "0100007F:2710"), Some(5));
        assert_eq!(drops_in(table, "0100007F:2711"), None);
    }
}
