//! Which cluster this server belongs to, as the operator says it, and what is wrong with that.

use crate::engine::cluster::members::Members;
use crate::limits::{PEER_ADDR_MAX, SERVERS_MAX};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::str::FromStr;
use tracing::{info, warn};

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
            check_addr(addr).map_err(|why| format!("{part:?}: {why} behind the number"))?;
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
    /// The members that a cluster of these begins with.
    pub fn founding(&self) -> Members {
        Members::founding(self.0.iter().cloned())
    }

    /// What tells this cluster from others: its founders, as all of them are told of each other, and the
    /// backup that it was restored from.
    pub fn fingerprint(&self, origin: Option<&str>) -> u64 {
        let digest = Sha256::digest(format!("{self}{}", origin.unwrap_or_default()).as_bytes());
        let bytes = digest.first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes).max(1)
    }
}

/// Where a server that is to be let in finds some of the others. None: it belongs to them already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seeds(pub Vec<String>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Seeds::default());
        }
        let addrs = text.split(',').map(|addr| {
            let addr = addr.trim();
            check_addr(addr).map_err(|why| format!("{addr:?}: {why} (as in db1:10001)"))?;
            Ok(addr.to_owned())
        });
        addrs.collect::<Result<_, String>>().map(Seeds)
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none".into() } else { self.0.join(",") }.as_str())
    }
}

/// An address at which servers reach each other.
pub fn check_addr(addr: &str) -> Result<(), String> {
    let port = addr.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
        return Err("expected HOST:PORT".into());
    }
    match addr.len() {
        len if len > PEER_ADDR_MAX => Err(format!("at most {PEER_ADDR_MAX} bytes for an address")),
        _ => Ok(()),
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
    pub origin: Origin,
    /// Where the other servers reach this one.
    pub peer_listen: SocketAddr,
    /// Where clients reach it, if that is not where it listens.
    pub advertise: Option<SocketAddrV4>,
}

/// How a server comes to its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cluster begins with these.
    Founder(Servers),
    /// It is let into one that is there.
    Joins(Seeds),
}

/// What the settings say of a cluster.
pub struct Said<'a> {
    pub node: Option<u64>,
    pub cluster: &'a Servers,
    pub join: &'a Seeds,
    pub peer_listen: Option<SocketAddr>,
    pub advertise: Option<SocketAddrV4>,
    /// `--durability sync`.
    pub is_synced: bool,
}

impl Place {
    /// What the settings say together; none when they say nothing of a cluster.
    pub fn new(said: &Said<'_>) -> Result<Option<Self>, String> {
        let Said { cluster, join, advertise, .. } = *said;
        let is_alone = cluster.0.is_empty() && join.0.is_empty();
        let id = match said.node {
            None if is_alone && (said.peer_listen.is_some() || advertise.is_some()) => {
                return Err("--peer-listen and --advertise are for clusters: they need --node \
                            and --cluster or --join"
                    .into());
            }
            None if is_alone => return Ok(None),
            None if join.0.is_empty() => {
                return Err(format!("--cluster {cluster} needs --node: which of them is this?"));
            }
            None => {
                return Err(format!(
                    "--join {join} needs --node: a number that no server of the cluster has had"
                ));
            }
            Some(id) if is_alone => {
                return Err(format!(
                    "--node {id} needs --cluster, the numbers and addresses of all servers that \
                     begin together, or --join, addresses of servers that are there"
                ));
            }
            Some(id) => id,
        };
        if !said.is_synced {
            return Err("--durability os is not for clusters: a server that forgets what it has \
                        told the others is worse than none"
                .into());
        }
        if !cluster.0.is_empty() && !join.0.is_empty() {
            return Err("--cluster is for servers that begin together and --join for one that is \
                        added to them later: give one of the two"
                .into());
        }
        let origin = match join.0.is_empty() {
            true => Origin::Founder(cluster.clone()),
            false => Origin::Joins(join.clone()),
        };
        let peer_listen = peer_listen(said, id)?;
        Ok(Some(Place { id, origin, peer_listen, advertise }))
    }

    /// Says where the settings are behind what has become of the cluster: that counts.
    pub fn tell_differences(&self, members: &Members) {
        if let Origin::Founder(servers) = &self.origin {
            for (id, addr) in &servers.0 {
                if members.has_left(*id) {
                    info!(server = id, addr, "in --cluster still, and removed since");
                }
            }
        }
        let own = members.servers.get(&self.id).and_then(|server| server.addr.rsplit_once(':'));
        if let Some((_, port)) = own
            && port.parse() != Ok(self.peer_listen.port())
        {
            warn!(listens = %self.peer_listen, port, "the others reach this server at another port");
        }
    }

    /// Where clients are told to find this server, which listens at `bound` and whom the others
    /// reach at `own`.
    pub fn client_addr(&self, bound: SocketAddrV4, own: &str) -> SocketAddrV4 {
        match (self.advertise, self.peer_listen) {
            (Some(addr), _) => addr,
            (None, _) if !bound.ip().is_unspecified() => bound,
            (None, SocketAddr::V4(peer)) if !peer.ip().is_unspecified() => {
                SocketAddrV4::new(*peer.ip(), bound.port())
            }
            // The same host as where the others find it.
            _ => {
                let ip = resolve(own).map_or(*bound.ip(), |addr| *addr.ip());
                SocketAddrV4::new(ip, bound.port())
            }
        }
    }
}

/// Where this server listens for the others.
fn peer_listen(said: &Said<'_>, id: u64) -> Result<SocketAddr, String> {
    let cluster = said.cluster;
    let own = cluster.0.iter().find(|(other, _)| *other == id);
    match (said.peer_listen, own) {
        (_, None) if !cluster.0.is_empty() => {
            Err(format!("--node {id} is not among --cluster {cluster}"))
        }
        (Some(addr), _) => Ok(addr),
        (None, None) => Err("--join needs --peer-listen: the address and TCP port at which this \
                             server listens for the others"
            .into()),
        (None, Some((_, own))) => {
            let addr = resolve(own)
                .ok_or_else(|| format!("--cluster: {own:?} cannot be resolved to an address"))?;
            let is_elsewhere = |(_, other): &(u64, String)| {
                resolve(other).is_some_and(|other| !other.ip().is_loopback())
            };
            // As Debian's /etc/hosts has it.
            if addr.ip().is_loopback() && cluster.0.iter().any(is_elsewhere) {
                return Err(format!(
                    "--cluster: {own:?} is {addr} on this machine, where the others cannot reach it: \
                     see /etc/hosts, or give this server's address in place of its name"
                ));
            }
            Ok(SocketAddr::V4(addr))
        }
    }
}

/// The first IPv4 address behind HOST:PORT.
pub fn resolve(addr: &str) -> Option<SocketAddrV4> {
    let mut found = addr.to_socket_addrs().ok()?;
    found.find_map(|addr| match addr {
        SocketAddr::V4(addr) => Some(addr),
        SocketAddr::V6(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(node: Option<u64>, cluster: &str, join: &str) -> Result<Option<Place>, String> {
        let (cluster, join) = (&cluster.parse().unwrap(), &join.parse().unwrap());
        let (peer_listen, advertise) = (None, None);
        Place::new(&Said { node, cluster, join, peer_listen, advertise, is_synced: true })
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
        assert_eq!(place(None, "none", "none"), Ok(None));
        for (node, cluster, join, part) in [
            (Some(1), "none", "none", "needs --cluster"),
            (Some(1), "1=127.0.1.1:1,2=192.0.2.1:1", "none", "where the others cannot reach it"),
            (None, three, "none", "needs --node"),
            (None, "none", "a:1", "needs --node"),
            (Some(4), three, "none", "not among"),
            (Some(4), "none", "a:1", "needs --peer-listen"),
            (Some(1), three, "a:1", "give one of the two"),
            (Some(1), "1=no.such.host.invalid:1", "none", "cannot be resolved"),
        ] {
            let error = place(node, cluster, join).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let found = place(Some(2), three, "none").unwrap().unwrap();
        assert_eq!(found.peer_listen, "127.0.0.1:2".parse().unwrap());
        let (cluster, join) = (&three.parse().unwrap(), &Seeds::default());
        let said = Said {
            node: Some(1),
            cluster,
            join,
            peer_listen: None,
            advertise: None,
            is_synced: false,
        };
        assert!(Place::new(&said).unwrap_err().contains("--durability os"));
        let (cluster, peer_listen) = (&Servers::default(), found.peer_listen.into());
        let said =
            Said { node: None, cluster, join, peer_listen, advertise: None, is_synced: true };
        assert!(Place::new(&said).unwrap_err().contains("for clusters"));
    }

    #[test]
    fn addresses_of_servers_that_are_there_are_read_and_shown() {
        let seeds: Seeds = "db1:1, 127.0.0.1:2".parse().unwrap();
        assert_eq!(seeds.to_string(), "db1:1,127.0.0.1:2");
        assert_eq!("none".parse::<Seeds>().unwrap().to_string(), "none");
        for text in ["db1", "db1:", ":7", "db1:0", "db1:1,", &format!("{}:1", "x".repeat(64))] {
            assert!(text.parse::<Seeds>().is_err(), "{text}");
        }
    }

    #[test]
    fn all_founders_find_the_same_fingerprint() {
        let one: Servers = "1=a:1,2=b:2".parse().unwrap();
        let other: Servers = "2=b:2,1=a:1".parse().unwrap();
        assert_eq!(one.fingerprint(None), other.fingerprint(None));
        let third: Servers = "1=a:1,2=b:3".parse().unwrap();
        assert_ne!(one.fingerprint(None), third.fingerprint(None));
        assert_ne!(one.fingerprint(None), one.fingerprint(Some("a backup")));
        assert_eq!(one.fingerprint(Some("a backup")), other.fingerprint(Some("a backup")));
    }
}
