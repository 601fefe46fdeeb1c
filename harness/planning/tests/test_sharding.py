from __future__ import annotations

import random

import pytest

from harness.errors import UserError
from harness.planning.sharding import Group, Item, Machine, Shard, imbalance, split


def items(costs, **needs):
    return [Item(f"case{index}", cost, **needs) for index, cost in enumerate(costs)]


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_every_item_is_in_exactly_one_shard_whatever_order_they_come_in(count):
    dealt = items([random.Random(3).uniform(1, 60) for _ in range(50)])
    shuffled = random.Random(5).sample(dealt, len(dealt))
    groups = split(dealt, [Machine()] * count, "plan")
    assert sorted(key for group in groups for key in group.keys) == sorted(item.key for item in dealt)
    assert split(shuffled, [Machine()] * count, "plan") == groups


def test_the_longest_are_dealt_first_so_that_shards_are_even():
    draw = random.Random(1)
    groups = split(items([draw.lognormvariate(3, 1) for _ in range(60)]), [Machine()] * 4, "plan")
    assert imbalance(groups) <= 1.10


def test_equal_costs_are_ordered_by_the_plan_and_not_by_their_place():
    first, other = (split(items([1.0] * 8), [Machine()] * 2, salt) for salt in ("plan", "another"))
    assert {group.load_s for group in first} == {4.0}
    assert first != other


def test_what_needs_more_gpus_or_memory_goes_where_they_are():
    machines = [Machine(1, 80), Machine(8, 140)]
    dealt = [Item("small", 1.0, 1, 10), Item("parallel", 5.0, 8, 10), Item("large", 5.0, 1, 100)]
    small, large = split(dealt, machines, "plan")
    assert "small" in small.keys + large.keys
    assert {"parallel", "large"} <= set(large.keys)


def test_a_machine_with_more_gpus_runs_more_at_a_time():
    one, four = split(items([1.0] * 10, gpus=1), [Machine(1), Machine(4)], "plan")
    assert (len(one.keys), len(four.keys)) == (2, 8)


def test_an_item_that_no_machine_can_hold_is_refused():
    with pytest.raises(UserError, match=r"needs 2 GPU\(s\)"):
        split(items([1.0], gpus=2), [Machine(1)], "plan")


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(UserError, match="is not I/N"):
        Shard.parse(text)


def test_nothing_to_do_is_balanced():
    assert imbalance([Group((), 0.0)]) == 1.0


def test_a_shard_is_said_as_it_is_read():
    shard = Shard.parse("2/8")
    assert (shard.index, shard.count, str(shard)) == (2, 8, "2/8")
    assert Shard.parse("8/8") == Shard(8, 8)


def test_a_machine_holds_what_fills_it_and_not_a_byte_more():
    machine = Machine(2, 100)
    assert machine.holds(Item("a", 1.0, 2, 100))
    assert not machine.holds(Item("a", 1.0, 2, 101))
    assert not machine.holds(Item("a", 1.0, 3, 100))
    assert Machine().holds(Item("a", 1.0, 0, 10**15))
    assert not Machine().holds(Item("a", 1.0, 1))
    assert Item("a", 1.0) == Item("a", 1.0, gpus=0, memory_bytes=0)


@pytest.mark.parametrize(("gpus", "on", "load_s"), [(0, 0, 6.0), (1, 1, 6.0), (2, 4, 3.0), (4, 4, 6.0), (1, 4, 1.5)])
def test_a_machine_is_busy_for_as_long_as_its_gpus_are(gpus, on, load_s):
    assert Machine(on).load_s(Item("a", 6.0, gpus)) == load_s


def test_what_fills_most_gpus_for_longest_is_dealt_first():
    dealt = [Item("long", 5.0, 1), Item("wide", 3.0, 4), Item("short", 4.0, 0)]
    (group,) = split(dealt, [Machine(4)], "plan")
    assert group.keys == ("wide", "long", "short")
    assert group.load_s == 3.0 + 1.25 + 1.0


def test_imbalance_is_the_longest_over_the_mean():
    assert imbalance([Group((), 1.0), Group((), 3.0)]) == 1.5
