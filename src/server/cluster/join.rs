//! How a server is let into a cluster that is there. It asks the servers that it is told of, and
//! those that they name, until one says that it belongs to them; that is when an operator has
//! added it. That one gives it its state and, piece by piece, the data files. Only then it starts
//! as a member.
//!
//! A number is let in with the one data directory that asked when it was added
//! ([`Hello::life`]): whoever has forgotten what it acknowledged is not let in again.

use super::fetch::{self, ask, complete, read_checkpoint, send_checkpoint};
use super::hello::{Hello, Purpose, Welcome};
use super::peers::{Peers, in_words, left, open, replaced};
use super::settings::Seeds;
use crate::data::DataFiles;
use crate::disk::RealDisk;
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::codec::{Input as Reader, put_bytes, put_u64};
use crate::engine::cluster::recover::write_checkpoint;
use crate::limits::{PEER_ADDR_MAX, SERVERS_MAX};
use crate::server::service::Signals;
use crate::server::store::member::{Identity, MemberError, claim};
use crate::server::threads::Server;
use crate::server::{Error, OpenError, PRIVATE_DIR};
use crate::types::LogIndex;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// A server that asks to be let in.
pub struct Joiner<'a> {
    pub dir: &'a Path,
    pub files: u32,
    /// The cluster in it is 0 as long as it is not known.
    pub own: Identity,
    pub signals: &'a Signals,
}

/// How an attempt ended that did not let the server in.
enum Trouble {
    /// An operator is to add the server first.
    Wait,
    /// The signal to end.
    Stopped,
    /// Another attempt, or another server, may do better.
    Passing(String),
    Final(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Passing(in_words(error).to_string())
    }
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        match error.is_full() {
            true => Trouble::Passing(error.to_string()),
            false => Trouble::Final(error.into()),
        }
    }
}

impl Joiner<'_> {
    /// Asks until this server is let in, and takes over state and files. None if it is to end
    /// before.
    pub fn join(mut self, seeds: &Seeds) -> Result<Option<Identity>, Error> {
        let mut known = seeds.0.clone();
        let mut told = String::new();
        loop {
            for addr in known.clone() {
                let text = match self.ask(&addr, &mut known) {
                    Ok(()) => return Ok(Some(self.own)),
                    Err(Trouble::Stopped) => return Ok(None),
                    Err(Trouble::Final(error)) => return Err(error),
                    Err(Trouble::Wait) => format!(
                        "waiting to be let in: baton cluster add {}=HOST:PORT, where the others \
                         reach this server",
                        self.own.node
                    ),
                    Err(Trouble::Passing(why)) => format!("cannot ask {addr} to be let in: {why}"),
                };
                if text != told {
                    warn!("{text}");
                    told = text;
                }
            }
            if self.signals.is_ending(ASK_EVERY).map_err(wait_error)? {
                return Ok(None);
            }
        }
    }

    fn ask(&mut self, addr: &str, known: &mut Vec<String>) -> Result<(), Trouble> {
        let mut stream = open(addr)?;
        let Identity { node, cluster, life } = self.own;
        let hello = Hello {
            purpose: Purpose::Join,
            cluster,
            from: node,
            to: 0,
            clients: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            life,
            welcome: Welcome::Fine,
            addr: String::new(),
        };
        stream.write_all(&hello.encode())?;
        let answer = Hello::read(&mut stream)?;
        let fatal = |text: String| Err(Trouble::Final(Error::Cluster(text)));
        match answer.welcome {
            Welcome::Fine | Welcome::Unknown => {}
            Welcome::Left => return fatal(left(node)),
            Welcome::Replaced => return fatal(replaced(node)),
            Welcome::Stranger => {
                return fatal(format!(
                    "{} belongs to server {node} of cluster {cluster:016x}, and {addr} to cluster \
                     {:016x}: check --join and --data",
                    self.dir.display(),
                    answer.cluster
                ));
            }
            Welcome::Misdirected => return Err(Trouble::Passing("it looks for another".into())),
        }
        // From here on the directory is of this cluster.
        self.own.cluster = answer.cluster;
        claim(self.dir, self.own)?;
        for (_, addr) in read_members(&mut stream)? {
            if !known.contains(&addr) && known.len() < KNOWN_MAX {
                known.push(addr);
            }
        }
        if answer.welcome == Welcome::Unknown {
            return Err(Trouble::Wait);
        }
        let is_ending = || self.signals.is_ending(Duration::ZERO).unwrap_or(true);
        let Some(checkpoint) = read_checkpoint(&mut stream, is_ending)? else {
            return Err(Trouble::Passing("its state is not ready yet".into()));
        };
        info!(
            from = answer.from,
            index = checkpoint.head.index,
            "let in: taking over state and files"
        );
        self.take_over(&mut stream, checkpoint)
    }

    fn take_over(
        &mut self,
        stream: &mut TcpStream,
        mut checkpoint: Checkpoint,
    ) -> Result<(), Trouble> {
        let server = checkpoint.head.members.servers.get(&self.own.node);
        if server.is_none_or(|server| server.life != self.own.life) {
            return Err(Trouble::Passing("its state does not know this server yet".into()));
        }
        let unreadable = |error| Trouble::Passing(format!("its state cannot be read: {error}"));
        let state = checkpoint.state().map_err(unreadable)?;
        let (has, asked) = (state.machine.files(), self.files);
        if has > asked {
            let dir = self.dir.to_path_buf();
            return Err(Trouble::Final(OpenError::Fewer { dir, has, asked }.into()));
        }
        let data = DataFiles::open(&RealDisk, self.dir, self.files).map_err(OpenError::from)?;
        // What an earlier attempt has fetched is there still.
        data.rewind(&vec![0; asked as usize]).map_err(OpenError::from)?;
        let signals = self.signals;
        let mut is_stopped = false;
        let fetched = complete(&data, &[], &state.files, |file, offset, len| {
            is_stopped = signals.is_ending(Duration::ZERO)?;
            match is_stopped {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => ask(stream, file, offset, len),
            }
        });
        if is_stopped {
            return Err(Trouble::Stopped);
        }
        fetched?;
        data.sync().map_err(OpenError::from)?;
        // This server has promised nothing yet, and goes on from there.
        let head = &mut checkpoint.head;
        head.log_from = (head.index, head.term);
        head.hard = (head.term, 0, head.index);
        let private = self.dir.join(PRIVATE_DIR);
        write_checkpoint(&RealDisk, &private, LogIndex(0), &checkpoint)
            .map_err(|error| OpenError::from(MemberError::from(error)))?;
        info!(index = checkpoint.head.index, "took over state and files");
        Ok(())
    }
}

fn wait_error(source: io::Error) -> Error {
    Error::System { what: "cannot wait for signals", source }
}

/// Tells a server that is not let in yet whom else to ask.
pub(super) fn tell_members(peers: &Peers, stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&encode_members(&peers.addrs()))
}

/// Gives the state and the data files to a server that is let in.
pub(super) fn answer(server: &Arc<Server>, mut stream: TcpStream) -> io::Result<()> {
    let peers = server.cluster().peers();
    stream.write_all(&encode_members(&peers.addrs()))?;
    send_checkpoint(&mut stream, peers.offered().as_ref())?;
    fetch::answer(server, stream)
}

fn encode_members(addrs: &[(u64, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, addrs.len() as u64);
    for (id, addr) in addrs {
        put_u64(&mut out, *id);
        put_bytes(&mut out, addr.as_bytes());
    }
    out
}

fn read_members(stream: &mut impl Read) -> io::Result<Vec<(u64, String)>> {
    let count = read_u64(stream)?;
    if count > SERVERS_MAX as u64 {
        return Err(io::Error::other("more servers than there may be"));
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let id = read_u64(stream)?;
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > PEER_ADDR_MAX {
            return Err(io::Error::other("an address longer than any may be"));
        }
        let mut addr = vec![0; len];
        stream.read_exact(&mut addr)?;
        let addr =
            String::from_utf8(addr).map_err(|_| io::Error::other("an address is no text"))?;
        members.push((id, addr));
    }
    Ok(members)
}

fn read_u64(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    let mut input = Reader(&bytes);
    input.u64().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

const ASK_EVERY: Duration = Duration::from_millis(300);
/// Addresses that are asked at most.
const KNOWN_MAX: usize = 2 * SERVERS_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_these_bytes_and_come_back_and_no_cut_ones_do() {
        let members = vec![(1, "a:1".to_owned()), (4, "db4:2".to_owned())];
        let bytes = encode_members(&members);
        let golden = [
            [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0].as_slice(),
            b"a:1",
            &[4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0],
            b"db4:2",
        ];
        assert_eq!(bytes, golden.concat());
        assert_eq!(read_members(&mut &bytes[..]).unwrap(), members);
        for len in 0..bytes.len() {
            assert!(read_members(&mut &bytes[..len]).is_err(), "cut to {len}");
        }
        let many = 10_u64.to_le_bytes();
        assert!(read_members(&mut &many[..]).unwrap_err().to_string().contains("more servers"));
    }
}
