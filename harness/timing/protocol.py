"""Interleaved blocks: every arm once in random order, until the interval of candidate over reference is narrow."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from harness.analysis import stats
from harness.errors import HarnessError
from harness.records.case import TimingSettings
from harness.records.record import CANDIDATE, CONTROL, WALL_DISAGREEMENT, Block, Phase, Series
from harness.timing.clock import Clock, Reading
from harness.timing.sampling import JUDGED_BLOCKS, Reservoir
from harness.timing.sentinel import sentinel
from harness.timing.settling import SETTLED, SETTLED_CLOCK, moved
from harness.timing.telemetry import State, Telemetry

WARM_UP_ROUNDS = 24
WARM_UP_SHARE = 0.25
"""Of the time limit."""

Progress = Callable[[int, float], None]
Agree = Callable[[bool], bool]
"""What one process decides -> what all that take part in the measured work do."""


def alone(decided: bool) -> bool:
    return decided


@dataclass(frozen=True)
class Timed:
    """One arm, ready to run: compiled, captured and judged right before.

    `run` performs `calls` calls (16 decode steps, one prefill), and a sample is its time over `calls`. `reset` makes
    ready what `run` is given in this round; it comes before every sample, off the clock. `keep` copies what `run` gave
    last to one of the places where it waits to be judged; off the clock, too.
    """

    name: str
    run: Callable[[], None]
    reset: Callable[[], None]
    calls: int
    keep: Callable[[int], None] = lambda _: None


@dataclass(frozen=True)
class Measured:
    """What one process measured in one phase."""

    series: tuple[Series, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


def measure(
    phase: Phase,
    arms: Sequence[Timed],
    begin: Callable[[], None],
    clock: Clock,
    settings: TimingSettings,
    process: int,
    telemetry: Telemetry,
    seed: int,
    progress: Progress | None = None,
    agree: Agree = alone,
) -> Measured:
    """Warm up, then take blocks until the 99 % interval of the candidate against the strongest other arm so far, the
    one that the verdict will be about, is as narrow as asked for.

    Stops at `settings.half_width` or after `limit_s` of this phase in this process, warm-up included, once `min_blocks`
    undisturbed ones are taken; at `max_blocks`; and after twice the limit whatever was taken. Never on significance.
    `begin` changes the inputs before every round of all arms. In JUDGED_BLOCKS blocks every arm's output is kept.
    `progress` is told (blocks done, half-width); where several processes do the work together, `agree` makes them stop
    together.
    Raises HarnessError when the arms hold no pair to judge or two share a name.
    """
    others = _opponents(arms)
    session = _Session(phase, arms, begin, clock, process, telemetry, f"{seed}/{process}/{phase}")
    end_s = clock.now_s() + settings.limit_s
    last_s = end_s + settings.limit_s
    notes = []
    with _heap_frozen():
        if not session.warm_up(clock.now_s() + WARM_UP_SHARE * settings.limit_s, agree):
            notes.append(f"unstable: block medians still moved by over {SETTLED:.1%} when the warm-up ended")
        half_width = math.inf
        while len(session.blocks) < settings.max_blocks:
            session.block()
            half_width = session.half_width(min(others, key=session.typical_ms))
            if progress:
                progress(len(session.blocks), half_width)
            enough = session.kept() >= settings.min_blocks
            if agree(enough and half_width <= settings.half_width):
                break
            if agree(clock.now_s() >= (end_s if enough else last_s)):
                notes.append(
                    f"stopped by the limit of {settings.limit_s:g} s after {len(session.blocks)} blocks, half-width "
                    f"{half_width:.2%} where {settings.half_width:.2%} was asked for"
                )
                break
    notes = [f"{phase}, process {process}: {note}" for note in (*notes, *session.notes())]
    return Measured(session.series(), tuple(session.blocks), tuple(notes))


class _Session:
    """The samples of one phase in one process as they accumulate."""

    def __init__(
        self,
        phase: Phase,
        arms: Sequence[Timed],
        begin: Callable[[], None],
        clock: Clock,
        process: int,
        telemetry: Telemetry,
        seed: str,
    ) -> None:
        self.phase: Phase = phase
        self.arms = arms
        self.begin = begin
        self.clock = clock
        self.process = process
        self.telemetry = telemetry
        self.order = random.Random(seed)
        self.judged = Reservoir(JUDGED_BLOCKS, random.Random(f"{seed}/judged"))
        self.sentinel = sentinel(clock.device)
        self.blocks: list[Block] = []
        self.readings: dict[str, list[Reading]] = {arm.name: [] for arm in arms}
        self.limits: list[str] = []
        self.settled = False

    def warm_up(self, end_s: float, agree: Agree) -> bool:
        """Rounds of every arm until candidate, device and SM clock settle; False when the rounds or the time ran out. A
        device that still warms up moves all arms, so the middle one tells; one that its host makes noisy never
        settles."""
        levels: dict[str, list[float]] = {arm.name: [] for arm in self.arms}
        clocks: list[float] = []
        while agree(len(clocks) < WARM_UP_ROUNDS and self.clock.now_s() < end_s):
            for name, reading in self._round().items():
                levels[name].append(math.log(reading.device_ms))
            clocks.append(math.log(self.telemetry.read().sm_clock_mhz or 1.0))
            by_arm = {name: moved(level) for name, level in levels.items()}
            still = max(by_arm[CANDIDATE], median(by_arm.values()))
            self.settled = agree(still < SETTLED and moved(clocks) < SETTLED_CLOCK)
            if self.settled:
                break
        return self.settled

    def block(self) -> None:
        sentinel_ms = self.clock.measure(self.sentinel).device_ms
        readings = self._round(self.judged.place())
        state = self.telemetry.read()
        self.blocks.append(self._as_block(sentinel_ms, readings, state))
        self.limits.extend(state.limits)
        for name, reading in readings.items():
            self.readings[name].append(reading)

    def half_width(self, other: str) -> float:
        """Of the candidate's log ratio to `other`, over the blocks that were not dropped; infinite when too few."""
        pairs = zip(self.blocks, self.samples_ms(CANDIDATE), self.samples_ms(other), strict=True)
        ratios = [math.log(theirs / ours) for block, ours, theirs in pairs if not block.dropped]
        return stats.location(ratios).half_width if ratios else math.inf

    def kept(self) -> int:
        return sum(not block.dropped for block in self.blocks)

    def typical_ms(self, name: str) -> float:
        return median(self.samples_ms(name))

    def samples_ms(self, name: str) -> list[float]:
        calls = next(arm.calls for arm in self.arms if arm.name == name)
        return [reading.device_ms / calls for reading in self.readings[name]]

    def series(self) -> tuple[Series, ...]:
        return tuple(
            Series(
                arm=arm.name,
                phase=self.phase,
                process=self.process,
                samples_ms=tuple(self.samples_ms(arm.name)),
                blocks=tuple(block.index for block in self.blocks),
            )
            for arm in self.arms
        )

    def notes(self) -> Iterator[str]:
        for name, readings in self.readings.items():
            typical = median(reading.device_ms for reading in readings)
            shortest = self.clock.shortest_ms
            if typical < shortest:
                yield f"{name}: a sample lasts {typical:.3g} ms, under the {shortest:g} ms that this clock needs"
            apart = median(reading.disagreement for reading in readings)
            if apart > WALL_DISAGREEMENT:
                yield f"{name}: device events and the wall clock differ by {apart:.0%}: work outside the timed stream?"
        for word in dict.fromkeys(self.limits):
            yield f"{word} in {self.limits.count(word)} of {len(self.blocks)} blocks"

    def _round(self, kept: int | None = None) -> dict[str, Reading]:
        """One sample of every arm on inputs that are new; each output goes to the place `kept`, where there is one."""
        readings = {}
        self.begin()
        for arm in self.order.sample(self.arms, len(self.arms)):
            arm.reset()
            readings[arm.name] = self.clock.measure(arm.run)
            if kept is not None:
                arm.keep(kept)
        return readings

    def _as_block(self, sentinel_ms: float, readings: dict[str, Reading], state: State) -> Block:
        return Block(
            process=self.process,
            index=len(self.blocks),
            phase=self.phase,
            sm_clock_mhz=state.sm_clock_mhz,
            temperature_c=state.temperature_c,
            power_w=state.power_w,
            throttle=state.throttle,
            foreign_processes=state.foreign_processes,
            sentinel_ms=sentinel_ms,
            wall_disagreement=max(reading.disagreement for reading in readings.values()),
            settled=self.settled,
        )


def _opponents(arms: Sequence[Timed]) -> list[str]:
    """The arms that are not the candidate; its own second copy only where there is nothing else."""
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names):
        raise HarnessError(f"two arms share a name in {names}: their samples could not be told apart")
    others = [name for name in names if name != CANDIDATE]
    if CANDIDATE not in names or not others:
        raise HarnessError(f"arms {names} hold no candidate with something to be paired with: no speed could be judged")
    return [name for name in others if name != CONTROL] or others


@contextmanager
def _heap_frozen() -> Iterator[None]:
    """Collect once and set the survivors aside, so that a collection between samples has little to walk."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
