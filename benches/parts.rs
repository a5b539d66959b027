//! Criterion benches of the parts: `cargo bench --bench parts [filter]`.
//!
//! Whole requests are compared by `make bench`, and guarded by `make instructions`; these tell
//! which part has changed.

#[path = "support/speaker.rs"]
mod speaker;
#[path = "support/world.rs"]
mod world;

use baton::disk::RealDisk;
use baton::protocol::{ClientInfo, Op, Outcome, Reply, Request};
use baton::sync::Spin;
use baton::types::{Attempt, FencingToken, LockId, LogIndex, RequestNumber, SessionId, Stamp};
use baton::wal::{self, Pending, Writer};
use baton::wire;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};
use world::World;

const DATA: [u8; 32] = [b'x'; 32];
const RECORD: [u8; 100] = [b'x'; 100];

fn append() -> Request<'static> {
    let op =
        Op::Append { file: b"file_0", total: DATA.len() as u32, offset: 0, window: 0, data: &DATA };
    Request {
        session: SessionId(1 << 40),
        number: RequestNumber(7),
        attempt: Attempt(9),
        after: Attempt(8),
        stamp: Stamp(123_456),
        token: FencingToken(1 << 40),
        lock: LockId(0),
        op,
    }
}

fn granted() -> Reply<'static> {
    Reply {
        session: SessionId(1 << 40),
        number: RequestNumber(6),
        attempt: Attempt(8),
        stamp: Stamp(123_456),
        is_consumed: true,
        outcome: Outcome::Granted { token: FencingToken(1 << 40), lease_ms: 10_000 },
    }
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let init = Request { op: Op::Init { nonce: 1, client: ClientInfo::default() }, ..append() };
    let init = Request { session: SessionId(0), ..init };
    let mut bytes = Vec::new();
    for (name, request) in [("append", append()), ("init", init)] {
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter(|| wire::encode_request(black_box(&request), &mut bytes));
        });
        wire::encode_request(&request, &mut bytes);
        let datagram = bytes.clone();
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| wire::decode_request(black_box(&datagram)).unwrap());
        });
    }
    let reply = granted();
    group.bench_function("encode granted", |bencher| {
        bencher.iter(|| wire::encode_reply(black_box(&reply), &mut bytes));
    });
    wire::encode_reply(&reply, &mut bytes);
    group.bench_function("decode granted", |bencher| {
        bencher.iter(|| wire::decode_reply(black_box(&bytes)).unwrap());
    });
}

/// Acquire, append, release through decode, admit, apply and encode, with no system call.
fn machine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(1));
    for clients in [1, 16, 1_000] {
        let mut world = World::new(clients);
        group.bench_function(format!("section, {clients} clients"), |bencher| {
            bencher.iter(|| world.run(1));
        });
    }
}

fn spin(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spin");
    for threads in [1, 2, 4] {
        group.bench_function(format!("lock and add, {threads} threads"), |bencher| {
            bencher.iter_custom(|rounds| {
                let shared = Spin::new(0u64);
                let begun = Instant::now();
                thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| (0..rounds / threads).for_each(|_| *shared.lock() += 1));
                    }
                });
                begun.elapsed()
            });
        });
    }
}

/// A log in a fresh directory, under `build/` so that it is on the disk that the sources are on.
fn log() -> (tempfile::TempDir, Writer<RealDisk>) {
    std::fs::create_dir_all("build").expect("a directory for the log");
    let dir = tempfile::tempdir_in("build").expect("a directory for the log");
    let options = wal::Options::default();
    let (writer, _) =
        wal::recover(&RealDisk, dir.path(), &options, LogIndex(0), &mut |_, _| Ok(()))
            .expect("an empty log");
    (dir, writer)
}

fn storage(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    group.measurement_time(Duration::from_secs(3));
    for entries in [1u64, 16, 256] {
        let (_dir, mut writer) = log();
        let mut last = LogIndex(0);
        let mut batch = move || {
            let mut pending = Pending::new();
            for _ in 0..entries {
                last = last.next();
                pending.push(last, |buffer| buffer.extend_from_slice(&RECORD));
            }
            pending.take(Vec::new())
        };
        group.throughput(Throughput::Elements(entries));
        group.bench_function(format!("write {entries} entries"), |bencher| {
            bencher.iter_batched_ref(
                &mut batch,
                |batch| writer.write(batch, LogIndex(0)).unwrap(),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(format!("write and sync {entries} entries"), |bencher| {
            bencher.iter_batched_ref(
                &mut batch,
                |batch| {
                    writer.write(batch, LogIndex(0)).unwrap();
                    writer.handle().sync().unwrap();
                },
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(parts, codec, machine, spin, storage);
criterion_main!(parts);
