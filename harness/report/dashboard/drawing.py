"""Charts of many small pages as SVG text: a hundredth of the time that a general chart library takes for one.

Colors are classes, which the style sheet gives a light and a dark value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup, escape

from harness.report.dashboard.roofline_page import Roof
from harness.report.dashboard.trend_chart import Trend

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 60, 34
STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
FINE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def trend(found: Trend) -> Markup:
    """Speeds with their 99 % intervals on a logarithmic axis, the oldest left.

    An interval that would crush the others is cut at the edge and dashed.
    """
    low, high = _reach(found)
    last = max(len(found.dots) - 1, 1)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at + 0.5) / (last + 1)

    def y(speed: float) -> float:
        share = (math.log(speed) - math.log(low)) / (math.log(high) - math.log(low))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [*_grid(low, high, y, found.unit)]
    bottom = HEIGHT - BOTTOM
    for mark in found.epochs:
        parts.append(_line(x(mark.at - 0.5), TOP, x(mark.at - 0.5), bottom, "machine"))
        parts.append(_text(x(mark.at - 0.5) + 4, TOP - 2, mark.text, "faint"))
    for span in found.levels:
        parts.append(_line(x(span.first - 0.4), y(span.speed), x(span.last + 0.4), y(span.speed), "level"))
    for mark in found.changes:
        parts.append(_line(x(mark.at - 0.5), TOP - 8, x(mark.at - 0.5), bottom, "change"))
        parts.append(_text(x(mark.at - 0.5), TOP - 14, mark.text, "ink", "middle"))
    for mark in found.accepted:
        at = x(mark.at)
        parts.append(f'<path class="flag" d="M{at:.1f} {bottom}V{TOP - 44}h12l-4 5 4 5h-12"/>')
        parts.append(_text(at + 16, TOP - 34, mark.text.split(":")[0], "ink"))
    for at, dot in enumerate(found.dots):
        parts.append(f"<g><title>{escape(dot.text)}</title>")
        if dot.low is not None and dot.high is not None:
            kind = "interval" if low <= dot.low and dot.high <= high else "interval cut"
            parts.append(_line(x(at), y(max(dot.low, low)), x(at), y(min(dot.high, high)), kind))
        parts.append(_diamond(x(at), y(dot.speed)) if dot.doubtful else _circle(x(at), y(dot.speed)))
        parts.append("</g>")
    days = [dot.day for dot in found.dots]
    parts.append(_text(LEFT, HEIGHT - 10, days[0], "faint"))
    if len(days) > 1:
        parts.append(_text(WIDTH - RIGHT, HEIGHT - 10, days[-1], "faint", "end"))
    return _svg(WIDTH, HEIGHT, parts)


def spark(ratios: Sequence[float]) -> Markup:
    """A line without axes, 96 by 22; the last value is a dot."""
    logs = [math.log(ratio) for ratio in ratios]
    low, span = min(logs), max(max(logs) - min(logs), 0.02)
    last = max(len(logs) - 1, 1)
    points = [(3 + 90 * at / last, 18 - 14 * (value - low) / span) for at, value in enumerate(logs)]
    path = " ".join(f"{x:.0f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return _svg(
        96,
        22,
        [f'<polyline class="spark" points="{path}"/>', f'<circle class="dot" cx="{x:.0f}" cy="{y:.1f}" r="2.5"/>'],
    )


def roofline(roof: Roof) -> Markup:
    """Flops per second against flops per byte, both logarithmic, under the two ceilings measured in the same run."""
    height = 420
    left, right, top, bottom = 90, WIDTH - 24, 24, height - 46
    low_x, high_x, low_y, high_y = roof.reach()

    def x(intensity: float) -> float:
        return left + (right - left) * math.log(intensity / low_x) / math.log(high_x / low_x)

    def y(rate: float) -> float:
        return bottom - (bottom - top) * math.log(rate / low_y) / math.log(high_y / low_y)

    parts: list[str] = []
    for power in range(math.ceil(math.log10(low_x)), math.floor(math.log10(high_x)) + 1):
        parts.append(_line(x(10.0**power), top, x(10.0**power), bottom, "grid"))
        parts.append(_text(x(10.0**power), bottom + 18, f"{10.0**power:g}", "faint", "middle"))
    for power in range(math.ceil(math.log10(low_y)), math.floor(math.log10(high_y)) + 1):
        parts.append(_line(left, y(10.0**power), right, y(10.0**power), "grid"))
        parts.append(_text(left - 8, y(10.0**power) + 4, roof.rate(10.0**power), "faint", "end"))
    ridge = roof.matmul_flops_per_s / roof.read_bytes_per_s
    start = max(low_x, low_y / roof.read_bytes_per_s)
    parts.append(_line(x(start), y(start * roof.read_bytes_per_s), x(ridge), y(roof.matmul_flops_per_s), "roof"))
    parts.append(_line(x(ridge), y(roof.matmul_flops_per_s), right, y(roof.matmul_flops_per_s), "roof"))
    parts.append(_text(right, y(roof.matmul_flops_per_s) - 8, roof.compute_label(), "ink", "end"))
    parts.append(_text(x(start) + 4, top + 4, roof.memory_label(), "ink"))
    for spot in roof.spots:
        at = x(spot.intensity), y(spot.flops_per_s)
        parts.append(f"<g><title>{escape(spot.text)}</title>")
        parts.append(_circle(*at, radius=9) if spot.phase == "decode" else _diamond(*at, radius=10))
        parts.append(_text(at[0], at[1] + 4, str(spot.number), "number", "middle") + "</g>")
    parts.append(_text((left + right) / 2, height - 8, "flops per byte read or written", "faint", "middle"))
    return _svg(WIDTH, height, parts)


def _reach(found: Trend) -> tuple[float, float]:
    """Of the axis: every point, and the intervals as far as they do not crush the points."""
    speeds = [dot.speed for dot in found.dots]
    low, high = min(speeds), max(speeds)
    room = max(high / low, 1.1)
    lows = [dot.low for dot in found.dots if dot.low is not None and dot.low > low / room]
    highs = [dot.high for dot in found.dots if dot.high is not None and dot.high < high * room]
    low, high = min([low, *lows]), max([high, *highs])
    margin = max((high / low) ** 0.08, 1.004)
    return low / margin, high * margin


def _grid(low: float, high: float, y: Callable[[float], float], unit: str) -> Iterator[str]:
    for value in _ticks(low, high):
        yield _line(LEFT, y(value), WIDTH - RIGHT, y(value), "one" if value == 1 else "grid")
        yield _text(LEFT - 8, y(value) + 4, f"{value:g}{unit}", "faint", "end")


def _ticks(low: float, high: float) -> list[float]:
    step = next((step for step in FINE if (high - low) / step <= 6), None)
    if step is not None:
        return [round(step * at, 6) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in STEPS]
    inside = [round(value, 6) for value in every if low <= value <= high]
    return inside[:: max(1, len(inside) // 6)]


def _svg(width: int, height: int, parts: Sequence[str]) -> Markup:
    inside = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">{inside}</svg>')


def _line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _circle(x: float, y: float, radius: float = 3.5) -> str:
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _diamond(x: float, y: float, radius: float = 5) -> str:
    path = f"M{x - radius:.1f} {y:.1f}l{radius} {-radius}l{radius} {radius}l{-radius} {radius}z"
    return f'<path class="dot open" d="{path}"/>'
