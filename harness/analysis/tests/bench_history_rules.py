"""The rate of false alarms of the nightly rule and the ratchet, on twenty synthetic histories of 60 nights x 50 cases.

In the ordinary suite the same code runs on one of them, without judging the rate.
"""

from harness.analysis.tests.test_history_rules import history, nights
from harness.tests import scale

SEEDS, PER_THOUSAND = range(20), 1.0


def test_false_alarms_of_twenty_histories(benchmark):
    seeds = SEEDS if benchmark.enabled else SEEDS[:1]

    def count():
        return [sum(pair) for pair in zip(*map(_alarms, seeds), strict=True)]

    alarms, judged = benchmark.pedantic(count, rounds=1)
    if benchmark.enabled:
        assert alarms <= judged * PER_THOUSAND / 1000
    scale.keep("history", benchmark, histories=len(seeds), false_alarms=alarms, case_nights=judged)


def _alarms(seed):
    """(alarms, findings) of the nights on which nothing had changed yet."""
    made = history(seed)
    quiet = [found for night, case, found in nights(made) if made[case][1] is None or night < made[case][1]]
    return sum(found.standing == "slower" for found in quiet), len(quiet)
