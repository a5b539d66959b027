"""What is measured once and by itself: the end of a leader, memory, wake-ups, start, recovery, the
library."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

import clusters
import loads
import procs

MIB = 1 << 20


def crowd(paths, seconds: int, many: int) -> dict:
    """Waiting and idle sessions: memory, and how fast the lock passes on."""
    found = {}
    for name, sessions, mode in (
        ("16 waiting", 17, "wait"), (f"{many} waiting", many + 1, "wait"),
        (f"{many} idle", many, "idle"),
    ):  # fmt: skip
        # No lease may run out while the crowd gathers.
        server = procs.batond(paths, paths.fresh(), "os", "--lease", "10m", "--session-ttl", "1h")
        try:
            found[name] = loads.output([
                str(paths.release / "examples" / "crowd"), server.address, str(server.pid),
                str(sessions), mode, str(seconds),
            ])  # fmt: skip
        finally:
            server.stop()
    few, waiting = found["16 waiting"], found[f"{many} waiting"]
    return {
        "sessions": many,
        "waiting_mb": waiting["end_kb"] / 1024,
        "idle_mb": found[f"{many} idle"]["after_kb"] / 1024,
        "handover_share": waiting["per_second"] / max(few["per_second"], 1e-9),
        "runs": found,
    }


def failover(kills: int, ours: clusters.Cluster, etcd: clusters.Cluster | None) -> dict:
    """Leaders are killed, in turns; how long a client waits for the next, in milliseconds."""
    found: dict[str, list[float]] = {"baton_ms": [], "etcd_ms": []}
    for kill in range(kills):
        # Not always at the same moment of a beat.
        load_seconds = 0.2 + 0.013 * (kill % 10)
        for name, cluster in (("baton_ms", ours), ("etcd_ms", etcd)):
            if cluster:
                loads.tell(f"[{kill + 1}/{kills}] the leader is killed: {cluster.settings}")
                found[name].append(clusters.failover(cluster, load_seconds))
    loads.tell("")
    return found


def idle(paths, seconds: float) -> dict:
    """A server that nobody talks to."""
    server = procs.batond(paths, paths.fresh(), "sync")
    try:
        time.sleep(1)
        before = wake_ups(server.pid)
        time.sleep(seconds)
        woken = wake_ups(server.pid) - before
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024
    finally:
        server.stop()
    return {"resident_mb": resident, "wake_ups_per_minute": woken * 60 / seconds}


def wake_ups(pid: int) -> int:
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)
        total += int(found.group(1))
    return total


def start(paths, times: int) -> dict:
    """From exec to the line that says it listens, on an empty directory."""
    taken = []
    for _ in range(times):
        data = paths.fresh()
        begun = time.perf_counter()
        server = procs.batond(paths, data, "sync")
        taken.append((time.perf_counter() - begun) * 1000)
        server.stop()
    return {"empty_ms": statistics.median(taken)}


# Of an entry of the log, in bytes: docs/DISK.md.
RECORD_HEADER = 24


def recovery(paths, seconds: float) -> dict:
    """A killed server starts again: bytes of log a second, for small and for large sections."""
    found = {}
    empty = start(paths, 3)["empty_ms"] / 1000
    for name, flags in (("small", ["--size", "32"]), ("large", ["--size", str(MIB)])):
        data = paths.fresh()
        server = procs.batond(paths, data, "os")
        try:
            loads.baton(paths, server, *flags)(1, seconds)
            os.kill(server.pid, signal.SIGKILL)
        finally:
            server.stop()
        begun = time.perf_counter()
        with open(data.with_suffix(".trace"), "w+") as trace:
            command = [
                str(paths.release / "batond"), "--listen", "127.0.0.1:0", "--data", str(data),
                "--durability", "os", "--files", "1",
            ]  # fmt: skip
            again = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=trace, text=True)
            again.stdout.readline()
            taken = time.perf_counter() - begun
            again.terminate()
            again.communicate()
            trace.seek(0)
            plain = re.sub(r"\x1b\[[0-9;]*m", "", trace.read())
        entries, payload = (
            int(re.search(rf"recovered.*\b{key}=(\d+)", plain).group(1))
            for key in ("entries", "bytes")
        )
        log = payload + entries * RECORD_HEADER
        found[name] = {
            "log_mb": log / MIB, "seconds": taken,
            "mb_per_second": log / MIB / max(taken - empty, 1e-3),
        }  # fmt: skip
    return found


def library(paths) -> dict:
    """Size and dependencies of libbaton.so, and what the first call from Python costs."""
    stripped = paths.scratch / "libbaton.so"
    built = paths.release / "libbaton.so"
    subprocess.run(["strip", "--strip-unneeded", "-o", stripped, built], check=True)
    dynamic = subprocess.run(
        ["readelf", "-d", stripped], capture_output=True, text=True, check=True
    ).stdout
    server = procs.batond(paths, paths.fresh(), "os")
    try:
        python = json.loads(
            subprocess.run(
                [sys.executable, "-c", FIRST_CALL, server.address],
                env={**os.environ, "PYTHONPATH": str(paths.root / "python"),
                     "BATON_LIBRARY": str(stripped)},
                capture_output=True, text=True, check=True,
            ).stdout
        )  # fmt: skip
    finally:
        server.stop()
    return {
        "stripped_mb": stripped.stat().st_size / MIB,
        "needed": re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic),
        **python,
    }


FIRST_CALL = """
import json, statistics, sys, time
begun = time.perf_counter()
import baton
imported = time.perf_counter()
connection = baton.Connection(sys.argv[1])
times = []
for _ in range(50):
    at = time.perf_counter()
    connection.acquire()
    times.append((time.perf_counter() - at) * 1000)
    connection.release()
print(json.dumps({"python_import_ms": (imported - begun) * 1000,
                  "python_first_call_ms": times[0],
                  "python_first_call_adds_ms": times[0] - statistics.median(times)}))
"""
