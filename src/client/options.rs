//! Where the servers are and how long to try: everything that is settled before the first
//! datagram.

use super::error::Error;
use crate::limits::{SPIN_US_DEFAULT, TIMEOUT_MS_DEFAULT};
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::time::Duration;

/// Port of the servers when nothing names one.
const PORT_DEFAULT: u16 = 10_000;

/// How to connect; `Options::default()` suits most programs.
///
/// ```
/// use std::time::Duration;
///
/// let options = baton::Options { timeout: Duration::from_secs(5), ..Default::default() };
/// assert_eq!(options.default_port, 10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Local UDP port; 0 lets the system choose one.
    pub source_port: u16,
    /// Port of servers that are named without one.
    pub default_port: u16,
    /// How long a call goes on without any answer before it gives up. By default the environment
    /// variable `BATON_TIMEOUT_MS` (a positive number of milliseconds), or 30 seconds.
    pub timeout: Duration,
    /// How long a call looks for the answer before it blocks, yielding the processor meanwhile:
    /// where the server is near, sleeping and waking takes longer than the answer. At most a
    /// millisecond counts. By default the environment variable `BATON_SPIN_US` (microseconds; 0
    /// never looks), or 50 microseconds.
    pub spin: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let text = |name| std::env::var(name).unwrap_or_default();
        Options {
            source_port: 0,
            default_port: PORT_DEFAULT,
            timeout: timeout_from(&text("BATON_TIMEOUT_MS")),
            spin: spin_from(&text("BATON_SPIN_US")),
        }
    }
}

/// The timeout that the environment asks for; text that is no positive number asks for nothing.
fn timeout_from(text: &str) -> Duration {
    let millis = text.trim().parse().ok().filter(|&ms: &u64| ms > 0);
    Duration::from_millis(millis.unwrap_or(TIMEOUT_MS_DEFAULT))
}

fn spin_from(text: &str) -> Duration {
    Duration::from_micros(text.trim().parse().unwrap_or(SPIN_US_DEFAULT))
}

/// Resolves `host[:port][,host[:port]…]` to every IPv4 address behind it, in order.
pub(crate) fn resolve(servers: &str, default_port: u16) -> Result<Vec<SocketAddrV4>, Error> {
    let mut found = Vec::new();
    let mut failed = None;
    for server in servers.split(',').map(str::trim) {
        let (host, port) = match server.split_once(':') {
            None => (server, Some(default_port)),
            Some((host, port)) => (host, decimal(port)),
        };
        let Some(port) = port.filter(|&port| port > 0) else {
            return Err(Error::InvalidArgument(format!(
                "server {server:?}: the port must be a number from 1 to 65535"
            )));
        };
        if host.is_empty() {
            return Err(Error::InvalidArgument(format!("server {server:?}: no host name")));
        }
        let unresolved = |why: &dyn std::fmt::Display| {
            Error::InvalidArgument(format!("server {host:?} cannot be resolved: {why}"))
        };
        let addresses = match (host, port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => {
                failed = failed.or_else(|| Some(unresolved(&error)));
                continue;
            }
        };
        let mut addresses = addresses.filter_map(|address| match address {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        });
        let Some(first) = addresses.next() else {
            failed = failed.or_else(|| Some(unresolved(&"it has no IPv4 address")));
            continue;
        };
        for address in std::iter::once(first).chain(addresses) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    match failed {
        // The others do; a server whose name is gone is one that does not answer.
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

fn decimal(text: &str) -> Option<u16> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_servers_are_resolved_in_order() {
        let found = resolve("127.0.0.1, 127.0.0.2:7,127.0.0.1:9,127.0.0.1", 10_000).unwrap();
        let expected = ["127.0.0.1:10000", "127.0.0.2:7", "127.0.0.1:9"];
        assert_eq!(found, expected.map(|text| text.parse::<SocketAddrV4>().unwrap()));
        assert!(!resolve("localhost", 1).unwrap().is_empty());
        let one_is_gone = resolve("no.such.host.invalid,127.0.0.2:7", 10_000).unwrap();
        assert_eq!(one_is_gone, ["127.0.0.2:7".parse().unwrap()]);
    }

    #[test]
    fn a_bad_list_names_the_bad_server() {
        for (servers, part) in [
            ("", "no host"),
            ("127.0.0.1,", "no host"),
            (":7", "no host"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1:65536", "65536"),
            ("127.0.0.1:+7", "+7"),
            ("127.0.0.1:", "port"),
            ("::1", "port"),
            ("no.such.host.invalid", "no.such.host.invalid"),
        ] {
            let Err(Error::InvalidArgument(text)) = resolve(servers, 10_000) else {
                panic!("{servers:?} was accepted");
            };
            assert!(text.contains(part), "{servers:?}: {text}");
        }
        assert!(resolve("127.0.0.1", 0).is_err());
    }

    #[test]
    fn text_that_is_no_time_leaves_the_default() {
        assert_eq!(timeout_from("250"), Duration::from_millis(250));
        for text in ["", "soon", "-1", "0", "1.5"] {
            assert_eq!(timeout_from(text), Duration::from_secs(30), "{text:?}");
        }
        assert_eq!(spin_from("0"), Duration::ZERO);
        assert_eq!(spin_from("long"), Duration::from_micros(50));
    }
}
