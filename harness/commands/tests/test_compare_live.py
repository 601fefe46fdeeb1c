"""Two revisions of a real git repository measured in turns, and the slow commit found by git's own bisect.

What is measured is a stand-in with a known time; work trees, processes, order, judgment and exit codes are real.
"""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.commands import bisect, compare_live
from harness.commands.main import main

STAND_IN = Path(__file__).with_name("stand_in_revision.py")
ROUNDS = 8
FIRST_LOOK = 10
"""Rounds of a look of a bisection: the fewest that can decide."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Five commits whose candidate takes 2 ms, the last two of them 5 % more. Gives (folder, commits)."""
    return _repository(tmp_path_factory.mktemp("repository"), decode=(2.0, 2.0, 2.0, 2.1, 2.1))


def _repository(folder, **phases_ms):
    package = folder / "harness"
    package.mkdir()
    (package / "__init__.py").write_text(f"__path__.append({str(STAND_IN.parents[2])!r})\n")
    shutil.copy(STAND_IN, package / "__main__.py")
    git = ("git", "-c", "user.name=n", "-c", "user.email=e")
    subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
    commits = []
    for number, times in enumerate(zip(*phases_ms.values(), strict=True)):
        for phase, ms in zip(phases_ms, times, strict=True):
            (package / f"{phase}_ms").write_text(str(ms))
        (folder / "number").write_text(str(number))
        subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
        subprocess.run([*git, "commit", "-q", "-m", str(number)], cwd=folder, check=True)
        commits.append(
            subprocess.run([*git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True).stdout.strip()
        )
    return folder, commits


def run_main(folder, base, head, *options, overrides=("+model=toy",), rounds=ROUNDS):
    out, err = io.StringIO(), io.StringIO()
    words = ["compare", f"live={base},{head}", f"repository={folder}", f"rounds={rounds}", *options, *overrides]
    return main(words, out, err), out.getvalue(), err.getvalue()


def work_trees(folder):
    listed = subprocess.run(["git", "worktree", "list"], cwd=folder, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def test_a_slowdown_of_five_percent_is_slower_with_its_interval(repository):
    folder, commits = repository
    found = compare_live.run(folder, commits[0], "HEAD", ("+model=toy",), ROUNDS, print)
    (change,) = found.changes
    assert (change.estimate.verdict, change.estimate.n, found.exit_code) == ("slower", ROUNDS, 1)
    assert change.estimate.low < 2.0 / 2.1 < change.estimate.high
    assert change.estimate.high - change.estimate.low < 0.02
    assert len(work_trees(folder)) == 1


def test_the_command_exits_zero_on_equal_speed(repository):
    folder, commits = repository
    code, out, err = run_main(folder, commits[0], commits[1])
    assert code == 0
    assert "1 same." in out
    told = err.splitlines()
    assert told[0] == f"work trees of {commits[0]} and {commits[1]}"
    assert told[1] in ("round 1 of 8: base, then head", "round 1 of 8: head, then base")
    assert len(told) == 1 + ROUNDS
    assert "round 8 of 8, under a minute left: " in told[-1]


@pytest.mark.parametrize("knows", [True, False])
def test_a_tree_is_proven_once_and_then_timed_where_it_knows_how(knows, tmp_path, monkeypatch):
    tree, told = tmp_path / "tree", tmp_path / "words"
    (tree / "harness").mkdir(parents=True)
    (tree / "harness" / "__init__.py").write_text(f"__path__.append({str(STAND_IN.parents[2])!r})\n")
    shutil.copy(STAND_IN, tree / "harness" / "__main__.py")
    (tree / "harness" / "decode_ms").write_text("2.0")
    (tree / "conf").mkdir()
    (tree / "conf" / "config.yaml").write_text("resume: auto\n" + "proof: null\n" * knows)
    monkeypatch.setenv("STAND_IN_WORDS", str(told))
    measure = compare_live.command(("+model=toy", "timing=standard"))
    assert len(measure(tree, tmp_path / "base-0")) == len(measure(tree, tmp_path / "base-1")) == 1
    asked = [[word for word in line.split() if word.startswith(("timing=", "proof="))] for line in told.open()]
    if not knows:
        assert asked == [["timing=standard"]] * 2
        return
    (proof,) = (tmp_path / "base-0" / "proof").rglob("*.jsonl")
    assert asked == [["timing=off"], *[["timing=standard", f"proof={proof}"]] * 2]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_one_line_says_what_is_done(repository):
    folder, commits = repository
    err = Terminal()
    words = ["compare", f"live={commits[0]},{commits[1]}", f"repository={folder}", f"rounds={ROUNDS}", "+model=toy"]
    assert main(words, io.StringIO(), err) == 0
    assert "round 2 of 8" in err.getvalue()


def test_rounds_with_a_disturbed_side_are_left_out_and_too_many_make_it_invalid(repository):
    folder, commits = repository
    (change,) = compare_live.run(folder, commits[0], commits[4], ("+model=toy", "throttled"), ROUNDS, print).changes
    assert change.estimate.verdict == "invalid"
    assert change.estimate.n == ROUNDS - 3
    assert "3 of 8 rounds were disturbed" in change.estimate.reasons[-1]


def test_bisect_finds_the_commit_and_leaves_the_checkout_alone(repository):
    folder, commits = repository
    log = io.StringIO()
    found = bisect.bisect(folder, commits[0], commits[4], "decode", ("+model=toy",), FIRST_LOOK, log)
    assert found.commit == commits[3]
    assert found.effect.low < 2.0 / 2.1 < found.effect.high
    told = [line for line in log.getvalue().splitlines() if "x of good (" in line]
    assert [(line[:12], line.rpartition(": ")[2]) for line in told] == [
        (commits[4][:12], "the bad end"),
        (commits[2][:12], "good"),
        (commits[3][:12], "bad"),
    ]
    assert all(f"), {FIRST_LOOK} rounds: " in line for line in told)
    assert "is the first bad commit" in log.getvalue()
    assert log.getvalue().endswith("\n")
    assert "round 1 of" not in log.getvalue()
    assert len(work_trees(folder)) == 1
    assert (folder / "number").read_text() == "4"


def test_a_commit_that_made_another_phase_slower_is_not_blamed(tmp_path):
    folder, commits = _repository(tmp_path, decode=(2.0, 2.0, 2.1), prefill=(3.0, 3.15, 3.15))
    words = ("+model=toy",), FIRST_LOOK, io.StringIO()
    assert bisect.bisect(folder, commits[0], commits[2], "decode", *words).commit == commits[2]


def test_one_commit_between_the_ends_is_found_by_comparing_the_ends(repository):
    folder, commits = repository
    log = io.StringIO()
    found = bisect.bisect(folder, commits[2], commits[3], "decode", ("+model=toy",), FIRST_LOOK, log)
    assert found.commit == commits[3]
    assert log.getvalue().count("x of good (") == 1


@pytest.mark.parametrize(
    ("head", "overrides", "rounds", "message"),
    [
        ("nothing", ("+model=toy",), ROUNDS, "'nothing' is no revision"),
        ("HEAD", ("+model=other",), ROUNDS, "python -m harness +model=other in base: error: no such model"),
        ("HEAD", (), ROUNDS, "live=BASE,HEAD measures a case: add +model=NAME"),
        ("HEAD", ("+model=toy",), 7, "7 rounds: a 99 % interval needs 8"),
        ("a,b", ("+model=toy",), ROUNDS, "'a,b' is no revision"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(repository, head, overrides, rounds, message):
    code, _, err = run_main(repository[0], "HEAD", head, overrides=overrides, rounds=rounds)
    assert code == 2
    assert message in err
    step = ("bisect_step=decode", "effect=0.95")
    assert run_main(repository[0], "HEAD", head, *step, overrides=overrides, rounds=rounds)[0] == bisect.ABORT


@pytest.fixture
def interrupt(repository, tmp_path):
    """A function: command and signal to (exit code, stderr), the signal sent while a revision is measured."""

    def run(words, number):
        pid = tmp_path / "pid"
        (tmp_path / "made").mkdir()
        told = {"STAND_IN_PID": str(pid), "TMPDIR": str(tmp_path / "made"), "PYTHONPATH": str(STAND_IN.parents[2])}
        child = subprocess.Popen([sys.executable, *words], env=os.environ | told, stderr=subprocess.PIPE, text=True)
        limit = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()) and time.monotonic() < limit and child.poll() is None:
            time.sleep(0.05)
        assert len(work_trees(repository[0])) > 1
        child.send_signal(number)
        err = child.communicate(timeout=60)[1]
        assert list((tmp_path / "made").iterdir()) == []
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)
        return child.returncode, err

    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_removes_the_work_trees_and_ends_what_measured(repository, interrupt, number):
    folder, commits = repository
    words = ["-m", "harness", "compare", f"live={commits[0]},HEAD", f"repository={folder}"]
    code, err = interrupt([*words, "+model=toy", "+waits=all"], number)
    assert code == 128 + number
    assert err.splitlines()[1].startswith("round 1 of 10: ")
    assert err.splitlines()[-1].startswith(f"interrupted by {number.name}: nothing was compared")
    assert len(work_trees(folder)) == 1


@pytest.mark.parametrize("waits", ["+waits=all", "+waits=2"])
def test_a_signal_removes_the_work_trees_of_a_bisection_and_of_its_steps(repository, interrupt, waits):
    """While its ends are measured, and in a step, which measures the commit in the middle."""
    folder, commits = repository
    code = (
        "import sys; from pathlib import Path; from harness.commands import bisect; "
        "from harness.analysis.compare.interruption import Interrupted, interruptible\n"
        "try:\n    with interruptible():\n"
        f"        bisect.bisect(Path({str(folder)!r}), {commits[0]!r}, 'HEAD', 'decode', ['+model=toy', {waits!r}], "
        f"{FIRST_LOOK}, sys.stderr)\n"
        "except Interrupted as error: sys.exit(error.exit_code)"
    )
    assert interrupt(["-c", code], signal.SIGTERM)[0] == 128 + signal.SIGTERM
    assert len(work_trees(folder)) == 1
    assert (folder / "number").read_text() == "4"
