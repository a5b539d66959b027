//! Several real `batond` that are one cluster, each in a network namespace of its own with one link
//! to the others and one to the clients, which share a namespace. The links are cut.

use super::hermetic;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Servers from number 1 on, and a namespace for clients. Gone when dropped.
pub struct Network {
    tag: String,
    /// The servers that are up, by their numbers less one.
    children: Vec<Option<Child>>,
    flags: Vec<String>,
    dir: TempDir,
}

/// Which link of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// To the other servers.
    Peers,
    /// To the clients.
    Clients,
}

impl Net {
    /// The namespace, less the tag, that has the bridge, and what the net's addresses begin with.
    fn of(self) -> (&'static str, &'static str) {
        match self {
            Net::Peers => ("s", "10.97.0"),
            Net::Clients => ("c", "10.98.0"),
        }
    }
}

impl Network {
    /// Starts servers with these flags besides those that make them one cluster; says so and gives
    /// None where namespaces are not permitted.
    pub fn start(size: usize, flags: &[&str]) -> Option<Network> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let built = BUILT.fetch_add(1, Ordering::Relaxed);
        let mut network = Network {
            tag: format!("bt{}x{built}", std::process::id()),
            children: (0..size).map(|_| None).collect(),
            flags: flags.iter().map(|flag| flag.to_string()).collect(),
            dir: tempfile::tempdir().unwrap(),
        };
        if network.build().is_none() {
            eprintln!("SKIPPED: hosts of their own, which need root and network namespaces");
            return None;
        }
        for id in 1..=size {
            network.restart(id);
        }
        Some(network)
    }

    fn build(&self) -> Option<()> {
        let tag = &self.tag;
        let must = |args: String| ip(&args).then_some(());
        for net in [Net::Peers, Net::Clients] {
            let (side, prefix) = net.of();
            must(format!("netns add {tag}{side}"))?;
            must(format!("-n {tag}{side} link add br0 type bridge"))?;
            must(format!("-n {tag}{side} addr add {prefix}.100/24 dev br0"))?;
            must(format!("-n {tag}{side} link set br0 up"))?;
            must(format!("-n {tag}{side} link set lo up"))?;
        }
        for id in 1..=self.children.len() {
            must(format!("netns add {tag}n{id}"))?;
            must(format!("-n {tag}n{id} link set lo up"))?;
            for net in [Net::Peers, Net::Clients] {
                let ((side, prefix), name) = (net.of(), format!("{net:?}").to_lowercase());
                must(format!(
                    "-n {tag}{side} link add p{id} type veth peer name {name} netns {tag}n{id}"
                ))?;
                must(format!("-n {tag}{side} link set p{id} master br0 up"))?;
                must(format!("-n {tag}n{id} addr add {prefix}.{id}/24 dev {name}"))?;
                must(format!("-n {tag}n{id} link set {name} up"))?;
            }
        }
        Some(())
    }

    pub fn size(&self) -> usize {
        self.children.len()
    }

    /// The namespace of the clients.
    pub fn clients(&self) -> String {
        format!("{}c", self.tag)
    }

    /// What a client is given.
    pub fn list(&self) -> String {
        let addrs: Vec<_> = (1..=self.children.len()).map(|id| self.addr(id)).collect();
        addrs.join(",")
    }

    /// Where clients reach a server.
    pub fn addr(&self, id: usize) -> String {
        format!("10.98.0.{id}:10000")
    }

    pub fn data(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("data{id}"))
    }

    pub fn traces(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("traces{id}"))
    }

    /// The server that said last that it serves clients, by the highest term, after the term.
    pub fn leader(&self) -> Option<(u64, usize)> {
        let term = |id: usize| {
            let traces = std::fs::read_to_string(self.traces(id)).unwrap_or_default();
            let line = traces.lines().rfind(|line| line.contains("serves clients"))?;
            let (_, rest) = line.split_once("term=")?;
            Some((rest.split_whitespace().next()?.parse().ok()?, id))
        };
        (1..=self.children.len()).filter_map(term).max()
    }

    pub fn is_up(&self, id: usize) -> bool {
        self.children[id - 1].is_some()
    }

    /// Ends a server as a crash does.
    pub fn kill(&mut self, id: usize) {
        if let Some(mut child) = self.children[id - 1].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts a server that is not up.
    pub fn restart(&mut self, id: usize) {
        let members = (1..=self.children.len()).map(|id| format!("{id}=10.97.0.{id}:7000"));
        let traces = std::fs::File::options().create(true).append(true).open(self.traces(id));
        let mut command = hermetic(Command::new("ip"));
        command
            .args(["netns", "exec", &format!("{}n{id}", self.tag)])
            .args([env!("CARGO_BIN_EXE_batond"), "--node", &id.to_string()])
            .args(["--cluster", &members.collect::<Vec<_>>().join(",")])
            .args(["--listen", &self.addr(id), "--data"])
            .arg(self.data(id))
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(traces.unwrap());
        self.children[id - 1] = Some(command.spawn().unwrap());
    }

    /// Cuts a server off, or joins it again.
    pub fn cut(&self, net: Net, id: usize, is_cut: bool) {
        let state = if is_cut { "down" } else { "up" };
        assert!(ip(&format!("-n {}{} link set p{id} {state}", self.tag, net.of().0)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for id in 1..=self.children.len() {
            self.kill(id);
            ip(&format!("netns del {}n{id}", self.tag));
        }
        for side in ["s", "c"] {
            ip(&format!("netns del {}{side}", self.tag));
        }
    }
}

fn ip(args: &str) -> bool {
    let status = Command::new("ip").args(args.split_whitespace()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
