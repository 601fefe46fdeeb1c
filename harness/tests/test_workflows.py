"""The workflow files: valid by GitHub's own schema, and every command in them does what its step is for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml

from harness.build.registry import names
from harness.planning import shard_plans
from harness.records.blind_corpus import read_corpus

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
INSTALL = "Install"
SWEEP = (
    "+model=qwen3_4b_instruct_2507 optimization=none,kv_cache size=tiny hardware=cpu workload=smoke timing=off "
    "recipe=random"
)
TESTS = "harness/planning/tests/test_sharding.py harness/commands/tests/test_shards_command.py"
LINTERS = ("ruff ", "mypy", "lint-imports")


def _steps(file: Path) -> list[dict[str, str]]:
    return [step for job in yaml.safe_load(file.read_text())["jobs"].values() for step in job["steps"]]


def steps(name: str, job: str) -> list[str]:
    """The commands of a job in order, but for the installation, which every CI run does."""
    found = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())["jobs"][job]["steps"]
    return [step["run"] for step in found if "run" in step and step.get("name") != INSTALL]


@pytest.fixture
def runner(tmp_path):
    """What GitHub gives a step, on few cases and few tests."""
    environment = os.environ | {
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "SWEEP": SWEEP,
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PYTEST_ADDOPTS": f"-p no:cacheprovider {TESTS}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def run(
        command: str, given: Mapping[str, str] = MappingProxyType({}), **matrix: int | str
    ) -> subprocess.CompletedProcess[str]:
        for name, value in matrix.items():
            command = command.replace(f"${{{{ matrix.{name} }}}}", str(value))
        assert "${{" not in command, "an expression in a command is text that somebody else may choose"
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
        return subprocess.run(
            shell, cwd=ROOT, env={**environment, **given}, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_workflow_is_valid_and_installs_what_ci_installs(file):
    schema = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    done = subprocess.run(schema, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    jobs = yaml.safe_load(file.read_text())["jobs"].values()
    installs = [step["run"] for job in jobs for step in job["steps"] if step.get("name") == INSTALL]
    assert len(installs) == len(jobs)
    assert all(
        re.fullmatch(r"python -m pip install --constraint constraints.txt --editable \S+", one) for one in installs
    )


INSTALLS = sorted({step["run"] for file in FILES for step in _steps(file) if step.get("name") == INSTALL})


@pytest.mark.parametrize("command", INSTALLS)
def test_an_installation_finds_all_that_it_asks_for_at_the_versions_of_ci(runner, command):
    """As a dry run, without an index: what it asks for is what is installed here."""
    lacking = [name for name in ("submitit", "ruff") if "[dev,slurm]" in command and not find_spec(name)]
    if lacking:
        pytest.skip(f"{', '.join(lacking)}, which it would install, is not here")
    done = runner(f"export PIP_DRY_RUN=1 PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0; {command}")
    assert done.returncode == 0, done.stderr
    assert "Would install inference-pio" in done.stdout


def test_the_sweep_and_its_shards_are_those_of_the_plan_for_a_cpu():
    plan = shard_plans.read(shard_plans.PLANS)["cpu"]
    text = (ROOT / ".github" / "workflows" / "sweep.yml").read_text()
    sweep = yaml.safe_load(text)
    assert sweep[True]["workflow_dispatch"]["inputs"]["sweep"]["default"].split() == list(plan.sweep)
    assert sweep["env"]["SWEEP"] == f"${{{{ inputs.sweep || '{' '.join(plan.sweep)}' }}}}"
    assert sweep["jobs"]["shard"]["strategy"]["matrix"] == {"shard": list(range(1, plan.shards + 1))}
    assert f"shards show {plan.shards} $SWEEP" in text
    assert f"shard=${{{{ matrix.shard }}}}/{plan.shards} " in text


def test_the_blind_faults_of_every_model_are_judged_every_night(runner):
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "blind.yml").read_text())["jobs"].values()
    assert job["strategy"]["matrix"]["model"] == sorted({p.fault.model for each in read_corpus() for p in each.faults})
    (command,) = steps("blind.yml", "judge")
    assert runner(command, model="none_of_them").returncode == 2


def test_the_linters_are_those_of_ci():
    asked = steps("tests.yml", "lint")
    ran = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith(LINTERS)]
    assert asked == ran != []


def all_shards(runner, command):
    """(number, how it ended) of the four shards, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(enumerate(pool.map(lambda number: runner(command, shard=number), range(1, 5)), start=1))


def test_shards_of_the_tests_run_every_test_once_and_a_silent_shard_is_found(runner, tmp_path):
    (shard,) = steps("tests.yml", "shard")
    collect, verify = steps("tests.yml", "verify")
    for number, done in all_shards(runner, shard):
        assert done.returncode == 0, done.stdout
        assert (tmp_path / f"tests-{number}.xml").read_text().startswith("<?xml")
    assert runner(collect).returncode == 0
    proven = runner(verify)
    assert proven.returncode == 0, proven.stdout
    assert re.search(r"(\d+) collected, \1 ran in 4 shard\(s\), 0 wrong", proven.stdout)
    (tmp_path / "tests-2.txt").unlink()
    silent = runner(verify)
    assert silent.returncode == 1
    assert "never ran: harness/" in silent.stdout


def test_a_model_is_tested_without_the_others_and_one_that_needs_another_fails(runner, tmp_path):
    (listed,) = steps("tests.yml", "models")
    assert runner(listed, {"GITHUB_OUTPUT": str(tmp_path / "output")}).returncode == 0
    assert json.loads((tmp_path / "output").read_text().removeprefix("names=")) == list(names())
    delete, test = steps("tests.yml", "deletion")
    one, another = names()[:2]
    few = {"MODEL": one, "PYTEST_ADDOPTS": "-p no:cacheprovider -k published_geometry"}
    deleted = runner(delete, few)
    assert deleted.returncode == 0, deleted.stderr
    models = tmp_path / "alone" / "models"
    assert sorted(path.parent.name for path in models.glob("*/__init__.py")) == ["common", one]
    tested = runner(test, few)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.search(r"1 passed, \d+ deselected", tested.stdout)
    (models / one / "__init__.py").write_text(f"from models.{another} import SPEC")
    needing = runner(test, few)
    assert needing.returncode != 0
    assert f"No module named 'models.{another}'" in needing.stdout


def test_shards_of_a_sweep_become_one_run_and_a_silent_shard_is_lost(runner, tmp_path):
    (plan,) = steps("sweep.yml", "plan")
    (shard,) = steps("sweep.yml", "shard")
    merge, report = steps("sweep.yml", "merge")
    assert runner(plan).returncode == 0
    assert "longest shard over the mean" in (tmp_path / "summary.md").read_text()
    for _, done in all_shards(runner, shard):
        assert done.returncode == 0, done.stdout + done.stderr
    merged = runner(merge)
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert "2 planned = 2 passed + 0 failed + 0 lost + 0 skipped" in merged.stdout
    assert runner(report).returncode == 0
    assert "qwen3_4b_instruct_2507" in (tmp_path / "summary.md").read_text().split("longest shard")[1]
    holding = [path for path in (tmp_path / "runs").rglob("*.jsonl") if '"record":' in path.read_text()]
    holding[0].unlink()
    incomplete = runner(merge)
    assert incomplete.returncode == 1
    assert "1 lost" in incomplete.stdout
