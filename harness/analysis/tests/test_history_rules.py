"""The nightly rule and the ratchet on a synthetic history of 60 nights x 50 cases, and case by case."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.history.nightly_rules import Point, Series, _largest_discovery, judge

NIGHTS, CASES, SIGMA, MARGIN = 60, 50, 0.007, 0.01
OUTLIERS = 0.01
STEPS = {**dict.fromkeys(range(5), 0.03), **dict.fromkeys(range(5, 10), 0.05), **dict.fromkeys(range(10, 15), 0.10)}
DRIFTS = dict.fromkeys(range(15, 20), 0.0015)
MOVED = range(20, 30)
"""Cases whose machine changes once, with a level 15 % lower."""


def point(night, value, fingerprint="a"):
    return Point(f"{night:03d}", f"run-{night}", f"commit-{night}", fingerprint, value)


def series(values, key="k", fingerprints=None):
    marks = fingerprints or ["a"] * len(values)
    points = tuple(point(night, value, mark) for night, (value, mark) in enumerate(zip(values, marks, strict=True)))
    return Series(key, f"case {key}", "decode", MARGIN, points)


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(0, SIGMA, n)


def history(seed):
    """(series, night of the step or start of the drift or None) of every case."""
    rng = np.random.default_rng(seed)
    made = []
    for case in range(CASES):
        values = math.log(2) + rng.normal(0, SIGMA, NIGHTS)
        outliers = rng.random(NIGHTS) < OUTLIERS
        values -= np.where(outliers, rng.uniform(0.05, 0.3, NIGHTS), 0.0)
        marks, onset = ["a"] * NIGHTS, None
        if case in STEPS:
            onset = int(rng.integers(20, 50))
            values[onset:] -= math.log1p(STEPS[case])
        if case in DRIFTS:
            onset = 20
            values[onset:] -= DRIFTS[case] * np.arange(1, NIGHTS - onset + 1)
        if case in MOVED:
            at = int(rng.integers(20, 45))
            values[at:] -= 0.15
            marks = ["a"] * at + ["b"] * (NIGHTS - at)
        made.append((series(values, str(case), marks), onset))
    return made


def nights(made):
    """(night, case, finding) of every night on which the whole history up to it was judged."""
    for night in range(NIGHTS):
        known = [replace(each, points=each.points[: night + 1]) for each, _ in made]
        for case, found in enumerate(judge(known, {})):
            yield night, case, found


@pytest.fixture(scope="module")
def simulated():
    """Three histories: (case's series and onset, findings of every night) of each."""
    return [(made, list(nights(made))) for made in map(history, (7, 8, 9))]


def test_false_alarms_are_at_most_one_in_a_thousand_case_nights(simulated):
    quiet = [
        found
        for made, findings in simulated
        for night, case, found in findings
        if made[case][1] is None or night < made[case][1]
    ]
    alarms = [(found.series.key, found.points[-1].at) for found in quiet if found.standing == "slower"]
    assert len(quiet) > 6000
    assert len(alarms) <= len(quiet) / 1000, alarms


def first_alarms(simulated, planted):
    """(onset, nights until the first alarm, its finding) of every case with such a change; fails where one has none."""
    alarms = []
    for made, findings in simulated:
        for case in planted:
            onset = made[case][1]
            found = [(night, each) for night, of, each in findings if of == case and night >= onset]
            night, first = next((night, each) for night, each in found if each.standing == "slower")
            alarms.append((onset, night - onset + 1, first))
    return alarms


def steps_of(size):
    return [case for case, step in STEPS.items() if step == size]


def test_ten_percent_is_found_and_dated_within_two_nights(simulated):
    alarms = first_alarms(simulated, steps_of(0.10))
    assert max(late for _, late, _ in alarms) <= 2
    exact = [found.first_bad.run == f"run-{onset}" for onset, _, found in alarms]
    assert sum(exact) >= len(exact) - 1
    assert all(abs(int(found.first_bad.at) - onset) <= 1 for onset, _, found in alarms)
    assert all(int(found.last_good.at) == int(found.first_bad.at) - 1 for _, _, found in alarms)


def test_three_and_five_percent_and_drifts_are_found(simulated):
    assert max(late for _, late, _ in first_alarms(simulated, steps_of(0.05))) <= 4
    assert len(first_alarms(simulated, steps_of(0.03))) == 15
    assert len(first_alarms(simulated, DRIFTS)) == 15


def test_no_points_of_different_fingerprints_are_judged_together(simulated):
    findings = [each for _, findings in simulated for each in findings]
    assert {len({point.fingerprint for point in found.points}) for _, _, found in findings} == {1}
    fresh = Counter(found.standing for _, case, found in findings if case in MOVED and len(found.points) < 11)
    assert set(fresh) == {"insufficient history"}


def test_too_few_points_say_how_many_are_needed():
    (found,) = judge([series(noise(10))], {})
    assert found.standing == "insufficient history"
    assert found.reason == "10 points of this machine, these versions and this protocol, 11 are needed"


def test_one_bad_point_asks_for_a_rerun_and_is_no_alarm():
    values = noise(30)
    values[-1] -= 0.2
    (found,) = judge([series(values)], {})
    assert found.standing == "rerun"
    assert "run-29 reads -1" in found.reason


def test_an_improvement_is_no_alarm():
    (found,) = judge([series(np.r_[noise(27), noise(3, 1) + 0.1])], {})
    assert (found.standing, found.first_bad.run) == ("faster", "run-27")


def test_what_creeps_past_every_nightly_rule_is_caught_by_the_ratchet_alone():
    values = noise(120) * 0.3 - 0.003 / 7 * np.maximum(0, np.arange(120) - 20)
    nightly = [judge([series(values[: night + 1])], {})[0] for night in range(120)]
    alarms = [found for found in nightly if found.standing == "slower"]
    assert alarms[0].rule == "ratchet"
    assert alarms[0].first_bad.at > "020"


def test_an_accepted_step_is_the_new_level_until_the_acceptance_ends():
    values = np.r_[noise(30), noise(15, 1) - 0.05]
    each = series(values)
    assert judge([each], {})[0].standing == "slower"
    assert judge([each], {("k", "decode", "a"): "030"})[0].standing == "steady"
    assert judge([each], {("k", "decode", "b"): "030"})[0].standing == "slower"


def test_a_change_inside_the_margin_is_steady_however_sure():
    (found,) = judge([series(np.r_[noise(30) * 0.01, noise(3, 1) * 0.01 - 0.009])], {})
    assert found.errors > 100
    assert found.standing == "steady"


def test_the_discovery_rate_counts_every_case():
    """The textbook's procedure: the largest p with p <= rate * rank / count, whatever the smaller ones do."""
    assert _largest_discovery([0.9, 0.004, 0.0051, 0.8], 0.01) == -1.0
    assert _largest_discovery([0.0040, 0.0049, 0.9, 0.9], 0.01) == 0.0049
    assert _largest_discovery([], 0.01) == -1.0


def test_an_empty_series_has_no_history():
    assert judge([series([])], {})[0].standing == "insufficient history"
