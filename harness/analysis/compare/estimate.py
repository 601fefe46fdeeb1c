"""The speed-up of one thing over another, with its interval and its verdict: pure functions of paired samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.analysis import stats
from harness.analysis.compare.agreement import dissent, standard_error
from harness.analysis.compare.verdict import Verdict, decided


@dataclass(frozen=True)
class Estimate:
    """Speed-up of the candidate over another arm: other time over candidate time, paired by block."""

    speedup: float
    low: float
    high: float
    """99 % interval, or one of the confidence asked for; 0 and infinity when there are too few blocks for one."""
    n: int
    minimum_detectable_effect: float
    """The smallest relative change that this n and spread would have called, e.g. 0.012."""
    verdict: Verdict
    reasons: tuple[str, ...] = ()


def of_pairs(log_ratios: Sequence[float], margin: float, confidence: float = stats.CONFIDENCE) -> Estimate:
    """Judge log(other time / candidate time), one value per block in time order.

    `margin` is relative (0.01 is 1 %) and symmetric in the logarithm: `faster` and `slower` need the whole interval
    beyond it, `same` the whole interval inside it.
    """
    if not log_ratios:
        return Estimate(math.nan, 0.0, math.inf, 0, math.inf, "inconclusive", ("no pair of samples was kept",))
    interval = stats.location(log_ratios, confidence)
    few = f"{interval.n} pairs are too few for a 99 % interval, which needs {stats.FEWEST}"
    return replace(of_interval(interval, margin), reasons=(few,) if interval.n < stats.FEWEST else ())


def across_processes(log_ratios: Mapping[int, Sequence[float]], margin: float) -> Estimate:
    """Judge the pairs of all processes together, as `of_pairs` does.

    A verdict that three or more processes do not bear out one by one is `inconclusive`, and their spread counts in the
    minimum detectable effect.
    """
    found = of_pairs([ratio for pairs in log_ratios.values() for ratio in pairs], margin)
    processes = [stats.location(pairs) for pairs in log_ratios.values()]
    spread = standard_error(processes)
    if spread and math.isfinite(found.minimum_detectable_effect):
        half_width = math.log(found.high / found.low) / 2
        shift = stats.detectable_shift(half_width, math.log1p(margin), spread)
        found = replace(found, minimum_detectable_effect=math.expm1(shift))
    reasons = dissent(found.verdict, processes, margin)
    return replace(found, verdict="inconclusive", reasons=(*found.reasons, *reasons)) if reasons else found


def of_interval(interval: stats.Interval, margin: float) -> Estimate:
    """The verdict on an interval of a log ratio, as `of_pairs` gives it."""
    edge = math.log1p(margin)
    return Estimate(
        speedup=math.exp(interval.center),
        low=math.exp(interval.low),
        high=math.exp(interval.high),
        n=interval.n,
        minimum_detectable_effect=math.expm1(
            stats.detectable_shift(interval.half_width, edge, confidence=interval.confidence)
        ),
        verdict=decided(interval.low, interval.high, edge),
    )


def allowing(found: Estimate, controls: Sequence[Estimate | None], margin: float) -> Estimate:
    """The estimate, its verdict judged again where an A/A pair is undecided: what the instrument may have got wrong,
    by the far end of that pair's interval, is taken off the found one at both ends. The interval itself is left as it
    was measured. `controls` that are `same` take nothing, a missing one leaves nothing."""
    if any(control is None for control in controls):
        return replace(found, verdict="inconclusive", reasons=(*found.reasons, "no A/A pair was timed"))
    apart = sum(_far_end(control) for control in controls if control is not None and control.verdict != "same")
    if not apart or found.verdict == "invalid":
        return found
    verdict: Verdict = found.verdict
    if verdict != "inconclusive":
        edge = math.log1p(margin)
        low, high = (math.log(end) if 0 < end < math.inf else end for end in (found.low, found.high))
        verdict = decided(low - apart, high + apart, edge)
    off = f"is undecided: it may be off by up to {math.expm1(apart):.1%}, which the verdict allows for"
    doubt = f"the A/A pair {off if math.isfinite(apart) else 'has too few samples for an interval'}"
    return replace(found, verdict=verdict, reasons=(*found.reasons, doubt))


def _far_end(control: Estimate) -> float:
    if not 0 < control.low <= control.high < math.inf:
        return math.inf
    return max(abs(math.log(control.low)), abs(math.log(control.high)))
