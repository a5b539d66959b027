"""Tables, JSON and plots of what was measured."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import statistics

import svg
from goals import Goal
from loads import Results, fairness, p50, p99, rate

BEGIN, END = "<!-- measured: make bench-record writes this -->", "<!-- end of measured -->"


def systems_table(results: Results, clients: tuple[int, ...]) -> str:
    head = ["system"]
    for number in clients:
        head += [f"{number}: p50 µs", f"{number}: p99 µs", f"{number}: /s", f"{number}: fewest/mean"]
    rows = []
    for name in results.rounds:
        row = [name]
        for number in clients:
            for value, form in ((p50, "{:,.1f}"), (p99, "{:,.1f}"), (rate, "{:,.0f}"),
                                (fairness, "{:.0%}")):  # fmt: skip
                found = results.median(name, number, value)
                row.append("–" if found is None else form.format(found))
        if any(cell != "–" for cell in row[1:]):
            rows.append(row)
    return markdown(head, rows)


def goals_table(goals: list[Goal]) -> str:
    verdict = {True: "yes", False: "**no**", None: "not measured"}
    rows = [[goal.text, goal.target, goal.measured, verdict[goal.is_met]] for goal in goals]
    return markdown(["goal", "target", "measured: median (range)", "met"], rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (w + 2) for w in widths) + "|",
                      *(line(row) for row in rows)])  # fmt: skip


def conditions(rounds: int, seconds: float, load_before: float) -> str:
    model = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return (
        f"{os.cpu_count()} × {model}, Linux {platform.release()}; {rounds} rounds of {seconds:g} s "
        f"each; load average before: {load_before:.2f}."
    )


def write_files(out: pathlib.Path, document: dict, results: Results, by_clients: Results) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    latency = {name: percentiles(results, name) for name in results.rounds if name_is_cycle(name)}
    latency = {name: line for name, line in latency.items() if line}
    if latency:
        chart = svg.chart(
            "A cycle of one client: acquire, append 32 bytes, release", "percentile", "µs",
            latency, log_y=True,
        )  # fmt: skip
        (out / "latency.svg").write_text(chart)
    throughput = {
        name: [(float(n), statistics.median(map(rate, found))) for n, found in sorted(rounds.items())]
        for name, rounds in by_clients.rounds.items()
    }
    if throughput:
        chart = svg.chart(
            "Cycles a second on one lock", "clients", "cycles/s", throughput, log_x=True, log_y=True
        )
        (out / "throughput.svg").write_text(chart)


def name_is_cycle(name: str) -> bool:
    return not any(word in name for word in ("MiB", "bare trip ", "requests", "fdatasync"))


def percentiles(results: Results, name: str) -> list[tuple[float, float]]:
    """The median over the rounds of each percentile."""
    found = results.each(name, 1, lambda result: result["percentiles_us"])
    return [
        (float(at + 1), statistics.median(line[at] for line in found))
        for at in range(len(found[0]) - 1 if found else 0)
    ]


def record(document: pathlib.Path, text: str) -> None:
    """Puts the tables between the marks of docs/PERFORMANCE.md."""
    old = document.read_text()
    before, rest = old.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
