"""Is a build faster where it has seen the very inputs before? Then it remembers answers, and may have done so anywhere
that the timed inputs do not look."""

from __future__ import annotations

from collections.abc import Callable

from harness.timing.clock import Clock
from harness.timing.protocol import Timed
from harness.timing.recheck import WrongAfterwards

PAIRS = 5
FASTER = 2.0
"""Times as fast, the slowest of the second calls against the fastest of the first: noise does not part all of them, and
what the device's caches keep of a call is swept before every sample."""


def require_no_memory(arm: Timed, clock: Clock, begin: Callable[[], None]) -> None:
    """Give `arm` inputs that are new and then the same ones again, PAIRS times. Raises WrongAfterwards where every
    second call takes less than a half of every first one."""
    new_ms, again_ms = list[float](), list[float]()
    for _ in range(PAIRS):
        begin()
        for taken in (new_ms, again_ms):
            arm.reset()
            taken.append(clock.measure(arm.run).device_ms)
    ratio = min(new_ms) / max(again_ms)
    if ratio > FASTER:
        raise WrongAfterwards(
            f"{arm.name}: asked again what it was asked before, it answers {ratio:.3g} times as fast: it remembers "
            "instead of computing, and no time of it is the model's"
        )
