"""The protocol, on a clock whose time is made of numbers instead of work."""

import itertools
import math
import random

import pytest
import torch

from harness.errors import HarnessError
from harness.records.case import TimingSettings
from harness.timing.clock import Reading
from harness.timing.protocol import Timed, measure
from harness.timing.sampling import JUDGED_BLOCKS, Reservoir
from harness.timing.telemetry import NoTelemetry, State


class Workshop:
    """A clock for work that only says how long it took: `spend` moves it, and `log` keeps who spent what."""

    device = torch.device("cpu")
    shortest_ms = 5.0

    def __init__(self, seed=0, noise=0.0, hidden_ms=0.0):
        self.now_ms = 0.0
        self.noise = random.Random(seed)
        self.spread = noise
        self.hidden_ms = hidden_ms
        self.log = []
        self.kept = []

    def now_s(self):
        return self.now_ms / 1e3

    def measure(self, run):
        before = self.now_ms
        run()
        elapsed = max(self.now_ms - before, 1e-6)
        return Reading(elapsed, elapsed + self.hidden_ms)

    def arm(self, name, milliseconds, calls=1):
        def run():
            self.log.append(name)
            self.now_ms += milliseconds(self) if callable(milliseconds) else self.scattered(milliseconds)

        return Timed(name, run, lambda: self.log.append(f"reset {name}"), calls, lambda place: self.kept.append(name))

    def scattered(self, milliseconds):
        return milliseconds * math.exp(self.noise.gauss(0, self.spread))


class Throttled(NoTelemetry):
    def __init__(self, words):
        self.words = words
        self.reads = 0

    def read(self):
        self.reads += 1
        return State(sm_clock_mhz=1980.0, throttle=self.words(self.reads), limits=("software power cap",))


def settings(**changed):
    usual = TimingSettings(
        name="t", processes=1, min_blocks=10, max_blocks=60, half_width=0.005, margin=0.01, limit_s=1e6
    )
    return usual.model_copy(update=changed)


def three(shop, candidate=10.0, reference=20.0):
    return [shop.arm("reference", reference), shop.arm("candidate", candidate), shop.arm("again", candidate)]


def run(shop, arms=None, telemetry=None, progress=None, seed=0, begin=None, **changed):
    begin = begin or (lambda: None)
    telemetry = telemetry or NoTelemetry()
    return measure("decode", arms or three(shop), begin, shop, settings(**changed), 0, telemetry, seed, progress)


def orders(shop):
    ran = [name for name in shop.log if not name.startswith("reset")]
    return [tuple(ran[start : start + 3]) for start in range(0, len(ran), 3)]


def test_each_block_holds_every_arm_once_after_its_reset_in_random_order():
    shop = Workshop()
    run(shop, half_width=1e-9, min_blocks=60)
    assert all(set(order) == {"reference", "candidate", "again"} for order in orders(shop))
    assert len(set(orders(shop))) == 6
    assert all(shop.log[i] == f"reset {shop.log[i + 1]}" for i in range(0, len(shop.log), 2))


def test_every_round_begins_with_new_inputs():
    shop = Workshop()
    run(shop, begin=lambda: shop.log.append("reset begin"))
    begun = [at for at, entry in enumerate(shop.log) if entry == "reset begin"]
    assert begun == list(range(0, len(shop.log), 7))


def test_each_arms_output_is_kept_in_the_same_few_blocks_whichever_they_are():
    shop = Workshop()
    run(shop, half_width=1e-9, min_blocks=60)
    names = ("reference", "candidate", "again")
    assert 3 * JUDGED_BLOCKS < len(shop.kept) < 60
    assert all(sorted(shop.kept[at : at + 3]) == sorted(names) for at in range(0, len(shop.kept), 3))


def test_any_block_is_as_likely_to_be_judged_as_any_other():
    held = [0] * 30
    for seed in range(2000):
        reservoir, places = Reservoir(3, random.Random(seed)), {}
        for block in range(30):
            place = reservoir.place()
            if place is not None:
                places[place] = block
        assert len(places) == 3
        for block in places.values():
            held[block] += 1
    assert 150 < min(held) <= max(held) < 250


def test_the_order_comes_from_the_seed():
    first, same, other = Workshop(), Workshop(), Workshop()
    run(first, seed=1), run(same, seed=1), run(other, seed=2)
    assert orders(first) == orders(same) != orders(other)


def test_quiet_arms_stop_at_the_fewest_blocks():
    measured = run(Workshop())
    assert len(measured.blocks) == 10
    assert measured.notes == ()


def test_noisy_arms_go_on_until_the_interval_is_narrow():
    widths = []
    shop = Workshop(noise=0.01)
    measured = run(shop, half_width=0.006, max_blocks=200, progress=lambda done, width: widths.append(width))
    assert 10 < len(measured.blocks) < 200
    assert widths[-1] <= 0.006 < min(widths[9:-1])


def test_the_interval_that_must_be_narrow_is_that_of_the_strongest_arm():
    shop = Workshop()
    noisy = shop.arm("reference", lambda shop: 90.0 * shop.noise.lognormvariate(0, 0.2))
    assert len(run(shop, [*three(shop)[1:], noisy, shop.arm("peer", 20.0)]).blocks) == 10
    noisy = shop.arm("peer", lambda shop: 15.0 * shop.noise.lognormvariate(0, 0.2))
    assert len(run(shop, [*three(shop), noisy]).blocks) == 60


def test_a_large_difference_does_not_stop_early():
    shop = Workshop(noise=0.05)
    assert len(run(shop, three(shop, reference=200.0), half_width=0.001).blocks) == 60


def test_the_time_limit_stops_and_says_so():
    shop = Workshop(noise=0.05)
    measured = run(shop, limit_s=1.0, half_width=0.001)
    assert len(measured.blocks) < 60
    assert any("stopped by the limit of 1 s" in note for note in measured.notes)


@pytest.mark.parametrize(("limit_s", "blocks"), [(25.0, 10), (5.0, 3)])
def test_the_fewest_blocks_may_take_up_to_twice_the_limit(limit_s, blocks):
    shop = Workshop(noise=0.05)
    slow = [shop.arm(name, 1000.0) for name in ("candidate", "again", "reference")]
    measured = run(shop, slow, limit_s=limit_s, half_width=0.001)
    assert len(measured.blocks) == blocks
    assert any(f"stopped by the limit of {limit_s:g} s after {blocks} blocks" in note for note in measured.notes)


def test_samples_are_per_call_and_carry_their_block():
    shop = Workshop()
    measured = run(shop, [shop.arm("candidate", 160.0, calls=16), shop.arm("reference", 320.0, calls=16)])
    times = {series.arm: set(series.samples_ms) for series in measured.series}
    assert {arm: round(value.pop(), 9) for arm, value in times.items()} == {"candidate": 10.0, "reference": 20.0}
    assert all(series.blocks == tuple(range(10)) for series in measured.series)
    assert all(block.sentinel_ms is not None for block in measured.blocks)


def test_warm_up_waits_for_a_settled_level():
    shop = Workshop()
    compiling = [900.0, 500.0, 300.0]
    measured = run(shop, [shop.arm("candidate", lambda _: compiling.pop() if compiling else 10.0), *three(shop)[::2]])
    samples = next(series.samples_ms for series in measured.series if series.arm == "candidate")
    assert max(samples) == pytest.approx(10.0)
    assert measured.notes == ()
    assert {block.settled for block in measured.blocks} == {True}


def test_a_level_that_never_settles_is_unstable():
    shop = Workshop()
    cumulative = iter(range(10, 10**6))
    measured = run(shop, [shop.arm("candidate", lambda _: float(next(cumulative))), *three(shop)[::2]])
    assert any("unstable" in note for note in measured.notes)
    assert {block.settled for block in measured.blocks} == {False}


def test_noise_around_a_level_is_settled_and_a_slow_climb_is_not():
    shop = Workshop()
    noise, climb = random.Random(3), itertools.count()
    noisy = [
        shop.arm(name, lambda _: 10.0 * noise.lognormvariate(0, 0.02)) for name in ("candidate", "again", "reference")
    ]
    assert {block.settled for block in run(shop, noisy).blocks} == {True}
    climbing = [shop.arm(name, lambda _: 10.0 * 1.005 ** next(climb)) for name in ("candidate", "again", "reference")]
    assert {block.settled for block in run(shop, climbing).blocks} == {False}


def test_a_peer_that_never_settles_does_not_keep_the_others_from_it():
    shop = Workshop()
    host = itertools.cycle((10.0, 14.0, 11.0, 17.0, 12.0))
    measured = run(shop, [*three(shop), shop.arm("peer", lambda _: next(host))])
    assert {block.settled for block in measured.blocks} == {True}


def test_short_samples_and_hidden_work_are_noted():
    shop = Workshop(hidden_ms=4.0)
    notes = run(shop, three(shop, candidate=2.0)).notes
    assert any(note.startswith("decode, process 0: candidate: a sample lasts 2 ms, under the 5 ms") for note in notes)
    assert any("candidate: device events and the wall clock differ by 67%" in note for note in notes)
    assert not any("reference: a sample" in note for note in notes)


def test_throttled_blocks_are_kept_marked_and_replaced():
    measured = run(Workshop(), telemetry=Throttled(lambda read: ("power brake",) if read % 2 else ()))
    assert sum(not block.dropped for block in measured.blocks) == 10
    assert 18 <= len(measured.blocks) <= 20
    assert any(
        note.endswith(f"software power cap in {len(measured.blocks)} of {len(measured.blocks)} blocks")
        for note in measured.notes
    )


def test_throttled_blocks_do_not_widen_the_interval():
    shop = Workshop()
    telemetry = Throttled(lambda read: ("power brake",) if read % 2 else ())
    jumps = random.Random(0)
    candidate = shop.arm("candidate", lambda _: 10.0 if telemetry.reads % 2 else 10.0 * math.exp(jumps.gauss(0, 1)))
    widths = []
    measured = run(shop, [candidate, *three(shop)[::2]], telemetry, lambda _, width: widths.append(width))
    assert widths[-1] == pytest.approx(0, abs=1e-9)
    assert len(measured.blocks) <= 20


@pytest.mark.parametrize("names", [["candidate"], ["reference", "again"], ["candidate", "peer", "peer"]])
def test_arms_that_cannot_be_judged_are_refused(names):
    shop = Workshop()
    with pytest.raises(HarnessError, match=r"candidate|share a name"):
        run(shop, [shop.arm(name, 10.0) for name in names])
