"""A proof stands for a timing of the same case at the same clean commit, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.execution import proofs
from harness.records.case import Plan
from harness.records.record import Environment, StandingProof
from harness.records.run_file import RunWriter, read_file

HERE = Path(__file__).parent
ASKED = ("-m", "+model=qwen3_4b_instruct_2507", "optimization=rotary", "report=[]", "seed=1,7")


def run(folder: Path, name: str, *more: str) -> tuple[Path, str]:
    paths = os.pathsep.join(map(str, (HERE.parents[2], HERE)))
    stand_in = {"PYTHONPATH": paths, "XDG_RUNTIME_DIR": str(folder), "STAND_IN_PIDS": str(folder / "pids")}
    done = subprocess.run(
        [sys.executable, str(HERE / "stand_in_command.py"), *ASKED, *more, f"out={folder / name}"],
        cwd=folder,
        env=os.environ | stand_in,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    files = sorted((folder / name).rglob("*.jsonl"))
    assert len(files) == 1, done.stderr
    return files[0], done.stderr


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases proven and not timed: seed 1 is right, seed 7 is wrong."""
    return run(tmp_path_factory.mktemp("proven"), "proof", "timing=off")[0]


@pytest.fixture
def here(proven: Path) -> Environment:
    environment = read_file(proven).records[0].environment
    assert environment is not None
    return environment


def test_a_case_is_timed_with_the_proof_that_stands_and_a_failed_one_is_proven_again(
    proven: Path, tmp_path: Path
) -> None:
    timed, said = run(tmp_path, "timed", f"proof={proven}")
    before, after = ({record.case.seed: record for record in read_file(file).records} for file in (proven, timed))
    assert {seed: record.status for seed, record in after.items()} == {1: "passed", 7: "failed"}
    assert said.count("prove parity") == 1
    assert f"proven by {read_file(proven).run}" in said
    assert after[1].series
    assert not before[1].series
    assert after[1].parity is not None
    assert before[1].parity is not None
    assert after[1].parity.checks[: len(before[1].parity.checks)] == before[1].parity.checks
    assert after[1].receipts == before[1].receipts
    held = read_file(proven)
    (digest,) = (digest for digest, record in zip(held.hashes, held.records, strict=True) if record.case.seed == 1)
    assert after[1].proof == StandingProof(run=held.run, content=digest), "by the hash of its content, not by a path"
    assert after[7].proof is None, "proven here"


@pytest.mark.parametrize(
    ("hardware", "workload", "stands"),
    [
        ("cpu", {"batch": 32}, True),
        ("h200", {"name": "long answers", "new_tokens": 128}, True),
        ("h200", {"prompt_tokens": 32768}, False),
        ("h200", {"new_tokens": 0}, False),
        ("h200", {"shared_prefix_tokens": 900}, False),
        ("h200", {"batch": 32}, False),
        ("h200", {"prompt_tokens": 512}, False),
        ("h200", {"dtype": "float16"}, False),
    ],
)
def test_a_proof_stands_for_every_workload_of_which_it_is_fed_the_same(
    proven: Path, here: Environment, tmp_path: Path, hardware: str, workload: dict[str, object], stands: bool
) -> None:
    record = next(record for record in read_file(proven).records if record.status == "passed")
    shape = record.case.workload.model_copy(update={"prompt_tokens": 1024, "batch": 1, "dtype": "bfloat16"})
    case = record.case.model_copy(update={"hardware": hardware, "workload": shape})
    moved = record.model_copy(update={"case": case, "key": case.key})
    plan = Plan(cases=(case,), skipped=())
    with RunWriter(tmp_path / "moved.jsonl", "moved", plan, None) as writer:
        writer.append(moved.model_copy(update={"run": "moved", "plan": plan.hash}))
    other = case.model_copy(update={"workload": shape.model_copy(update=workload)})
    assert (proofs.read(tmp_path / "moved.jsonl", here).of(other) is not None) is stands


def test_a_timed_run_is_no_proof_of_another(proven: Path, here: Environment, tmp_path: Path) -> None:
    timed, _ = run(tmp_path, "timed", f"proof={proven}")
    case = next(record.case for record in read_file(timed).records if record.status == "passed")
    assert proofs.read(proven, here).of(case) is not None
    assert proofs.read(timed, here).of(case) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"commit": "another"}, "another commit or machine"),
        ({"cpu_cores": 3}, "another commit or machine"),
        ({"dirty": True}, "changes that are in no commit"),
    ],
)
def test_sources_or_a_machine_that_could_differ_are_refused(
    proven: Path, here: Environment, change: dict[str, object], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        proofs.read(proven, here.model_copy(update=change))


def test_a_file_that_is_no_run_is_refused_by_name(here: Environment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no proof can be taken from .*absent\.jsonl"):
        proofs.read(tmp_path / "absent.jsonl", here)


def test_of_two_workloads_that_a_proof_is_fed_the_same_of_one_is_proven(tmp_path: Path) -> None:
    file, said = run(tmp_path, "swept", "workload=smoke,standard", "timing=quick")
    held = read_file(file)
    assert said.count("prove parity") == 3, "the right build once, the wrong one for each of its workloads"
    first, second = (record for record in held.records if record.case.seed == 1)
    assert (first.case.workload.name, second.case.workload.name) == ("smoke", "standard")
    assert first.proof is None
    digest = held.hashes[held.records.index(first)]
    assert second.proof == StandingProof(run=held.run, content=digest)
    assert second.series
    assert second.parity is not None
    assert first.parity is not None
    assert second.parity.checks[: len(first.parity.checks)] == first.parity.checks


def test_of_a_tree_with_changes_nothing_stands(proven: Path) -> None:
    record = next(record for record in read_file(proven).records if record.status == "passed")
    assert record.environment is not None
    changed = record.environment.model_copy(update={"dirty": True})
    held = proofs.Proofs()
    held.add(record.model_copy(update={"environment": changed}))
    assert held.of(record.case) is None
    held.add(record)
    assert held.of(record.case) is not None
