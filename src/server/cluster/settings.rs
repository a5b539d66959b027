//! Which cluster this server belongs to, as the operator says it, and what is wrong with that.

use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::str::FromStr;

/// The most servers of a cluster.
pub const SERVERS_MAX: usize = 9;

/// The servers of a cluster: number, and where the others reach it. None: no cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers(pub Vec<(u64, String)>);

impl FromStr for Servers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Servers::default());
        }
        let mut servers = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (id, addr) = part.split_once('=').ok_or_else(|| {
                format!("{part:?}: expected NUMBER=HOST:PORT (as in 1=db1:10001)")
            })?;
            let id = node(id.trim())?;
            let addr = addr.trim();
            let port = addr.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
                return Err(format!("{part:?}: expected HOST:PORT behind the number"));
            }
            if servers.iter().any(|(other, at)| *other == id || at == addr) {
                return Err(format!("{part:?}: the number or the address is there twice"));
            }
            servers.push((id, addr.to_owned()));
        }
        if servers.len() > SERVERS_MAX {
            return Err(format!("{} servers: at most {SERVERS_MAX}", servers.len()));
        }
        servers.sort();
        Ok(Servers(servers))
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, (id, addr)) in self.0.iter().enumerate() {
            write!(f, "{}{id}={addr}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl Servers {
    pub fn ids(&self) -> Vec<u64> {
        self.0.iter().map(|(id, _)| *id).collect()
    }

    /// What tells this cluster from others: its founders, as all of them are told of each other.
    fn fingerprint(&self) -> u64 {
        let digest = Sha256::digest(self.to_string().as_bytes());
        let bytes = digest.first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes).max(1)
    }
}

/// The number of a server.
pub fn node(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (1..=u64::from(u32::MAX)).contains(number));
    number.ok_or_else(|| format!("{text:?}: servers have numbers from 1 to {}", u32::MAX))
}

/// This server's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub id: u64,
    pub cluster: u64,
    pub servers: Servers,
    /// Where the other servers reach this one.
    pub peer_listen: SocketAddr,
    /// Where clients reach it, if that is not where it listens.
    pub advertise: Option<SocketAddrV4>,
}

impl Place {
    /// What the settings say together; none when they say nothing of a cluster.
    pub fn new(
        id: Option<u64>,
        servers: &Servers,
        peer_listen: Option<SocketAddr>,
        advertise: Option<SocketAddrV4>,
        is_synced: bool,
    ) -> Result<Option<Self>, String> {
        let id = match (id, servers.0.is_empty()) {
            (None, true) if peer_listen.is_some() || advertise.is_some() => {
                return Err("--peer-listen and --advertise are for clusters: they need --node \
                            and --cluster"
                    .into());
            }
            (None, true) => return Ok(None),
            (None, false) => {
                return Err(format!("--cluster {servers} needs --node: which of them is this?"));
            }
            (Some(id), true) => {
                return Err(format!(
                    "--node {id} needs --cluster: the numbers and addresses of all servers"
                ));
            }
            (Some(id), false) => id,
        };
        let Some((_, own)) = servers.0.iter().find(|(other, _)| *other == id) else {
            return Err(format!("--node {id} is not among --cluster {servers}"));
        };
        if !is_synced {
            return Err("--durability os is not for clusters: a server that forgets what it has \
                        told the others is worse than none"
                .into());
        }
        let peer_listen = match peer_listen {
            Some(addr) => addr,
            None => own
                .to_socket_addrs()
                .ok()
                .and_then(|mut found| found.find(SocketAddr::is_ipv4))
                .ok_or_else(|| format!("--cluster: {own:?} cannot be resolved to an address"))?,
        };
        let (cluster, servers) = (servers.fingerprint(), servers.clone());
        Ok(Some(Place { id, cluster, servers, peer_listen, advertise }))
    }

    /// Where clients are told to find this server, which listens at `bound`.
    pub fn client_addr(&self, bound: SocketAddrV4) -> SocketAddrV4 {
        match (self.advertise, self.peer_listen) {
            (Some(addr), _) => addr,
            (None, _) if !bound.ip().is_unspecified() => bound,
            (None, SocketAddr::V4(peer)) if !peer.ip().is_unspecified() => {
                SocketAddrV4::new(*peer.ip(), bound.port())
            }
            // The same host as where the others find it.
            _ => {
                let own = self.servers.0.iter().find(|(id, _)| *id == self.id);
                let found = own.and_then(|(_, addr)| addr.to_socket_addrs().ok());
                let mut v4 = found.into_iter().flatten().filter_map(|addr| match addr {
                    SocketAddr::V4(addr) => Some(*addr.ip()),
                    SocketAddr::V6(_) => None,
                });
                SocketAddrV4::new(v4.next().unwrap_or(*bound.ip()), bound.port())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: Option<u64>, servers: &str) -> Result<Option<Place>, String> {
        Place::new(id, &servers.parse().unwrap(), None, None, true)
    }

    #[test]
    fn lists_of_servers_are_read_and_shown() {
        let servers: Servers = "2=b:2, 1=127.0.0.1:1".parse().unwrap();
        assert_eq!(servers.to_string(), "1=127.0.0.1:1,2=b:2");
        assert_eq!("none".parse::<Servers>().unwrap().to_string(), "none");
        for (text, part) in [
            ("a:1", "NUMBER=HOST:PORT"),
            ("0=a:1", "numbers from 1"),
            ("1=a", "HOST:PORT behind"),
            ("1=a:0", "HOST:PORT behind"),
            ("1=:7", "HOST:PORT behind"),
            ("1=a:1,1=b:1", "twice"),
            ("1=a:1,2=a:1", "twice"),
        ] {
            let error = text.parse::<Servers>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_said() {
        let three = "1=127.0.0.1:1,2=127.0.0.1:2,3=127.0.0.1:3";
        assert_eq!(place(None, "none"), Ok(None));
        assert!(place(Some(1), "none").unwrap_err().contains("needs --cluster"));
        assert!(place(None, three).unwrap_err().contains("needs --node"));
        assert!(place(Some(4), three).unwrap_err().contains("not among"));
        let found = place(Some(2), three).unwrap().unwrap();
        assert_eq!(found.peer_listen, "127.0.0.1:2".parse().unwrap());
        let error = Place::new(Some(1), &three.parse().unwrap(), None, None, false);
        assert!(error.unwrap_err().contains("--durability os"));
    }

    #[test]
    fn all_founders_find_the_same_fingerprint() {
        let one: Servers = "1=a:1,2=b:2".parse().unwrap();
        let other: Servers = "2=b:2,1=a:1".parse().unwrap();
        assert_eq!(one.fingerprint(), other.fingerprint());
        assert_ne!(one.fingerprint(), "1=a:1,2=b:3".parse::<Servers>().unwrap().fingerprint());
    }
}
