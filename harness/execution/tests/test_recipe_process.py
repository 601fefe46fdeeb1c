"""Trained-like weights judged beside random ones, on another core: the same checks, and its bad end is the case's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.execution import recipe_process
from harness.machine.cores import THREADS
from harness.machine.installation import ROOT
from harness.records import check_log
from harness.records.case import Case, WorkloadShape
from harness.records.checks import Check, Parity
from harness.records.partial_record import PartialRecord

SMALL = WorkloadShape(name="smoke", batch=1, prompt_tokens=8, new_tokens=2, dtype="float16")


def proven(case: Case, folder: Path, threads: int) -> Parity:
    folder.mkdir()
    (folder / "case.json").write_text(case.model_dump_json())
    command = [
        sys.executable,
        "-m",
        "harness.execution.worker",
        str(folder / "case.json"),
        "prove",
        str(folder / "o.json"),
    ]
    environment = os.environ | {THREADS: str(threads), "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    assert (folder / recipe_process.FRAGMENT).exists() == (threads > 1)
    parity = PartialRecord.model_validate_json((folder / "o.json").read_text()).parity
    assert parity is not None
    assert parity.checks == check_log.read(check_log.beside(folder / "o.json"))
    return parity


def test_two_processes_make_the_checks_that_one_makes(make_case: Callable[..., Case], tmp_path: Path) -> None:
    case = make_case(model="qwen3_4b_instruct_2507", optimizations=(), workload=SMALL)
    one, two = (proven(case, tmp_path / str(threads), threads) for threads in (1, 2))
    asked = [[(check.level, check.subject, check.name) for check in parity.checks] for parity in (one, two)]
    assert asked[0] == asked[1]
    assert any(name.startswith("trained-like") for _, _, name in asked[0])
    assert one.passed
    assert two.passed
    assert [(each.name, each.weights) for each in two.statistics or ()] == [
        (each.name, each.weights) for each in one.statistics or ()
    ]


def test_its_bad_end_is_told_and_what_it_had_found_is_kept(make_case: Callable[..., Case], tmp_path: Path) -> None:
    check = Check(level="layer", subject="layer 0", name="out", rule="max", error=2.0, noise=0.5, limit=1.0)
    asked = tmp_path / "case.json"
    asked.write_text(make_case(model="nobody_has_it").model_dump_json())
    check_log.append(check_log.beside(tmp_path / recipe_process.FRAGMENT), [check])
    kept: list[Check] = []
    wait = recipe_process.judge_elsewhere(make_case(), asked, tmp_path / "prove-0.json", kept.extend)
    with pytest.raises(HarnessError, match=r"the process of trained-like weights: .*nobody_has_it"):
        wait()
    assert kept == [check]


@pytest.mark.parametrize(
    ("threads", "changes", "has"),
    [
        ("2", {}, True),
        ("1", {}, False),
        ("2", {"hardware": "h200"}, False),
        ("2", {"weights": "/somewhere"}, False),
        ("2", {"recipe": "random"}, False),
    ],
)
def test_it_takes_a_core_that_is_there_for_weights_that_are_drawn(
    make_case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch, threads: str, changes: dict[str, str], has: bool
) -> None:
    monkeypatch.setenv(THREADS, threads)
    assert recipe_process.has_core(make_case(**changes)) is has
