"""Charts, declared in Altair and drawn to inline SVG. Imports Altair, which is slow.

Colors are names written as hex: the style sheet maps each to a light and a dark value, so one drawing serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import altair as alt
import vl_convert
from markupsafe import Markup

from harness.errors import HarnessError
from harness.report.ablation_view import StepMark
from harness.report.speed import IntervalMark, SampleMark

INK, FAINT, GRID = "#101010", "#707070", "#e0e0e0"
GOOD, BAD, OPEN, QUIET = "#0a7a4a", "#c03028", "#9a6a00", "#506070"
LOOKS = {
    "faster": (GOOD, "circle"),
    "slower": (BAD, "triangle-down"),
    "same": (QUIET, "square"),
    "inconclusive": (OPEN, "diamond"),
    "invalid": (BAD, "cross"),
}
ELEMENTS = frozenset({"svg", "g", "path", "text", "tspan", "rect", "line", "title", "defs", "clipPath"})
WIDTH, LABELS = 680, 290
"""Pixels of the plot, and of the names to the left of the speed chart."""
ROOM = 0.3
"""Of the logarithmic width: kept free on the right for the words beside the last point."""
FINEST = (0.8, 0.85, 0.9, 0.95, 0.98, 1, 1.02, 1.05, 1.1, 1.15, 1.2, 1.25)
FINE = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3)
COARSE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def speedups(marks: Sequence[IntervalMark]) -> Markup:
    """Speed-ups with their 99 % intervals on a logarithmic axis, a rule at 1 (no change), the verdict as a shape."""
    rows = [
        {
            "index": index,
            "title": mark.title,
            "note": mark.note,
            "ratio": mark.ratio,
            "low": mark.ratio if mark.low is None else mark.low,
            "high": mark.ratio if mark.high is None else mark.high,
            "verdict": mark.verdict,
            "text": mark.text,
        }
        for index, mark in enumerate(marks)
    ]
    low = min(1.0, *(mark.ratio if mark.low is None else mark.low for mark in marks))
    high = max(1.0, *(mark.ratio if mark.high is None else mark.high for mark in marks))
    start, end = low / (high / low) ** 0.05, high * max(1.02, (high / low) ** ROOM)
    scale = alt.Scale(type="log", domain=[start, end], nice=False)
    axis = alt.Axis(values=_ticks(start, end), labelExpr="datum.value + '×'")
    axis.title = "speed-up of the candidate (logarithmic)"
    verdicts = [verdict for verdict in LOOKS if any(mark.verdict == verdict for mark in marks)]
    color = alt.Color("verdict:N").scale(domain=verdicts, range=[LOOKS[name][0] for name in verdicts]).legend(None)
    shape = alt.Shape("verdict:N").scale(domain=verdicts, range=[LOOKS[name][1] for name in verdicts]).legend(None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("index:O", axis=None))
    label = {"align": "left", "x": -LABELS, "limit": LABELS - 50, "fontSize": 12}
    layers = alt.layer(
        alt.Chart(alt.Data(values=[{"one": 1}]))
        .mark_rule(color=INK, strokeDash=[4, 3])
        .encode(x=alt.X("one:Q", scale=scale)),
        base.mark_rule(strokeWidth=3).encode(x=alt.X("low:Q", scale=scale), x2="high:Q", color=color),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=alt.X("ratio:Q", scale=scale, axis=axis), color=color, shape=shape
        ),
        base.mark_text(align="left", dx=10, color=INK, fontSize=12).encode(
            x=alt.X("high:Q", scale=scale), text="text:N"
        ),
        base.transform_filter("datum.note == ''").mark_text(color=INK, **label).encode(text="title:N"),
        base.transform_filter("datum.note != ''").mark_text(color=INK, dy=-7, **label).encode(text="title:N"),
        base.transform_filter("datum.note != ''").mark_text(color=FAINT, dy=8, **label).encode(text="note:N"),
    )
    return _svg(layers.properties(width=WIDTH, height=alt.Step(40)))


def waterfall(marks: Sequence[StepMark]) -> Markup:
    """How the speed-up over the reference grew, one bar a step from where the last one ended, on a logarithmic axis."""
    rows = [
        {
            "index": index,
            "title": mark.title,
            "before": mark.before,
            "after": mark.after,
            "verdict": mark.verdict or "start",
            "text": mark.text,
            "right": max(mark.before, mark.after),
        }
        for index, mark in enumerate(marks)
    ]
    low = min(1.0, *(min(mark.before, mark.after) for mark in marks))
    high = max(1.0, *(max(mark.before, mark.after) for mark in marks))
    start, end = low / max(1.01, (high / low) ** 0.05), high * max(1.1, (high / low) ** (1.5 * ROOM))
    scale = alt.Scale(type="log", domain=[start, end], nice=False)
    axis = alt.Axis(values=_ticks(start, end), labelExpr="datum.value + '×'")
    axis.title = "speed-up over the reference (logarithmic)"
    looks = {name: color for name, (color, _) in LOOKS.items()} | {"start": QUIET}
    color = alt.Color("verdict:N").scale(domain=list(looks), range=list(looks.values())).legend(None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("index:O", axis=None))
    layers = alt.layer(
        alt.Chart(alt.Data(values=[{"one": 1}]))
        .mark_rule(color=INK, strokeDash=[4, 3])
        .encode(x=alt.X("one:Q", scale=scale, axis=axis)),
        base.mark_bar(height=14).encode(x=alt.X("before:Q", scale=scale), x2="after:Q", color=color),
        base.mark_tick(thickness=2, size=22).encode(x=alt.X("after:Q", scale=scale), color=color),
        base.mark_text(align="left", dx=8, color=INK, fontSize=12).encode(
            x=alt.X("right:Q", scale=scale), text="text:N"
        ),
        base.mark_text(align="left", x=-LABELS, limit=LABELS - 50, color=INK, fontSize=12).encode(text="title:N"),
    )
    return _svg(layers.properties(width=WIDTH, height=alt.Step(28)))


def _ticks(start: float, end: float) -> list[float]:
    width = end / start
    ticks = COARSE if width > 4 else FINE if width > 1.3 else FINEST
    return [tick for tick in ticks if start <= tick <= end]


def samples(marks: Sequence[SampleMark]) -> Markup:
    """Every sample in the order it was taken, one lane per arm with a scale of its own; dropped blocks as crosses."""
    rows = [
        {
            "arm": mark.arm,
            "process": mark.process,
            "position": mark.position,
            "ms": mark.milliseconds,
            "dropped": mark.dropped,
        }
        for mark in marks
    ]
    x = alt.X(
        "position:Q",
        scale=alt.Scale(nice=False),
        axis=alt.Axis(title="block, all processes in a row", grid=False, tickMinStep=1),
    )
    y = alt.Y("ms:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=None, tickCount=3, grid=True))
    base = alt.Chart().encode(x=x, y=y)
    lanes = alt.layer(
        base.mark_line(strokeWidth=1.3, color=QUIET).encode(detail="process:N"),
        base.transform_filter("datum.dropped").mark_point(shape="cross", filled=True, size=70, color=BAD, angle=45),
        data=alt.Data(values=rows),
    ).properties(width=WIDTH + LABELS, height=54)
    header = alt.Header(title=None, labelOrient="top", labelAnchor="start", labelFontSize=12, labelPadding=3)
    order = list(dict.fromkeys(mark.arm for mark in marks))
    return _svg(lanes.facet(row=alt.Row("arm:N", sort=order, header=header), spacing=6).resolve_scale(y="independent"))


def _svg(chart: Any) -> Markup:
    """Draw without any network, and let through only shapes and text."""
    axis: dict[str, str | int] = {
        "labelColor": FAINT,
        "titleColor": FAINT,
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
    }
    axis |= {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 10}
    styled = chart.configure(
        axis=axis,
        background="transparent",
        font="sans-serif",
        header={"labelColor": INK},
        padding=4,
        view={"stroke": None},
    )
    with alt.data_transformers.enable("default", max_rows=None):
        spec = styled.to_dict()
    return Markup(inert(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])))


def inert(svg: str) -> str:
    """The drawing itself, if it holds nothing but shapes and text; HarnessError otherwise."""
    for element in ElementTree.fromstring(svg).iter():
        name = element.tag.rpartition("}")[2]
        active = [key for key in element.attrib if key.lower().startswith("on") or key.rpartition("}")[2] == "href"]
        if name not in ELEMENTS or active:
            raise HarnessError(
                f"a chart holds <{name}> {' '.join(active)}: it could run or load something in the report"
            )
    return svg
