"""The goals of the project, and what was measured of each: medians of ratios within a round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from loads import Results, fairness, p50, p99, rate


@dataclass
class Goal:
    text: str
    target: str
    measured: str
    is_met: bool | None  # None: not measured


def goals(results: Results, clusters: Results, single: dict) -> list[Goal]:
    return [
        *of_cycle(results), *of_contention(results), *of_requests(results),
        *of_cluster(clusters, single.get("failover", {})), *of_single(single),
    ]  # fmt: skip


def of_cycle(results: Results) -> list[Goal]:
    one = Values(results, 1)
    trips = one.least("three bare trips (1 thread)", "three bare trips (4 threads)", p50)
    bare = one.least_tail("three bare trips (1 thread)", "three bare trips (4 threads)")
    os_p50, os_p99 = one("baton os", p50), one("baton os", p99)
    sync, disk = one("baton sync", p50), one("write + fdatasync", p50)
    allowed = [1.15 * t + 1.25 * d for t, d in zip(trips, disk)]
    tail = [(p - b) / m for p, b, m in zip(os_p99, bare, os_p50)]
    return [
        at_most("cycle, 1 client, os: p50 / three bare round trips", ratio(os_p50, trips), 1.15),
        at_most("cycle, 1 client, os: p50 / memcached's", ratio(os_p50, one("memcached", p50)), 1),
        at_most("cycle, 1 client, sync: p50 / (1.15 × trips + 1.25 × one sync)",
                ratio(sync, allowed), 1),
        at_most("cycle, 1 client, sync: p50 / PostgreSQL's",
                ratio(sync, one("PostgreSQL, synchronous_commit on", p50)), 0.7),
        at_most("cycle, 1 client, os: (p99 − the echo's excess of p99 over p50) / p50", tail, 3),
    ]  # fmt: skip


def of_contention(results: Results) -> list[Goal]:
    many = Values(results, 16)
    os_rate, sync_rate = many("baton os", rate), many("baton sync", rate)
    return [
        at_least("16 clients, one lock, os: cycles/s", os_rate, 15_000, "{:,.0f}"),
        at_least("16 clients, one lock, os: / Redis's queue",
                 ratio(os_rate, many("Redis", rate)), 2),
        at_least("16 clients, one lock, os: fewest cycles of a client / mean",
                 many("baton os", fairness), 0.9),
        at_least("16 clients, one lock: sync / os", ratio(sync_rate, os_rate), 0.5),
        at_least("16 clients, one lock, sync: / PostgreSQL's",
                 ratio(sync_rate, many("PostgreSQL, synchronous_commit on", rate)), 3),
    ]  # fmt: skip


def of_requests(results: Results) -> list[Goal]:
    found = []
    for clients in (16, 64):
        values = Values(results, clients)
        echo = values.most("bare trip (1 thread)", "bare trip (4 threads)", rate)
        found.append(at_least(f"requests/s, {clients} clients / the echo server's",
                              ratio(values("baton requests", rate), echo), 0.85))  # fmt: skip
    one = Values(results, 1)
    window = one.least("1 MiB window (1 thread)", "1 MiB window (4 threads)", p50)
    append = one("baton 1 MiB", lambda result: result["latency_us"]["append"]["p50"])
    found.append(at_least("1 MiB append: rate / plain acknowledged windows",
                          ratio(window, append), 0.5))  # fmt: skip
    return found


def of_cluster(clusters: Results, failover: dict) -> list[Goal]:
    one, many = Values(clusters, 1), Values(clusters, 64)
    trips = one.least("bare trip (1 thread)", "bare trip (4 threads)", p50)
    parts = zip(trips, one("bare TCP trip", p50), one("write + fdatasync", p50))
    allowed = [3 * sum(part) for part in parts]
    cycle = one("baton, 3 servers", p50)
    # Acquire, append and release are one command each, as are opening and closing a session.
    sections = many("baton, 3 servers", lambda result: 3 * rate(result))
    sessions = many("baton, 3 servers, sessions", lambda result: 2 * rate(result))
    ours, etcd = failover.get("baton_ms", []), failover.get("etcd_ms", [])
    kills = len(ours)
    return [
        at_most("3 servers, 1 client: p50 / 3 × (trip + peer trip + sync)",
                ratio(cycle, allowed), 1),
        at_least("3 servers, 1 client: etcd's p50 / p50",
                 ratio(one("etcd, 3 members", p50), cycle), 4),
        at_least("3 servers, 64 clients, sessions: replicated requests/s", sessions, 20_000,
                 "{:,.0f}"),
        at_least("3 servers, 64 clients, one lock: replicated requests/s", sections, 20_000,
                 "{:,.0f}"),
        at_most(f"leader killed, median of {kills}: ms", ours, 500, "{:.0f}"),
        at_most(f"leader killed, worst of {kills}: ms", [max(ours)] if ours else [], 1_000,
                "{:.0f}"),
        at_least("leader killed: etcd's time / time", ratio(etcd, ours), 3),
    ]  # fmt: skip


def of_single(single: dict) -> list[Goal]:
    def of(part: str, *path: str) -> list[float]:
        value = single.get(part)
        for name in path:
            value = value and value.get(name)
        return [] if value is None else [value]

    many = single.get("crowd", {}).get("sessions", 100_000)
    needed = set(single.get("library", {}).get("needed", []))
    allowed = {"libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2",
               "ld-linux-aarch64.so.1"}  # fmt: skip
    return [
        at_most(f"{many:,} waiting: server MB", of("crowd", "waiting_mb"), 100, "{:.0f}"),
        at_least(f"{many:,} waiting: hand-over rate / with 16",
                 of("crowd", "handover_share"), 0.8),
        at_most(f"{many:,} idle sessions: server MB", of("crowd", "idle_mb"), 100, "{:.0f}"),
        at_most("idle server: MB", of("idle", "resident_mb"), 10, "{:.1f}"),
        at_most("idle server: wake-ups a minute", of("idle", "wake_ups_per_minute"), 5, "{:.0f}"),
        at_most("start on an empty directory: ms", of("start", "empty_ms"), 50, "{:.0f}"),
        at_least("recovery, large sections: MB of log/s",
                 of("recovery", "large", "mb_per_second"), 300, "{:.0f}"),
        at_least("recovery, small sections: MB of log/s",
                 of("recovery", "small", "mb_per_second"), 300, "{:.0f}"),
        at_most("libbaton.so stripped: MB", of("library", "stripped_mb"), 1),
        Goal("libbaton.so depends on", "libc, libgcc_s, libm", ", ".join(sorted(needed)) or "–",
             needed <= allowed if needed else None),
        at_most("first call from Python adds: ms",
                of("library", "python_first_call_adds_ms"), 1),
    ]  # fmt: skip


class Values:
    """Values by name for one number of clients, one a round."""

    def __init__(self, results: Results, clients: int):
        self.results, self.clients = results, clients

    def __call__(self, name: str, value) -> list[float]:
        return self.results.each(name, self.clients, value)

    def least(self, first: str, second: str, value) -> list[float]:
        return self.better(first, second, value, min)

    def most(self, first: str, second: str, value) -> list[float]:
        return self.better(first, second, value, max)

    def least_tail(self, first: str, second: str) -> list[float]:
        """How far the slowest of a hundred is behind the middle."""
        return self.better(first, second, lambda result: p99(result) - p50(result), min)

    def better(self, first: str, second: str, value, choose) -> list[float]:
        """The variant whose median is better, in all rounds: never the better of each round."""
        pair = [found for found in (self(first, value), self(second, value)) if found]
        return choose(pair, key=statistics.median) if pair else []


def ratio(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below) if b]


def at_most(text: str, values: list[float], limit: float, form: str = "{:.2f}") -> Goal:
    return judged(text, values, f"≤ {limit:,}", lambda value: value <= limit, form)


def at_least(text: str, values: list[float], limit: float, form: str = "{:.2f}") -> Goal:
    return judged(text, values, f"≥ {limit:,}", lambda value: value >= limit, form)


def judged(text: str, values: list[float], target: str, is_met, form: str) -> Goal:
    if not values:
        return Goal(text, target, "–", None)
    middle = statistics.median(values)
    shown = form.format(middle)
    if len(values) > 1:
        shown += f" ({form.format(min(values))}–{form.format(max(values))})"
    return Goal(text, target, shown, is_met(middle))
