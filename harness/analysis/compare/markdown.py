"""A comparison as Markdown for a pull request, never longer than GitHub takes."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator

from harness.analysis.compare.estimate import Estimate
from harness.analysis.compare.runs import WORDS, Change, Comparison, NotComparable, Word
from harness.records.stack_name import BY_MEMBERS, StackNames

BAD: tuple[Word, ...] = ("introduced", "lost")
LIMIT_BYTES = 65_000
LONGEST = 300
"""Characters of a reason: an exception's text may be of any length."""
HEADINGS = {
    "introduced": "Failures introduced",
    "fixed": "Failures fixed",
    "lost": "Lost: judged in BASE, not in HEAD",
    "added": "Added: judged in HEAD alone",
    "not comparable": "Not comparable",
    "held": "Right in both, timed in neither",
}
TABLE = "| verdict | case | phase | HEAD over BASE | 99 % interval | BASE | HEAD | over the reference | detectable |"
RULE = "|---|---|---|---|---|---|---|---|---|"


def render(found: Comparison, base: str, head: str, everything: bool = False, names: StackNames = BY_MEMBERS) -> str:
    """Under 65 kB. Speed-ups above 1 mean that HEAD is faster; `same` rows are counted, or shown with `everything`.

    The largest effects come first; what does not fit is counted and left out.
    """
    lines = list(_lines(found, cell(base), cell(head), everything, names))
    kept: list[str] = []
    room = LIMIT_BYTES - 200
    for number, line in enumerate(lines):
        room -= len(line.encode()) + 1
        if room < 0:
            kept.append(f"\n{len(lines) - number} more lines were left out: they would not fit in a comment.")
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def cell(text: str) -> str:
    """Text that can neither leave its table cell nor become markup."""
    line = " ".join(text.split())
    short = line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
    return re.sub(r"([\\`*_\[\]|~@#])", r"\\\1", html.escape(short, quote=False))


def _lines(found: Comparison, base: str, head: str, everything: bool, names: StackNames) -> Iterator[str]:
    yield f"### {head} against {base}"
    yield ""
    yield _summary(found)
    shown = [change for change in found.changes if everything or change.estimate.verdict != "same"]
    bad = [word for word in BAD if found.of(word)]
    for word in bad:
        yield from _apart(HEADINGS[word], found.of(word), names)
    if shown:
        yield from ("", TABLE, RULE)
        yield from (_row(change, names) for change in shown)
        yield from _reasons(shown, names)
    for word in WORDS:
        if word not in bad and found.of(word) and (everything or word != "held"):
            yield from _apart(HEADINGS[word], found.of(word), names)
    told = [change.label for change in shown]
    told += [item.label for item in found.apart if everything or item.word != "held"]
    if legend := names.legend(told):
        yield ""
    for named in legend:
        yield f"- {cell(named.name)} of {cell(named.model)} is {cell(named.members)}"


def _summary(found: Comparison) -> str:
    verdicts = [change.estimate.verdict for change in found.changes]
    speeds = [f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts)]
    ends = [f"{len(found.of(word))} {word}" for word in WORDS if found.of(word)]
    return f"{', '.join([*speeds, *ends]) or 'nothing in common'}."


def _row(change: Change, names: StackNames) -> str:
    found = change.estimate
    detectable = f"{found.minimum_detectable_effect:.1%}" if math.isfinite(found.minimum_detectable_effect) else "-"
    cells = (
        f"**{found.verdict}**" if found.verdict in ("faster", "slower") else found.verdict,
        cell(names.label(change.label)),
        change.phase,
        f"{found.speedup:.3f}x" if found.n else "-",
        _interval(found),
        f"{change.base_ms:.4g} ms",
        f"{change.head_ms:.4g} ms",
        f"{_times(change.base_speedup)} to {_times(change.head_speedup)}",
        detectable,
    )
    return f"| {' | '.join(cells)} |"


def _times(speedup: float | None) -> str:
    return f"{speedup:.3g}x" if speedup else "-"


def _interval(found: Estimate) -> str:
    return f"{found.low:.3f} to {found.high:.3f}" if found.low > 0 and math.isfinite(found.high) else "none"


def _reasons(shown: list[Change], names: StackNames) -> Iterator[str]:
    reasons = [(change, "; ".join(change.estimate.reasons)) for change in shown if change.estimate.reasons]
    if reasons:
        yield ""
    for change, why in reasons:
        yield f"- {cell(names.label(change.label))}, {change.phase}: {change.estimate.verdict}: {cell(why)}"


def _apart(heading: str, items: tuple[NotComparable, ...], names: StackNames) -> Iterator[str]:
    yield from ("", f"#### {heading} ({len(items)})", "")
    for item in items:
        yield f"- {cell(names.label(item.label))}: {cell(item.reason)}"
