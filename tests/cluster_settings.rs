//! What is wrong with the settings of a cluster's servers is said, by the server that is wrong or
//! by those that it speaks to.

mod common;

use common::cluster::{Cluster, free_ports};
use common::{Server, eventually, hermetic, wait_for_exit};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const TWO: &str = "1=127.0.0.1:1,2=127.0.0.1:2";

/// What a start says that must fail, and its exit code.
fn refused(args: &[&str], data: &Path) -> (Option<i32>, String) {
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_batond")));
    command.args(["--listen", "127.0.0.1:0"]).args(args).arg("--data").arg(data);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let status = wait_for_exit(&mut child, "a batond that cannot start");
    (status.code(), std::io::read_to_string(child.stderr.take().unwrap()).unwrap())
}

/// Servers of one machine that take themselves for servers of clusters, with what they trace.
struct Stage {
    dir: TempDir,
}

impl Stage {
    fn start(&self, name: &str, flags: &[&str]) -> Server {
        Server::start_traced(
            &self.dir.path().join(name),
            flags,
            &self.dir.path().join(name).with_extension("log"),
        )
    }

    fn expect(&self, name: &str, part: &str) {
        let path = self.dir.path().join(name).with_extension("log");
        let traces = || std::fs::read_to_string(&path).unwrap_or_default();
        eventually(&format!("{name} says {part:?}"), || traces().contains(part));
    }
}

fn stage() -> Stage {
    Stage { dir: tempfile::tempdir().unwrap() }
}

#[test]
fn flags_that_do_not_fit_together_are_refused_and_say_so() {
    let data = TempDir::new().unwrap();
    let join = ["--join", "127.0.0.1:1"];
    for (args, code, part) in [
        (vec!["--cluster", TWO], 78, "needs --node"),
        (vec!["--node", "1"], 78, "needs --cluster"),
        (vec!["--node", "3", "--cluster", TWO], 78, "not among --cluster"),
        (vec!["--node", "0", "--cluster", TWO], 64, "numbers from 1"),
        (vec!["--node", "1", "--cluster", "1=a:1,1=b:1"], 64, "there twice"),
        (vec!["--node", "1", "--cluster", "1=a:1,2=a:1"], 64, "there twice"),
        (vec!["--node", "1", "--cluster", "1=a"], 64, "HOST:PORT"),
        (vec!["--node", "1", "--cluster", "1=no.such.host.invalid:1"], 78, "cannot be resolved"),
        (vec!["--node", "1", "--cluster", TWO, "--durability", "os"], 78, "--durability os"),
        (vec!["--peer-listen", "127.0.0.1:1"], 78, "for clusters"),
        (vec!["--advertise", "0.0.0.0:10000"], 64, "at which clients reach this server"),
        ([&["--node", "4"][..], &join].concat(), 78, "needs --peer-listen"),
        (join.to_vec(), 78, "needs --node"),
        ([&["--node", "1", "--cluster", TWO][..], &join].concat(), 78, "give one of the two"),
        (vec!["--node", "4", "--join", "db1"], 64, "HOST:PORT"),
    ] {
        let (found, said) = refused(&args, data.path());
        assert_eq!(found, Some(code), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

#[test]
fn a_port_for_the_other_servers_that_is_in_use_is_named() {
    let data = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, said) = refused(&["--node", "1", "--cluster", &format!("1={addr}")], data.path());
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("for the other servers") && said.contains(&addr), "{said}");
    assert!(said.contains("--peer-listen takes another port"), "{said}");
}

#[test]
fn a_data_directory_is_refused_to_every_other_server() {
    let stage = stage();
    let [one, two] = [0, 1].map(|_| free_ports(1).remove(0));
    let list = format!("1={one},2={two}");
    let data = stage.dir.path().join("one");
    drop(stage.start("one", &["--node", "1", "--cluster", &list]));
    let (code, said) = refused(&["--node", "2", "--cluster", &list], &data);
    assert_eq!(code, Some(78));
    assert!(said.contains("belongs to server 1") && said.contains("this is server 2"), "{said}");
    let (code, said) = refused(&["--node", "1", "--cluster", &format!("1={one}")], &data);
    assert_eq!(code, Some(78));
    assert!(said.contains("check --data, --node and --cluster"), "{said}");
    let (code, said) = refused(&[], &data);
    assert_eq!(code, Some(78));
    assert!(said.contains("belongs to server 1"), "{said}");
    let join = ["--node", "2", "--join", &one, "--peer-listen", &two];
    let (code, said) = refused(&join, &data);
    assert_eq!(code, Some(78));
    assert!(said.contains("belongs to server 1"), "{said}");
    // And that of a server of its own is none of a cluster's.
    drop(stage.start("alone", &[]));
    for args in [&["--node", "1", "--cluster", &list][..], &join] {
        let (code, said) = refused(args, &stage.dir.path().join("alone"));
        assert_eq!(code, Some(78));
        assert!(said.contains("not in a cluster"), "{said}");
    }
}

#[test]
fn servers_of_two_clusters_that_reach_each_other_say_so() {
    let stage = stage();
    let [one, two, three] = [0, 1, 2].map(|_| free_ports(1).remove(0));
    let _one = stage.start("one", &["--node", "1", "--cluster", &format!("1={one},2={two}")]);
    let other = format!("1={one},2={two},3={three}");
    let _two = stage.start("two", &["--node", "2", "--cluster", &other]);
    stage.expect(
        "one",
        "give all servers that begin together the same --cluster, and the same --restore",
    );
    stage.expect("two", "give all servers that begin together the same --cluster");
    stage.expect("one", "welcome=Stranger");
}

#[test]
fn an_address_where_another_server_answers_or_none_is_told() {
    let stage = stage();
    let [one, two, three] = [0, 1, 2].map(|_| free_ports(1).remove(0));
    // Where 2 should be is 3.
    let list = format!("1={one},2={two},3={three}");
    let _one = stage.start("one", &["--node", "1", "--cluster", &list]);
    stage.expect("one", "is that server down, or is that not its TCP port for the others?");
    let _three = stage.start("three", &["--node", "3", "--cluster", &list, "--peer-listen", &two]);
    stage.expect("one", "it is server 3, and 2 was looked for");
    stage.expect("three", "the others reach this server at another port");
    // Something else than a server of a cluster.
    let strange = TcpListener::bind(&three).unwrap();
    let (mut stream, _) = strange.accept().unwrap();
    stream.read_exact(&mut [0; 48]).unwrap();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n and more of what this is not").unwrap();
    stage.expect("one", "it is no server of a cluster");
    // And what says nothing.
    let silent = strange.accept().unwrap();
    stage.expect("one", "no answer in time: is that server stopped");
    drop((silent, strange.accept().unwrap()));
    stage.expect("one", "it hung up: is it stopping, of another version");
}

#[test]
fn a_second_server_with_a_number_that_is_taken_ends_and_the_first_goes_on() {
    let cluster = Cluster::start(3, &[]);
    cluster.leader();
    eventually("the servers are known by their data directories", || {
        cluster.traces().contains("connected")
    });
    let data = TempDir::new().unwrap();
    let peer = free_ports(1).remove(0);
    let list = cluster.list_of_peers();
    let (code, said) =
        refused(&["--node", "2", "--cluster", &list, "--peer-listen", &peer], data.path());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("either two servers were started with --node 2"), "{said}");
    // Nor can it ask to be let in.
    let data = TempDir::new().unwrap();
    let seeds = cluster.peers.join(",");
    let (code, said) =
        refused(&["--node", "2", "--join", &seeds, "--peer-listen", &peer], data.path());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("add it with a new number"), "{said}");
    cluster.leader();
}

#[test]
fn a_server_that_waits_to_be_let_in_says_so_and_can_be_stopped() {
    let cluster = Cluster::start(3, &[]);
    cluster.leader();
    let dir = TempDir::new().unwrap();
    let peer = free_ports(1).remove(0);
    let mut command = hermetic(Command::new(env!("CARGO_BIN_EXE_batond")));
    let traces = dir.path().join("traces");
    let mut child = command
        .args(["--listen", "127.0.0.1:0", "--node", "4", "--join", &cluster.peers[0]])
        .args(["--peer-listen", &peer, "--data"])
        .arg(dir.path().join("data"))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&traces).unwrap())
        .spawn()
        .unwrap();
    eventually("it says that it waits", || {
        let said = std::fs::read_to_string(&traces).unwrap();
        said.contains("waiting to be let in: baton cluster add 4=HOST:PORT")
    });
    eventually("the leader knows that it waits", || {
        cluster.status()["waiting"] == serde_json::json!([4])
    });
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(wait_for_exit(&mut child, "a batond that waits").success());
}

#[test]
fn a_server_with_fewer_data_files_than_the_leader_says_so() {
    let mut cluster = Cluster::start(3, &["--files", "5"]);
    let leader = cluster.leader();
    let at = cluster.follower();
    cluster.kill(at);
    let data = TempDir::new().unwrap();
    let peer = free_ports(1).remove(0);
    let seeds = cluster.peers[leader].clone();
    let data = data.path().to_owned();
    let flags =
        ["--node", "4", "--join", &seeds, "--peer-listen", &peer, "--files", "4"].map(String::from);
    let joining = std::thread::spawn(move || {
        refused(&flags.iter().map(String::as_str).collect::<Vec<_>>(), &data)
    });
    let added = format!("4={}", free_ports(1)[0]);
    let output = cluster.baton(&["add", &added, "--timeout", "3s"]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let (code, said) = joining.join().unwrap();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("not --files 4, but at least --files 5"), "{said}");
    // What never came can be taken out again.
    cluster.baton_ok(&["remove", "4"]);
}
