"""Several real processes behind one fragment: whoever ends badly is named, and nobody is left waiting for him."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build import ranks
from harness.records.partial_record import PartialRecord


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., PartialRecord]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(Path(__file__).parent), str(Path(__file__).parents[3]))))
    monkeypatch.setenv("STAND_IN_PIDS", str(tmp_path / "pids"))

    def run(*how: str) -> PartialRecord:
        case = tmp_path / "case.json"
        case.write_text(json.dumps(how))
        return ranks.run([str(case), "prove", str(tmp_path / "out.json")], len(how), worker="stand_in_rank")

    return run


def test_rank_0_answers_when_all_are_done(run: Callable[..., PartialRecord]) -> None:
    found = run("right", "right", "right")
    assert found.status == "passed"
    assert found.parity is not None
    assert found.parity.checks[0].subject == "rank-0"


@pytest.mark.parametrize("how", [("wrong", "wrong"), ("right", "wrong")])
def test_a_broken_parity_on_any_rank_is_the_answer(run: Callable[..., PartialRecord], how: tuple[str, ...]) -> None:
    assert run(*how).status == "failed"


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("raises", "crashed", "rank 1 of 2: the heads went wrong"),
        ("quiet_exit", "crashed", "rank 1 of 2: it said nothing and left no fragment"),
        ("last_words", "crashed", "rank 1 of 2: no device left"),
        ("aborts", "crashed", "rank 1 of 2: signal 6 (Aborted) once its answer was there: the driver is gone"),
        ("killed", "killed", "rank 1 of 2: killed from outside"),
    ],
)
def test_a_rank_that_fails_is_named_and_the_waiting_one_ended(
    run: Callable[..., PartialRecord], tmp_path: Path, how: str, status: str, message: str
) -> None:
    found = run("waits", how)
    assert found.status == status
    assert found.error is not None
    assert found.error.message.startswith(message)
    if (tmp_path / "pids").exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pids").read_text()), 0)


def test_the_rank_that_failed_first_is_blamed(run: Callable[..., PartialRecord]) -> None:
    found = run("partner_gone", "raises")
    assert found.error is not None
    assert found.error.message == "rank 1 of 2: the heads went wrong"
