"""Measures Baton beside what people use, in the same run, in turns; `make bench` calls it.

    python3 tools/bench [--short] [--rounds N] [--seconds S] [--only PART,…] [--record FILE]

Parts: cycle (all systems, 1 and 16 clients), scaling (cycles by number of clients), requests
(request rate against the echo server), cluster (three servers, and three of etcd), large (1 MiB
sections), crowd, idle, start, recovery, library. Results go to build/bench: bench.json, latency.svg, throughput.svg, table.md.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pathlib
import shutil
import sys
import tempfile
from dataclasses import asdict

import clusters
import goals
import loads
import procs
import report
import single
from loads import Load, Results, baton, peer

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PARTS = ["cycle", "scaling", "requests", "cluster", "large", "crowd", "idle", "start", "recovery",
         "library"]  # fmt: skip
MIB = 1 << 20


class Paths:
    """Where things are; `scratch` is on the file system of the results, and goes in the end."""

    def __init__(self, out: pathlib.Path):
        self.root, self.out = ROOT, out
        self.release = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
        self.tools = out / "bin"
        out.mkdir(parents=True, exist_ok=True)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="scratch-", dir=scratch_parent(out)))
        # PostgreSQL runs as another user, and must get through to its directory.
        self.scratch.chmod(0o755)
        self.numbers = itertools.count()

    def fresh(self) -> pathlib.Path:
        return self.scratch / f"data-{next(self.numbers)}"


def scratch_parent(out: pathlib.Path) -> pathlib.Path:
    """/var/tmp if that is the same file system: every user may enter it."""
    common = pathlib.Path("/var/tmp")
    is_same = common.is_dir() and common.stat().st_dev == out.stat().st_dev
    return common if is_same else out


class Bench:
    def __init__(self, paths: Paths, options: argparse.Namespace, stack: contextlib.ExitStack):
        self.paths, self.options, self.stack = paths, options, stack
        self.settings: dict[str, str] = {}
        self.results, self.by_clients, self.clusters = Results(), Results(), Results()
        self.single: dict[str, dict] = {}
        self.echo = [self.begin(f"echo, {n} threads", procs.echo, n) for n in (1, 4)]
        self.os = self.begin("baton os", procs.batond, "os")
        self.sync = self.begin("baton sync", procs.batond, "sync")
        self.peers: list[Load] = []

    def begin(self, name: str, start, *arguments):
        """A server that is ended with the bench; None, and a loud word, where it is missing."""
        try:
            server = start(self.paths, self.paths.fresh(), *arguments)
        except procs.Missing as missing:
            print(f"bench: LEFT OUT: {name}: {missing} (make bench-peers)", file=sys.stderr)
            return None
        self.stack.callback(server.stop)
        self.settings[name] = server.settings
        return server

    def run_rounds(self, loads_: list[Load], results: Results, rounds: int | None = None) -> None:
        options = self.options
        loads.run_rounds(loads_, rounds or options.rounds, options.seconds, results)

    def bare(self, name: str, work: str, clients=(1, 16), *flags: str) -> list[Load]:
        return [
            Load(f"{name} ({n})", peer(self.paths, "udp", echo.port, work, *flags), clients)
            for n, echo in zip(("1 thread", "4 threads"), self.echo)
        ]

    def begin_peers(self) -> None:
        paths = self.paths
        for name, is_durable in (("Redis", False), ("Redis, appendfsync always", True)):
            if server := self.begin(name, procs.redis, is_durable):
                self.peers.append(Load(name, redis(paths, server.port)))
        if server := self.begin("memcached over UDP", procs.memcached):
            self.peers.append(Load("memcached", peer(paths, "memcached", server.port, "")))
        if server := self.begin("PostgreSQL", procs.postgres):
            for commit in ("off", "on"):
                name = f"PostgreSQL, synchronous_commit {commit}"
                self.peers.append(Load(name, peer(paths, "postgres", server.port, commit)))
        if server := self.begin("etcd", procs.etcd):
            self.peers.append(Load("etcd", peer(paths, "etcd", server.port, "")))

    def part_cycle(self) -> None:
        disk = ["--path", str(self.paths.scratch)]
        self.run_rounds([
            *self.bare("bare trip", "trip"),
            *self.bare("three bare trips", "trips"),
            *self.bare("three bare trips, one write", "write"),
            *self.bare("three bare trips, one synced write", "sync"),
            Load("write + fdatasync", peer(self.paths, "disk", 0, "", *disk), (1,)),
            Load("baton os", baton(self.paths, self.os)),
            Load("baton sync", baton(self.paths, self.sync)),
            *self.peers,
        ], self.results)  # fmt: skip

    def part_scaling(self) -> None:
        clients = (1, 4, 16) if self.options.short else (1, 2, 4, 8, 16, 32, 64)
        self.run_rounds([
            *(Load(load.name, load.run, clients) for load in [
                *self.bare("three bare trips", "trips")[1:],
                Load("baton os", baton(self.paths, self.os)),
                Load("baton sync", baton(self.paths, self.sync)),
                *self.peers,
            ]),
        ], self.by_clients, 1)  # fmt: skip

    def part_requests(self) -> None:
        work = baton(self.paths, self.os, "--work", "refused")
        loads_ = [*self.bare("bare trip", "trip", (64,)), Load("baton requests", work, (16, 64))]
        if "cycle" not in self.options.only:
            loads_[:2] = self.bare("bare trip", "trip", (16, 64))
        self.run_rounds(loads_, self.results)

    def part_cluster(self) -> None:
        """Only while this part runs there are these servers."""
        kept, self.stack = self.stack, contextlib.ExitStack()
        with self.stack:
            ours = self.begin("baton, 3 servers", clusters.Baton)
            etcd = self.begin("etcd, 3 members", clusters.Etcd)
            disk = ["--path", str(self.paths.scratch)]
            self.run_rounds([
                *self.bare("bare trip", "trip", (1,)),
                Load("bare TCP trip", peer(self.paths, "tcp", 0, "", "--size", "100"), (1,)),
                Load("write + fdatasync", peer(self.paths, "disk", 0, "", *disk), (1, 3)),
                Load("baton, 3 servers", baton(self.paths, ours), (1, 16, 64)),
                Load("baton, 3 servers, sessions",
                     baton(self.paths, ours, "--work", "session"), (64,)),
                *([Load("etcd, 3 members", at_leader(self.paths, etcd))] if etcd else []),
            ], self.clusters)  # fmt: skip
            self.single["failover"] = single.failover(self.options.kills, ours, etcd)
        self.stack = kept

    def part_large(self) -> None:
        size = ["--size", str(MIB)]
        self.run_rounds([
            *self.bare("1 MiB window", "window", (1,), *size),
            Load("baton 1 MiB", baton(self.paths, self.os, *size), (1,)),
        ], self.results)  # fmt: skip

    def part_crowd(self) -> None:
        many = 10_000 if self.options.short else 100_000
        seconds = 2 if self.options.short else 10
        self.single["crowd"] = single.crowd(self.paths, seconds, many)

    def part_idle(self) -> None:
        self.single["idle"] = single.idle(self.paths, 5 if self.options.short else 60)

    def part_start(self) -> None:
        self.single["start"] = single.start(self.paths, 5 if self.options.short else 15)

    def part_recovery(self) -> None:
        self.single["recovery"] = single.recovery(self.paths, 1.5 if self.options.short else 5)

    def part_library(self) -> None:
        self.single["library"] = single.library(self.paths)


def redis(paths: Paths, port: int):
    """The usual lock for one client; the fair queue where clients contend."""
    alone, contended = (peer(paths, "redis", port, work) for work in ("set", "queue"))
    return lambda clients, seconds: (contended if clients > 1 else alone)(clients, seconds)


def at_leader(paths: Paths, etcd: clusters.Etcd):
    """At the member that leads, where etcd is fastest."""
    return lambda clients, seconds: peer(paths, "etcd", etcd.ports[etcd.leader()], "")(
        clients, seconds
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="about a minute, for a first look")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of one measurement")
    parser.add_argument("--kills", type=int, help="of each cluster's leader")
    parser.add_argument("--only", type=lambda text: text.split(","), default=PARTS)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "bench")
    parser.add_argument("--record", type=pathlib.Path, help="write the tables into this document")
    found = parser.parse_args()
    if unknown := set(found.only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    found.rounds = found.rounds or (3 if found.short else 9)
    found.kills = found.kills or (2 if found.short else 20)
    found.seconds = found.seconds or (0.3 if found.short else 1.5)
    return found


def main() -> int:
    chosen = options()
    load_before = os.getloadavg()[0]
    paths = Paths(chosen.out.resolve())
    try:
        with contextlib.ExitStack() as stack:
            bench = Bench(paths, chosen, stack)
            # Last, so that everything that asks for quiet has it.
            for part in sorted(chosen.only, key=lambda part: part in ("cycle", "scaling")):
                if part in ("cycle", "scaling") and not bench.peers:
                    bench.begin_peers()
                getattr(bench, f"part_{part}")()
    finally:
        shutil.rmtree(paths.scratch, ignore_errors=True)
    met = goals.goals(bench.results, bench.clusters, bench.single)
    text = "\n\n".join([
        report.conditions(chosen.rounds, chosen.seconds, load_before),
        report.goals_table(met),
        report.systems_table(bench.results, (1, 16)),
        report.systems_table(bench.clusters, (1, 3, 16, 64)),
    ])  # fmt: skip
    document = {
        "conditions": report.conditions(chosen.rounds, chosen.seconds, load_before),
        "settings": bench.settings,
        "goals": [asdict(goal) for goal in met],
        "rounds": bench.results.rounds,
        "by_clients": bench.by_clients.rounds,
        "clusters": bench.clusters.rounds,
        "single": bench.single,
    }
    report.write_files(chosen.out, document, bench.results, bench.by_clients)
    (chosen.out / "table.md").write_text(text + "\n")
    if chosen.record:
        report.record(chosen.record, text)
    print(text)
    print(f"\nbench.json, table.md, latency.svg and throughput.svg are in {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
