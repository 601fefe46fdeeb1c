"""What single readings become: a disagreement of clocks, energy of a call, a settled level, a block to be judged."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from harness.spec.optimization import Target
from harness.timing import contenders
from harness.timing.clock import Reading
from harness.timing.energy import LEAD_IN_S, STINT_S, joules_per_call
from harness.timing.sampling import JUDGED_BLOCKS, Reservoir
from harness.timing.settling import SETTLED, SETTLED_CLOCK, moved
from harness.timing.tests.test_energy import Grid
from harness.timing.tests.test_protocol import Workshop, run


@pytest.mark.parametrize(
    ("device_ms", "wall_ms", "apart"), [(8.0, 10.0, 0.2), (12.0, 10.0, 0.2), (10.0, 10.0, 0.0), (10.0, 0.0, 0.0)]
)
def test_two_clocks_disagree_by_their_distance_whichever_reads_more(device_ms, wall_ms, apart):
    assert Reading(device_ms, wall_ms).disagreement == pytest.approx(apart)


class HidesInOne(Workshop):
    """Half of the candidate's time is seen by the wall clock alone."""

    def measure(self, run):
        found = super().measure(run)
        return Reading(found.device_ms, found.wall_ms * (2 if self.log[-1] == "candidate" else 1))


def test_a_block_tells_the_largest_disagreement_of_its_arms():
    measured = run(HidesInOne())
    assert {block.wall_disagreement for block in measured.blocks} == {0.5}
    assert [note for note in measured.notes if "wall clock" in note] == [
        "decode, process 0: candidate: device events and the wall clock differ by 50%: work outside the timed stream?"
    ]


@pytest.mark.parametrize(("seconds", "calls"), [(0.5, 1), (0.5, 4), (0.25, 8)])
def test_energy_is_that_of_one_call(seconds, calls):
    grid = Grid(step_s=0.0)
    assert joules_per_call(grid.arm(seconds, 600.0, calls), grid, grid) == pytest.approx(600.0 * seconds / calls)
    assert grid.seconds == pytest.approx(math.ceil(LEAD_IN_S / seconds) * seconds + STINT_S)


@pytest.mark.parametrize(("phases", "tokens"), [(("prefill",), 21), (("prefill", "decode"), 3)])
def test_energy_is_told_by_token_of_the_last_phase(monkeypatch, phases, tokens):
    monkeypatch.setattr(contenders, "joules_per_call", lambda call, *_: None if call[0] == "peer" else 42.0)
    shape = SimpleNamespace(batch=3, prompt=torch.zeros(3, 7))
    arms = [SimpleNamespace(name=name) for name in ("candidate", "peer")]
    shared = SimpleNamespace(
        phases=lambda: phases,
        shape=shape,
        target=Target(torch.device("cpu"), torch.float32, "none"),
        arms=arms,
        _call=lambda arm, phase: (arm.name, phase),
    )
    assert contenders.Contenders.joules_per_token(shared, None) == {"candidate": 42.0 / tokens}


def test_a_reading_behind_the_time_is_not_taken():
    """Runs end when the time is over, not one later; the first runs however long it takes."""
    grid = Grid(step_s=0.0)
    resets = []
    arm = replace(grid.arm(1.0, 1.0), reset=lambda: resets.append(grid.seconds))
    joules_per_call(arm, grid, grid)
    assert grid.seconds == 1.0 + STINT_S
    assert resets == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_a_counter_that_falls_silent_tells_no_energy(silent):
    grid, asked = Grid(step_s=0.0), iter(range(3))
    grid.energy_j = lambda: None if next(asked) == silent else 1.0
    assert joules_per_call(grid.arm(1.0, 1.0), grid, grid) is None


@pytest.mark.parametrize("count", [0, 1, 5])
def test_six_readings_tell_whether_a_level_moves(count):
    assert moved([1.0] * count) == math.inf
    assert moved([1.0] * 6) == 0.0


def test_a_level_moves_by_its_medians_less_what_noise_explains():
    steady = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert moved(steady) == 1.0
    assert moved(steady[::-1]) == 1.0
    assert moved([9.0, 9.0, 9.0, *steady]) == 1.0
    climbing = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    noise = 1.2533 * 1.4826 * 0.1 / math.sqrt(2) * math.sqrt(2 / 3)
    assert moved(climbing) == moved(climbing[::-1]) == pytest.approx(0.3 - noise)
    assert (SETTLED, SETTLED_CLOCK) == (0.005, 0.01)
    assert moved([1.0, 2.0, 1.0, 2.0, 1.0, 2.0]) == 0.0


def test_the_first_blocks_are_all_held_and_a_later_one_in_the_place_that_was_drawn():
    drawn = random.Random(3)
    reservoir, same = Reservoir(JUDGED_BLOCKS, random.Random(3)), [0, 1, 2]
    assert [reservoir.place() for _ in range(3)] == same
    for seen in range(3, 40):
        place = drawn.randrange(seen + 1)
        assert reservoir.place() == (place if place < 3 else None)
    assert reservoir.seen == 40
