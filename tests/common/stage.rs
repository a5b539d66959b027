//! A server with the fault proxy in front: where the scenarios play.

use super::driver::Driver;
use super::{PATIENCE, Server};
use baton::proxy::{Proxy, Setup, Watch};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use tempfile::TempDir;

/// A server over a fresh data directory, reached through a proxy.
pub struct Stage {
    // Fields are dropped in this order: the server must end before its directory goes.
    pub proxy: Proxy,
    pub server: Server,
    pub dir: TempDir,
}

impl Stage {
    /// A stage where clients' messages are treated as the script says.
    pub fn with_script(lease: &str, script: &str) -> Stage {
        let script = script.parse().unwrap();
        Stage::with_setup(lease, Setup { script, ..Setup::default() })
    }

    /// A stage with these faults.
    pub fn with_setup(lease: &str, setup: Setup) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &["--lease", lease]);
        let SocketAddr::V4(target) = server.addr() else { panic!("IPv4 is asked for") };
        let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let proxy = Proxy::start(listen, target, setup).unwrap();
        Stage { proxy, server, dir }
    }

    /// The next client: C1 first, then C2, and so on.
    pub fn client(&self) -> Driver {
        Driver::connect(self.proxy.addr())
    }

    /// Watches for a message, such as `reply queued of 2`.
    pub fn watch(&self, pattern: &str) -> Seen {
        let watch = self.proxy.watch(pattern).unwrap();
        Seen { watch, pattern: pattern.to_owned() }
    }

    /// Has the client acquire a lock that another one holds, and waits until it is in the queue.
    pub fn queue(&self, client: &mut Driver, number: u32) {
        let queued = self.watch(&format!("reply queued of {number}"));
        client.send("acquire");
        queued.wait();
    }

    /// What `file_0` holds.
    pub fn file(&self) -> String {
        self.server.file("file_0")
    }
}

/// A message that is watched for.
pub struct Seen {
    watch: Watch,
    pattern: String,
}

impl Seen {
    /// Waits until it comes to the proxy; fails the test when it does not.
    pub fn wait(&self) {
        assert!(self.watch.wait(PATIENCE), "never came: {}", self.pattern);
    }

    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.watch.has_come()
    }
}
