//! `baton bench`: clients that take the lock, append and release as fast as they can, or at a
//! rate, and how long each call took.

use super::connect::{Purpose, ServerArgs};
use super::exit::{Exit, Failure};
use crate::client::{Connection, Error};
use crate::types::FileId;
use crate::units::parse_duration_ms;
use anyhow::Context;
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than this is counted as this, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;
/// How often the progress bar moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Measure how fast the server serves sections
///
/// Each client has a connection and a thread of its own. A section is acquire, the appends,
/// release; the lock is one, so clients contend for it.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What each client does over and over
    #[arg(long, value_enum, default_value_t = Work::Section)]
    work: Work,
    /// Clients at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: usize,
    /// Measure for this long, after the warm-up
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Work for this long before measuring
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    warm_up: Duration,
    /// Stop each client after this many measured sections, even if there is time left
    #[arg(long, value_name = "N")]
    sections: Option<u64>,
    /// Appends in a section
    #[arg(long, value_name = "N", default_value_t = 1)]
    appends: u32,
    /// Bytes of an append
    #[arg(long, value_name = "BYTES", default_value_t = 32)]
    size: usize,
    /// Spread the appends over this many files
    #[arg(long, value_name = "N", default_value_t = 1)]
    files: u32,
    /// Sections a second that all clients together begin, at most; as fast as they can if not given
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Decides which files are written and when clients begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Acquire, append, release
    Section,
    /// An append without the lock, which the server refuses from memory: the rate of requests
    Refused,
    /// Renewals of the lease by the first client; those of the others are refused from memory
    Renew,
    /// A session is opened and closed: two requests that a cluster replicates, and of which those of
    /// several clients do not wait for each other
    Session,
}

/// What one client has measured, in nanoseconds.
struct Measured {
    total: Histogram<u64>,
    acquire: Histogram<u64>,
    append: Histogram<u64>,
    release: Histogram<u64>,
    count: u64,
}

/// What all clients share.
struct Shared {
    args: BenchArgs,
    start: Barrier,
    is_measuring: AtomicBool,
    is_over: AtomicBool,
    done: AtomicU64,
}

pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    if args.clients == 0 || args.appends == 0 || args.files == 0 {
        let why = "--clients, --appends and --files take at least 1";
        return Err(Failure::new(Exit::Usage, why).into());
    }
    let server = args.server.find()?;
    let shared = Arc::new(Shared {
        start: Barrier::new(args.clients + 1),
        args,
        is_measuring: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        done: AtomicU64::new(0),
    });
    // All connections first: no client works while another is still refused.
    let mut clients = Vec::new();
    for number in 0..shared.args.clients {
        let connection =
            server.connect(Purpose::Work).with_context(|| format!("client {number} of bench"))?;
        let (shared, servers) = (Arc::clone(&shared), server.address().to_owned());
        clients.push(thread::spawn(move || work(&shared, &servers, connection, number)));
    }
    shared.start.wait();
    thread::sleep(shared.args.warm_up);
    shared.is_measuring.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    watch(&shared, begun);
    let elapsed = begun.elapsed();
    shared.is_measuring.store(false, Ordering::SeqCst);
    shared.is_over.store(true, Ordering::SeqCst);
    let mut all = Vec::new();
    for client in clients {
        match client.join() {
            Ok(measured) => all.push(measured?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    report(&shared.args, &all, elapsed)
}

/// Waits for the end of the measurement.
fn watch(shared: &Shared, begun: Instant) {
    let duration = shared.args.duration;
    let goal = shared.args.sections.map(|sections| sections * shared.args.clients as u64);
    let bar = ProgressBar::new(duration.as_millis() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg}") {
        bar.set_style(style);
    }
    loop {
        let elapsed = begun.elapsed();
        let done = shared.done.load(Ordering::Relaxed);
        let is_over = shared.is_over.load(Ordering::Relaxed);
        if is_over || elapsed >= duration || goal.is_some_and(|goal| done >= goal) {
            bar.finish_and_clear();
            return;
        }
        bar.set_position(elapsed.as_millis() as u64);
        bar.set_message(format!("{:.0}/s", done as f64 / elapsed.as_secs_f64().max(1e-9)));
        thread::sleep(PROGRESS_EVERY.min(duration - elapsed));
    }
}

/// The life of one client.
fn work(
    shared: &Shared,
    servers: &str,
    mut connection: Connection,
    number: usize,
) -> Result<Measured, Error> {
    let args = &shared.args;
    let data = vec![b'x'; args.size];
    let mut random = args.seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut measured = Measured::new();
    let interval = args.rate.map(|rate| Duration::from_secs_f64(args.clients as f64 / rate));
    if args.work == Work::Renew && number == 0 {
        connection.acquire()?;
    }
    shared.start.wait();
    let mut due = Instant::now();
    if let Some(interval) = interval {
        due += interval.mul_f64(next(&mut random) as f64 / u64::MAX as f64);
    }
    while !shared.is_over.load(Ordering::Relaxed) {
        if let Some(interval) = interval {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += interval;
        }
        let is_measuring = shared.is_measuring.load(Ordering::Relaxed);
        let kept = is_measuring.then_some(&mut measured);
        let result = match args.work {
            Work::Section => section(args, &mut connection, &data, &mut random, kept),
            Work::Refused => small(kept, || connection.append("file_0", &data)),
            Work::Renew => small(kept, || connection.renew()),
            Work::Session => small(kept, || Connection::connect(servers)?.close()),
        };
        if let Err(error) = result {
            shared.is_over.store(true, Ordering::SeqCst);
            return Err(error);
        }
        if is_measuring {
            shared.done.fetch_add(1, Ordering::Relaxed);
            if Some(measured.count) == args.sections {
                break;
            }
        }
    }
    connection.close()?;
    Ok(measured)
}

fn section(
    args: &BenchArgs,
    connection: &mut Connection,
    data: &[u8],
    random: &mut u64,
    kept: Option<&mut Measured>,
) -> Result<(), Error> {
    let begun = Instant::now();
    connection.acquire()?;
    let acquired = Instant::now();
    for _ in 0..args.appends {
        let file = FileId((next(random) % u64::from(args.files)) as u32);
        connection.append(file.name(), data)?;
    }
    let appended = Instant::now();
    connection.release()?;
    if let Some(kept) = kept {
        kept.acquire.saturating_record(nanos(acquired - begun));
        kept.append.saturating_record(nanos(appended - acquired) / u64::from(args.appends));
        kept.release.saturating_record(nanos(appended.elapsed()));
        kept.total.saturating_record(nanos(begun.elapsed()));
        kept.count += 1;
    }
    Ok(())
}

/// A request that the server answers from memory, most often by refusing it.
fn small(
    kept: Option<&mut Measured>,
    request: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let begun = Instant::now();
    match request() {
        Ok(()) | Err(Error::NotHolder) => {}
        Err(error) => return Err(error),
    }
    if let Some(kept) = kept {
        kept.total.saturating_record(nanos(begun.elapsed()));
        kept.count += 1;
    }
    Ok(())
}

fn report(args: &BenchArgs, all: &[Measured], elapsed: Duration) -> anyhow::Result<()> {
    let mut sum = Measured::new();
    for measured in all {
        for (into, from) in [
            (&mut sum.total, &measured.total),
            (&mut sum.acquire, &measured.acquire),
            (&mut sum.append, &measured.append),
            (&mut sum.release, &measured.release),
        ] {
            into.add(from)?;
        }
        sum.count += measured.count;
    }
    let rate = sum.count as f64 / elapsed.as_secs_f64();
    let mean = sum.count as f64 / all.len() as f64;
    let least = all.iter().map(|measured| measured.count).min().unwrap_or(0);
    let fairness = if mean > 0.0 { least as f64 / mean } else { 0.0 };
    let mut rows = vec![("total", &sum.total)];
    if args.work == Work::Section {
        rows.extend([
            ("acquire", &sum.acquire),
            ("append", &sum.append),
            ("release", &sum.release),
        ]);
    }
    if args.json {
        let latency: Value = rows.iter().map(|(name, h)| (*name, quantiles(h))).collect();
        let document = json!({
            "schema": "baton.bench/1",
            "clients": args.clients, "appends": args.appends, "size": args.size,
            "seconds": elapsed.as_secs_f64(), "count": sum.count, "per_second": rate,
            "least_of_mean": fairness, "latency_us": latency,
            "percentiles_us": percentiles(&sum.total),
        });
        writeln!(io::stdout(), "{document}")?;
        return Ok(());
    }
    writeln!(io::stdout(), "{} in {:.2} s: {rate:.0}/s", sum.count, elapsed.as_secs_f64())?;
    if args.clients > 1 {
        writeln!(
            io::stdout(),
            "the client with the fewest has {:.0} % of the mean",
            100.0 * fairness
        )?;
    }
    writeln!(
        io::stdout(),
        "{:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "µs",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max"
    )?;
    for (name, histogram) in rows {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        writeln!(
            io::stdout(),
            "{name:>10} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            histogram.max() as f64 / 1e3
        )?;
    }
    Ok(())
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    json!({
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999),
        "max": histogram.max() as f64 / 1e3, "mean": histogram.mean() / 1e3,
    })
}

/// The 1st to 99th percentile and the 99.9th, for plots.
fn percentiles(histogram: &Histogram<u64>) -> Vec<f64> {
    let points = (1..100).map(|percent| f64::from(percent) / 100.0).chain([0.999]);
    points.map(|at| histogram.value_at_quantile(at) as f64 / 1e3).collect()
}

impl Measured {
    fn new() -> Self {
        // Three digits up to a minute: fixed arguments that the histogram takes.
        let new = || {
            Histogram::new_with_max(LONGEST_NS, 3).unwrap_or_else(|_| unreachable!("valid bounds"))
        };
        Measured { total: new(), acquire: new(), append: new(), release: new(), count: 0 }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration_ms(text).map(Duration::from_millis)
}

/// splitmix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
