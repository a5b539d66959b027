"""Line charts as SVG, by hand: two axes, a legend, logarithmic where told."""

from __future__ import annotations

import html
import math

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 230, 40, 50
COLOURS = (
    "#0b6e4f", "#3fb58a", "#1f4e9c", "#7aa6e0", "#b3261e", "#e58e73", "#6b4fa1", "#b79be0",
    "#8a6d1b", "#d9b44a", "#444444", "#999999",
)  # fmt: skip

Points = list[tuple[float, float]]


class Axis:
    """Values to places, and where the ticks are."""

    def __init__(self, values: list[float], begin: float, end: float, is_log: bool):
        positive = [value for value in values if value > 0] or [1.0]
        self.is_log, self.begin, self.end = is_log, begin, end
        self.low = min(positive) if is_log else 0.0
        self.high = max(positive)
        if self.high <= self.low:
            self.high = self.low * 2 or 1.0

    def place(self, value: float) -> float:
        if self.is_log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        if not self.is_log:
            step = 10 ** math.floor(math.log10(self.high))
            step = next(s for s in (step / 5, step / 2, step, 2 * step) if self.high / s <= 8)
            return [step * n for n in range(int(self.high / step) + 1)]
        ticks, power = [], 10 ** math.floor(math.log10(self.low))
        while power <= self.high:
            ticks += [n * power for n in (1, 2, 5) if self.low <= n * power <= self.high]
            power *= 10
        return ticks


def chart(
    title: str, x_label: str, y_label: str, lines: dict[str, Points],
    log_x: bool = False, log_y: bool = False,
) -> str:  # fmt: skip
    points = [point for line in lines.values() for point in line]
    x = Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, log_x)
    y = Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, size=15),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, anchor="middle"),
        text(14, TOP - 10, y_label),
    ]
    for tick in x.ticks():
        at = x.place(tick)
        parts.append(rule(at, TOP, at, HEIGHT - BOTTOM))
        parts.append(text(at, HEIGHT - BOTTOM + 16, short(tick), anchor="middle"))
    for tick in y.ticks():
        at = y.place(tick)
        parts.append(rule(LEFT, at, WIDTH - RIGHT, at))
        parts.append(text(LEFT - 6, at + 4, short(tick), anchor="end"))
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x.place(a):.1f},{y.place(b):.1f}" for a, b in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = TOP + 18 * number
        legend = WIDTH - RIGHT + 14
        parts.append(
            f'<rect x="{legend}" y="{at}" width="14" height="4" fill="{colour}"/>'
            + text(legend + 20, at + 7, name)
        )
    return "\n".join([*parts, "</svg>", ""])


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{html.escape(words)}</text>"
    )


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#e3e3e3"/>'


def short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
