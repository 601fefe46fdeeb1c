"""Two revisions of a real git repository measured in turns, and the slow commit found by git's own bisect.

What is measured is a stand-in with a known time; work trees, processes, order, judgment and exit codes are real.
"""

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.compare import bisect, live
from harness.compare.__main__ import main

STAND_IN = Path(__file__).with_name("stand_in_revision.py")
ROUNDS = 8


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Five commits whose candidate takes 2 ms, the last two of them 5 % more. Gives (folder, commits)."""
    folder = tmp_path_factory.mktemp("repository")
    package = folder / "harness"
    package.mkdir()
    (package / "__init__.py").write_text(f"__path__.append({str(STAND_IN.parents[1])!r})\n")
    shutil.copy(STAND_IN, package / "__main__.py")
    git = ("git", "-c", "user.name=n", "-c", "user.email=e")
    subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
    commits = []
    for number, ms in enumerate((2.0, 2.0, 2.0, 2.1, 2.1)):
        (package / "candidate_ms").write_text(str(ms))
        (folder / "number").write_text(str(number))
        subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
        subprocess.run([*git, "commit", "-q", "-m", str(number)], cwd=folder, check=True)
        commits.append(
            subprocess.run([*git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True).stdout.strip()
        )
    return folder, commits


def run_main(folder, *arguments, overrides=("+model=toy",)):
    out, err = io.StringIO(), io.StringIO()
    words = ["--live", "--repository", str(folder), "--rounds", str(ROUNDS), *arguments, "--", *overrides]
    return main(words, out, err), out.getvalue(), err.getvalue()


def work_trees(folder):
    listed = subprocess.run(["git", "worktree", "list"], cwd=folder, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def test_a_slowdown_of_five_percent_is_slower_with_its_interval(repository):
    folder, commits = repository
    found = live.run(folder, commits[0], "HEAD", ("+model=toy",), ROUNDS)
    (change,) = found.changes
    assert (change.estimate.verdict, change.estimate.n, found.exit_code) == ("slower", ROUNDS, 1)
    assert change.estimate.low < 2.0 / 2.1 < change.estimate.high
    assert change.estimate.high - change.estimate.low < 0.02
    assert len(work_trees(folder)) == 1


def test_the_command_exits_zero_on_equal_speed(repository):
    folder, commits = repository
    code, out, _ = run_main(folder, commits[0], commits[1])
    assert code == 0
    assert "1 same." in out


def test_rounds_with_a_disturbed_side_are_left_out_and_too_many_make_it_invalid(repository):
    folder, commits = repository
    (change,) = live.run(folder, commits[0], commits[4], ("+model=toy", "throttled"), ROUNDS).changes
    assert change.estimate.verdict == "invalid"
    assert change.estimate.n == ROUNDS - 3
    assert "3 of 8 rounds were disturbed" in change.estimate.reasons[-1]


def test_bisect_finds_the_commit_and_leaves_the_checkout_alone(repository):
    folder, commits = repository
    log = io.StringIO()
    assert bisect.bisect(folder, commits[0], commits[4], ("+model=toy",), ROUNDS, log) == commits[3]
    assert "is the first bad commit" in log.getvalue()
    assert len(work_trees(folder)) == 1
    assert (folder / "number").read_text() == "4"


@pytest.mark.parametrize(
    ("arguments", "overrides", "message"),
    [
        (("nothing", "HEAD"), ("+model=toy",), "'nothing' is no revision"),
        (("HEAD", "HEAD"), ("+model=other",), "python -m harness +model=other in base: error: no such model"),
        (("HEAD", "HEAD"), (), "--live measures what follows `--`"),
        (("HEAD", "HEAD", "--rounds", "7"), ("+model=toy",), "7 rounds: a 99 % interval needs 8"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(repository, arguments, overrides, message):
    code, _, err = run_main(repository[0], *arguments, overrides=overrides)
    assert code == 2
    assert message in err
    assert run_main(repository[0], *arguments, "--bisect-step", overrides=overrides)[0] == bisect.ABORT
