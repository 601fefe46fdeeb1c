"""Joules of one call of an arm, from the GPU's own energy counter.

The counter moves in steps of some tens of milliseconds, longer than most samples, so a difference around each sample
would hold the power of the arms before it. Each arm runs alone for seconds instead, off the clock of the blocks.
"""

from __future__ import annotations

from harness.timing.clock import Clock
from harness.timing.protocol import Agree, Timed, alone
from harness.timing.telemetry import Telemetry

LEAD_IN_S = 0.3
"""Runs before the first reading, which then holds this arm's power and not that of the arm before."""
STINT_S = 2.0
"""Between the readings: a counter step of 0.1 s is 5 % of it."""


def joules_per_call(arm: Timed, clock: Clock, telemetry: Telemetry, agree: Agree = alone) -> float | None:
    """Energy of the whole GPU, its idle share included, over one call of `arm`; None where nothing counts energy.

    What `reset` costs between runs is in it. Where ranks share the work, `agree` makes them stop together.
    """
    if telemetry.energy_j() is None:
        return None
    _repeat(arm, clock, LEAD_IN_S, agree)
    before = telemetry.energy_j()
    runs = _repeat(arm, clock, STINT_S, agree)
    after = telemetry.energy_j()
    if before is None or after is None:
        return None
    return (after - before) / (runs * arm.calls)


def _repeat(arm: Timed, clock: Clock, least_s: float, agree: Agree) -> int:
    """Run until `least_s` are over; how often."""
    runs = 0
    end_s = clock.now_s() + least_s
    while agree(runs == 0 or clock.now_s() < end_s):
        arm.reset()
        clock.measure(arm.run)
        runs += 1
    return runs
