"""Samples go out in pytest-benchmark's format, its own command reads them, and they come back."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import RecordError
from harness.records.pytest_benchmark import main, read

RUN = Path(__file__).resolve().parents[3] / "benchmark_results" / "h200" / "20261123-43a021e0-a7982c.jsonl"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "run.json"
    assert main([str(RUN), str(path)]) == 0
    return path


def test_the_command_of_pytest_benchmark_compares_an_exported_run(exported):
    command = [
        sys.executable,
        "-m",
        "pytest_benchmark",
        "compare",
        str(exported),
        "--csv=out",
        "--columns=median,rounds",
    ]
    folder = exported.parent
    done = subprocess.run(command, cwd=folder, env=os.environ | {"COLUMNS": "300"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "::decode::candidate," in (folder / "out.csv").read_text()


def test_what_is_exported_is_read_back_in_milliseconds(exported):
    frame = read(exported)
    candidate = frame[frame["name"].str.endswith("decode candidate")].iloc[0]
    assert candidate["median_ms"] == pytest.approx(2.95, abs=0.01)
    assert len(candidate["samples_ms"]) == candidate["rounds"] > 8
    assert candidate["commit"].startswith("43a021e0")


def test_a_file_that_exists_is_not_replaced(exported):
    err = io.StringIO()
    assert main([str(RUN), str(exported)], err) == 2
    assert "File exists" in err.getvalue()


def test_a_run_without_timing_is_refused(tmp_path):
    err = io.StringIO()
    untimed = RUN.parents[1] / "cpu" / "20261123-007f1691-19ef39.jsonl"
    assert main([str(untimed), str(tmp_path / "out.json")], err) == 2
    assert "nothing was timed" in err.getvalue()
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "no field 'benchmarks'"),
        ("no json", "cannot be read"),
        ('{"benchmarks": [{"name": "n", "stats": {"median": NaN}}]}', "NaN is not a finite number"),
        (
            json.dumps({"benchmarks": [{"name": "n", "stats": {"median": 0}}], "commit_info": {}}),
            "n: a median of 0 s",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_by_its_field(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(RecordError, match=message):
        read(tmp_path / "x.json")
