"""Load generators, and rounds in which everything takes its turn."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Callable

from procs import LOOPBACK, Server


@dataclass
class Load:
    """One row: a name, and how to run it for a number of clients."""

    name: str
    run: Callable[[int, float], dict]
    clients: tuple[int, ...] = (1, 16)


@dataclass
class Results:
    """What each load measured, by name and number of clients, one entry a round."""

    rounds: dict[str, dict[int, list[dict]]] = field(default_factory=dict)

    def add(self, name: str, clients: int, result: dict) -> None:
        self.rounds.setdefault(name, {}).setdefault(clients, []).append(result)

    def each(self, name: str, clients: int, value: Callable[[dict], float]) -> list[float]:
        return [value(result) for result in self.rounds.get(name, {}).get(clients, [])]

    def median(self, name: str, clients: int, value: Callable[[dict], float]) -> float | None:
        found = self.each(name, clients, value)
        return statistics.median(found) if found else None


def p50(result: dict) -> float:
    return result["latency_us"]["total"]["p50"]


def p99(result: dict) -> float:
    return result["latency_us"]["total"]["p99"]


def rate(result: dict) -> float:
    return result["per_second"]


def fairness(result: dict) -> float:
    return result["least_of_mean"]


def run_rounds(loads: list[Load], rounds: int, seconds: float, results: Results) -> None:
    """Every load once a round, so that whatever else the machine does hits all alike."""
    total = rounds * sum(len(load.clients) for load in loads)
    done = 0
    for number in range(rounds):
        # Forwards, then backwards: no load always runs after the same other one.
        for load in loads if number % 2 == 0 else reversed(loads):
            for clients in load.clients:
                done += 1
                tell(f"[{done}/{total}] {load.name}, {clients} clients")
                try:
                    results.add(load.name, clients, load.run(clients, seconds))
                except RuntimeError as error:
                    print(f"\nbench: {load.name}, {clients} clients: {error}", file=sys.stderr)
    tell("")


def tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def baton(paths, server: Server, *flags: str) -> Callable[[int, float], dict]:
    def run(clients: int, seconds: float) -> dict:
        return output([
            str(paths.release / "baton"), "bench", "--server", server.address, "--json",
            "--clients", str(clients), "--duration", f"{seconds * 1000:.0f}ms",
            "--warm-up", f"{warm_up(seconds) * 1000:.0f}ms", *flags,
        ])  # fmt: skip

    return run


def peer(paths, tool: str, port: int, work: str, *flags: str) -> Callable[[int, float], dict]:
    def run(clients: int, seconds: float) -> dict:
        return output([
            str(paths.tools / tool), "--host", LOOPBACK, "--port", str(port), "--work", work,
            "--clients", str(clients), "--seconds", str(seconds),
            "--warm-up", str(warm_up(seconds)), *flags,
        ])  # fmt: skip

    return run


def warm_up(seconds: float) -> float:
    return min(0.3, seconds / 3)


def output(command: list[str]) -> dict:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{command[0]} hangs") from error
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)
