"""Numbers as text, decided once: HTML, Markdown and charts print what these functions return."""

from __future__ import annotations

import math
from collections.abc import Sequence

NONE = "–"
"""Printed where there is no number."""

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = ("", "k", "M", "G", "T", "P")
_UNREADABLE_USE = 1e6


def significant(value: float, digits: int = 3) -> str:
    """Fixed notation with this many significant digits, thousands separated; scientific below 1e-4."""
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    rounded = float(f"{value:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(places, 0)}f}"


def milliseconds(value: float) -> str:
    return f"{significant(value)} ms" if math.isfinite(value) else NONE


def seconds(value: float) -> str:
    """Below two minutes in seconds, else in whole minutes and seconds."""
    if value < 120:
        return f"{significant(value)} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def ratio(value: float) -> str:
    return f"{value:,.2f}×" if math.isfinite(value) else NONE


def interval(low: float, high: float) -> str:
    """Of a ratio, a third decimal where two would hide its width. An unbounded one holds no information and says so."""
    if low <= 0 or not math.isfinite(high):
        return "no interval"
    places = 2 if high - low >= 0.05 else 3
    return f"{low:,.{places}f}–{high:,.{places}f}×"


def percent(fraction: float) -> str:
    """Whole percents from 10 on, two significant digits below."""
    if not math.isfinite(fraction):
        return NONE
    points = 100 * fraction
    return f"{points:,.0f} %" if abs(points) >= 9.95 or points == 0 else f"{significant(points, 2)} %"


def use(fraction: float) -> str:
    """Share of a limit: percent, then multiples; a limit of 0 that was broken has no share."""
    if fraction >= _UNREADABLE_USE:
        return "none allowed"
    if fraction >= 10:
        return f"{significant(fraction, 2)}× the limit"
    if 1 < fraction < 1.005:
        return "just over 100 %"
    return percent(fraction)


def memory(count_bytes: int) -> str:
    """Binary units: 1 GiB is 2**30 bytes."""
    power = min(int(math.log2(count_bytes) // 10), len(_BINARY) - 1) if count_bytes >= 1 else 0
    return f"{significant(count_bytes / 1024**power)} {_BINARY[power]}"


def rate(per_second: float, unit: str) -> str:
    """Decimal units: 1 TB/s is 1e12 bytes per second. `unit` is `B/s` or `FLOP/s`."""
    power = min(int(math.log10(per_second) // 3), len(_DECIMAL) - 1) if per_second >= 1 else 0
    return f"{significant(per_second / 1000**power)} {_DECIMAL[power]}{unit}"


def span(values: Sequence[float], unit: str) -> str:
    """Smallest to largest, or one number where both print alike."""
    if not values:
        return NONE
    low, high = (f"{value:,.0f}" for value in (min(values), max(values)))
    return f"{low} {unit}" if low == high else f"{low}–{high} {unit}"


def number_of(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
