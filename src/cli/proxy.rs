//! `baton proxy`: [`crate::proxy`] from the command line.

use super::exit::{Exit, Failure};
use crate::proxy::script::parse_duration;
use crate::proxy::{Faults, Proxy, Rates, Script, Setup};
use anyhow::{Context, bail};
use nix::sys::signal::{SigSet, Signal};
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// Relay datagrams between clients and a server, with faults.
///
/// Clients use LISTEN as their server. Chances are given as a number from 0 to 1 for both
/// directions, or as two with a comma between them: requests, then replies.
#[derive(clap::Args, Clone, Debug)]
pub struct ProxyArgs {
    /// Address to listen on for clients; port 0 takes a free one
    #[arg(value_name = "LISTEN")]
    pub listen: String,
    /// Address of the server
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// Chance that a datagram is lost
    #[arg(long, value_name = "P[,P]", default_value = "0")]
    pub drop: EachWay<Chance>,
    /// Chance that a datagram arrives twice
    #[arg(long, value_name = "P[,P]", default_value = "0")]
    pub dup: EachWay<Chance>,
    /// Chance that a datagram arrives after the one that follows it
    #[arg(long, value_name = "P[,P]", default_value = "0")]
    pub reorder: EachWay<Chance>,
    /// Delay of each datagram: 5ms, or anything within 5ms..20ms
    #[arg(long, value_name = "MIN..MAX[,MIN..MAX]", default_value = "0ms")]
    pub delay: EachWay<Delay>,
    /// Where chance starts from; the same number makes the same faults. Default: another each time
    #[arg(long)]
    pub seed: Option<u64>,
    /// Rules for particular messages (docs/PROXY.md teaches the language)
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Tell on standard error what becomes of each datagram
    #[arg(short, long)]
    pub verbose: bool,
}

/// A value for requests and one for replies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EachWay<T> {
    requests: T,
    replies: T,
}

/// A probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance(f64);

/// The shortest and the longest delay, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay(u64, u64);

/// Runs the proxy until SIGINT or SIGTERM.
pub fn run(args: ProxyArgs) -> anyhow::Result<()> {
    // Before any thread is started, so that the signals wait for `wait` below in all of them.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("blocking signals")?;
    if args.verbose {
        // A subscriber that is set already is as good.
        let _ = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_max_level(tracing::Level::DEBUG)
            .with_target(false)
            .try_init();
    }
    let listen = resolve(&args.listen)?;
    let target = resolve(&args.target)?;
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
    let setup = Setup { faults: faults(&args), script: script(&args)?, seed };
    let proxy = Proxy::start(listen, target, setup)
        .with_context(|| format!("cannot listen on {listen}"))?;
    eprintln!("seed {seed}");
    let mut out = std::io::stdout();
    writeln!(out, "baton proxy: listening on {}", proxy.addr()).and_then(|()| out.flush())?;
    signals.wait().context("waiting for a signal")?;
    let stats = proxy.stats();
    proxy.stop().context("the proxy ended early")?;
    eprintln!("requests: {}", stats.requests);
    eprintln!("replies: {}", stats.replies);
    Ok(())
}

fn faults(args: &ProxyArgs) -> Faults {
    let rates = |drop: Chance, duplicate: Chance, reorder: Chance, delay: Delay| Rates {
        drop: drop.0,
        duplicate: duplicate.0,
        reorder: reorder.0,
        delay_us: (delay.0, delay.1),
    };
    let ProxyArgs { drop, dup, reorder, delay, .. } = args;
    Faults {
        requests: rates(drop.requests, dup.requests, reorder.requests, delay.requests),
        replies: rates(drop.replies, dup.replies, reorder.replies, delay.replies),
    }
}

fn script(args: &ProxyArgs) -> anyhow::Result<Script> {
    let Some(path) = &args.script else { return Ok(Script::default()) };
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let script = Script::parse(&text);
    Ok(script.map_err(|error| Failure::new(Exit::Usage, format!("{name}, {error}")))?)
}

fn resolve(text: &str) -> anyhow::Result<SocketAddrV4> {
    let found = text.to_socket_addrs().with_context(|| format!("{text:?} is no HOST:PORT"))?;
    for addr in found {
        if let SocketAddr::V4(addr) = addr {
            return Ok(addr);
        }
    }
    bail!("{text:?} has no IPv4 address")
}

impl<T: FromStr + Copy> FromStr for EachWay<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        let (requests, replies) = text.split_once(',').unwrap_or((text, text));
        Ok(EachWay { requests: requests.parse()?, replies: replies.parse()? })
    }
}

impl FromStr for Chance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(chance) if (0.0..=1.0).contains(&chance) => Ok(Chance(chance)),
            _ => Err(format!("{text:?} is no number from 0 to 1")),
        }
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let read = |text: &str| {
            let duration = parse_duration(text);
            duration.map(|duration| duration.as_micros() as u64).ok_or_else(|| {
                format!("{text:?} is no time such as 20ms (one time, or two with .. between)")
            })
        };
        let delay = Delay(read(low)?, read(high)?);
        if delay.0 > delay.1 {
            return Err(format!("{low:?} is longer than {high:?}"));
        }
        Ok(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_for_both_ways_and_two_are_for_requests_and_replies() {
        let chance = |text: &str| text.parse::<EachWay<Chance>>();
        assert_eq!(chance("0.3").unwrap(), EachWay { requests: Chance(0.3), replies: Chance(0.3) });
        assert_eq!(
            chance("0.3,0").unwrap(),
            EachWay { requests: Chance(0.3), replies: Chance(0.0) }
        );
        for wrong in ["1.1", "-0.1", "NaN", "", "0.1,", "x", "0,0,0"] {
            assert!(chance(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_delay_is_one_time_or_a_range() {
        assert_eq!("5".parse(), Ok(Delay(5_000, 5_000)));
        assert_eq!("5ms..1s".parse(), Ok(Delay(5_000, 1_000_000)));
        for wrong in ["20ms..5ms", "..", "5ms..", "fast"] {
            assert!(wrong.parse::<Delay>().is_err(), "{wrong}");
        }
    }
}
