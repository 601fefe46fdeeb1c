"""Which paths a proof must have gone follows from what its build provides, whatever its optimizations are called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.records.case import Case
from harness.records.path_names import STATED, ExecutionPath
from harness.records.provided import provided
from harness.records.record import Environment, ReceiptNote, Record
from harness.signoff import paths
from harness.signoff.tests.made import parity, record
from harness.spec.optimization import Capability


@pytest.fixture
def proven(make_case: Callable[..., Case], environment: Environment) -> Callable[..., Record]:
    """A record of one optimization with these paths, whose receipt says what it provides, or does not say."""

    def made(
        name: str, provides: tuple[Capability, ...] | None, gone: tuple[str, ...], version: int = STATED
    ) -> Record:
        receipt = ReceiptNote(optimization=name, touched=("decode",), provides=provides)
        case = make_case(optimizations=(name,))
        proof = parity(paths=gone)
        return record(case, environment, parity=proof, receipts=(receipt,), schema_version=version)

    return made


def test_a_captured_step_is_known_by_what_it_provides(proven: Callable[..., Record]) -> None:
    every = tuple(path for path in ExecutionPath if not path.needs)
    assert paths.missing(proven("own_graph", ("captured_step",), every)) == (ExecutionPath.PLAIN_STEP,)
    assert paths.missing(proven("own_graph", (), every)) == ()


def test_a_receipt_is_believed_before_a_name(proven: Callable[..., Record]) -> None:
    assert provided(proven("cuda_graph", (), ())) == frozenset()


@pytest.mark.parametrize(
    ("name", "provides"),
    [("cuda_graph", {"captured_step"}), ("tensor_parallel", {"ranks"}), ("linear", set())],
)
def test_an_old_receipt_leaves_the_name(proven: Callable[..., Record], name: str, provides: set[Capability]) -> None:
    assert provided(proven(name, None, (), STATED - 1)) == provides


def test_an_old_record_is_not_asked_for_paths_that_came_later(proven: Callable[..., Record]) -> None:
    old = tuple(path for path in ExecutionPath if path.since < STATED)
    assert paths.missing(proven("prefix_caching", None, old, STATED - 1)) == ()
    assert ExecutionPath.PREFIX_PADDED in paths.missing(proven("prefix_caching", ("prefix_cache",), old))
