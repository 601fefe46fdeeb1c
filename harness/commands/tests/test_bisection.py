"""A bisection on simulated rounds with a known truth: what it finds, what it skips, and what it never says.

A search asks `step` in the order in which git asks of a straight history. The steps of the command line measure work
trees of a real repository, whose processes alone are simulated.
"""

import io
import math
import subprocess
import zlib
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import pytest

from harness.analysis.compare.estimate import of_pairs
from harness.analysis.compare.runs import Change, Comparison, NotComparable
from harness.commands import bisect, bisect_step, compare_live
from harness.commands.main import main
from harness.commands.tests import stand_in_revision
from harness.errors import UserError
from harness.records.checks import Check, Parity

ROUNDS = 10
MARGIN = 0.02
COMMITS = 16
EFFECT = math.log1p(-0.05)
SEEDS = 1000
FAILED = Comparison((), (NotComparable("key", "label", "introduced", "failed: wrong logits"),))


@dataclass(frozen=True)
class Machine:
    """What disturbs the log ratio of a round, each as the standard deviation of it unless it says otherwise."""

    noise: float = 0.02
    drift: float = 0.0
    """Of the random walk of the machine's pace from round to round: what its second process is slower by."""
    outliers: float = 0.0
    """Share of rounds in which one side is late by an exponential of mean 0.1."""

    def rounds(self, rng, effect, count):
        first = rng.choice([-1, 1], count)
        ratios = effect + rng.normal(0, self.noise, count) + first * rng.normal(0, self.drift, count).cumsum()
        late = np.where(rng.random(count) < self.outliers, rng.exponential(0.1, count), 0)
        return ratios + rng.choice([-1, 1], count) * late


MACHINES = {
    "noise": Machine(),
    "drift": Machine(drift=0.002),
    "outliers": Machine(outliers=0.05),
    "all": Machine(drift=0.002, outliers=0.05),
}
ALL = MACHINES["all"]


def looks(rng, effect, machine=ALL):
    """What the rounds of a commit say at each look, in logs `effect` from the good end."""
    ratios = machine.rounds(rng, effect, bisect_step.rounds_at(ROUNDS)[-1])
    for count in bisect_step.rounds_at(ROUNDS):
        yield _compared(of_pairs(list(ratios[:count]), MARGIN, bisect_step.CONFIDENCE))


def _compared(*estimates):
    changes = tuple(Change(str(i), "label", "decode", 1.0, 1.0, found) for i, found in enumerate(estimates))
    return Comparison(changes, ())


def search(effect, asked):
    """The first bad of commits 1 to COMMITS, None when skipped ones leave more than one; and every answer."""
    good, bad, skipped, answers = 0, COMMITS, set(), []
    while untried := [commit for commit in range(good + 1, bad) if commit not in skipped]:
        commit = min(untried, key=lambda commit: abs(commit - (good + bad) / 2))
        answers.append(bisect_step.answer(asked(commit), "decode", effect))
        if answers[-1].side == "skip":
            skipped.add(commit)
        elif answers[-1].side == "bad":
            bad = commit
        else:
            good = commit
    return (bad if bad - good == 1 else None), answers


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_the_planted_commit_is_found_and_no_other(machine):
    rng = np.random.default_rng(0)
    found, rounds = [], []
    for _ in range(SEEDS):
        planted = int(rng.integers(1, COMMITS + 1))
        try:
            effect = bisect_step.ends(looks(rng, EFFECT, machine), "decode")
        except UserError:
            continue
        commit, answers = search(
            effect.speedup, lambda at, planted=planted: looks(rng, EFFECT * (at >= planted), machine)
        )
        found.append(commit and commit == planted)
        rounds += [answer.found.n for answer in answers]
    right, wrong = found.count(True), found.count(False)
    assert right >= 0.95 * SEEDS
    assert wrong <= 0.01 * SEEDS
    assert fmean(rounds) <= 2.5 * ROUNDS


def test_a_commit_at_half_of_the_effect_is_skipped_not_guessed():
    rng = np.random.default_rng(1)
    answers = [bisect_step.answer(looks(rng, EFFECT / 2), "decode", math.exp(EFFECT)) for _ in range(SEEDS)]
    sides = [answer.side for answer in answers]
    assert sides.count("skip") >= 0.98 * SEEDS
    skipped = answers[sides.index("skip")]
    assert str(skipped).endswith("), 40 rounds: skip, not told from 0.975x")


@pytest.mark.parametrize("effect", [0.0, 0.05, -0.01])
def test_no_step_is_refused(effect):
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(SEEDS):
        try:
            bisect_step.ends(looks(rng, effect), "decode")
        except UserError as error:
            refused += 1
            message = str(error)
    assert refused >= 0.99 * SEEDS
    assert "no step that so many rounds can find on this machine" in message


def test_ends_are_measured_until_half_of_their_effect_is_sure():
    upcast = [math.log(0.9) + 0.07 * (-1) ** i for i in range(ROUNDS)]
    narrow = [math.log(0.9) + 0.001 * (-1) ** i for i in range(ROUNDS)]
    first, second = (of_pairs(ratios, MARGIN, bisect_step.CONFIDENCE) for ratios in (upcast, narrow))
    assert (first.verdict, second.verdict) == ("slower", "slower")
    assert bisect_step.ends([_compared(first), _compared(second)], "decode") == second


def test_a_look_with_too_many_disturbed_rounds_decides_nothing():
    clear = of_pairs([EFFECT] * ROUNDS, MARGIN, bisect_step.CONFIDENCE)
    disturbed = replace(clear, verdict="invalid", reasons=("3 of 10 rounds were disturbed",))
    assert bisect_step.answer([_compared(disturbed), _compared(clear)], "decode", math.exp(EFFECT)).side == "bad"
    skipped = bisect_step.answer([_compared(disturbed)], "decode", math.exp(EFFECT))
    assert (skipped.side, skipped.reason) == ("skip", "3 of 10 rounds were disturbed")


def test_a_failing_commit_is_skipped_and_the_search_goes_round_it():
    rng = np.random.default_rng(3)
    failing, planted = COMMITS // 2, COMMITS // 2 + 3
    commit, answers = search(
        math.exp(EFFECT), lambda at: [FAILED] if at == failing else looks(rng, EFFECT * (at >= planted))
    )
    assert commit == planted
    assert [str(answer) for answer in answers if answer.found is None] == ["skip, failed: wrong logits"]
    beside, _ = search(math.exp(EFFECT), lambda at: [FAILED] if at == failing else looks(rng, EFFECT * (at > failing)))
    assert beside is None


def test_several_cases_are_a_mistake_and_ends_without_a_speed_too():
    found = of_pairs([EFFECT] * ROUNDS, MARGIN, bisect_step.CONFIDENCE)
    with pytest.raises(UserError, match="2 cases were measured: a bisection asks of one"):
        bisect_step.answer([_compared(found, found)], "decode", 0.95)
    with pytest.raises(UserError, match="cannot be compared: failed: wrong logits"):
        bisect_step.ends([FAILED], "decode")
    with pytest.raises(UserError, match="cannot be compared: prefill was not timed"):
        bisect_step.ends([_compared(found)], "prefill")


def test_the_looks_share_one_percent():
    assert bisect_step.rounds_at(10) == (10, 20, 30, 40)
    assert pytest.approx(0.01) == bisect_step.LOOKS * (1 - bisect_step.CONFIDENCE)
    assert math.isinf(of_pairs([0.1] * 9, MARGIN, bisect_step.CONFIDENCE).high)
    assert math.isfinite(of_pairs([0.1] * 10, MARGIN, bisect_step.CONFIDENCE).high)


TIMES_MS = {"good": 2.0, "near": 2.01, "half": 2.05, "bad": 2.1, "slower": 2.2, "wrong": 2.0, "disturbed": 2.1}
WRONG = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=2.0, noise=1.0, limit=1.0),))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A commit for each of TIMES_MS, tagged with its name."""
    folder = tmp_path_factory.mktemp("repository")
    git = ("git", "-c", "user.name=n", "-c", "user.email=e")
    subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
    for name, ms in TIMES_MS.items():
        (folder / "decode_ms").write_text(str(ms))
        (folder / "name").write_text(name)
        subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
        subprocess.run([*git, "commit", "-q", "-m", name], cwd=folder, check=True)
        subprocess.run([*git, "tag", name], cwd=folder, check=True)
    return folder


@pytest.fixture
def simulated(monkeypatch):
    """Processes are simulated, with 2 % of noise a round."""

    def measure(tree, folder):
        rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
        name = (tree / "name").read_text()
        times = {phase: ms * math.exp(rng.normal(0, 0.014)) for phase, ms in stand_in_revision.times_ms(tree).items()}
        record = stand_in_revision.record(times, rng, machine=rng.normal(1, 0.05), throttled=name == "disturbed")
        if name == "wrong":
            record = record.model_copy(update={"status": "failed", "parity": WRONG, "series": (), "blocks": ()})
        return {record.key: record}

    def command(words):
        if "+bug=1" in words:
            raise ZeroDivisionError("a bug")
        return measure

    monkeypatch.setattr(compare_live, "command", command)


@pytest.fixture
def run(repository, simulated):
    """`run(*arguments)`: the command line's exit code, output and errors."""

    def run(*arguments, after=("+model=toy",)):
        out, err = io.StringIO(), io.StringIO()
        words = ["compare", f"repository={repository}", *arguments, *after]
        return main(words, out, err), out.getvalue(), err.getvalue()

    return run


STEP = ("bisect_step=decode", "effect=0.952381")
ENDS = "live=good,bad"


@pytest.mark.parametrize(
    ("commit", "code", "end"),
    [
        ("near", 0, "good"),
        ("bad", 1, "bad"),
        ("slower", 1, "bad"),
        ("half", 125, "40 rounds: skip, not told from 0.976x"),
        ("wrong", 125, "  skip, failed"),
        (
            "disturbed",
            125,
            "  no round that counts: skip, no pair of samples was kept; 40 of 40 rounds were disturbed: more than 20%",
        ),
    ],
)
def test_a_step_answers_in_one_line_and_with_the_exit_code_that_git_knows(run, repository, commit, code, end):
    found, out, err = run(*STEP, f"live=good,{commit}")
    hash_ = subprocess.run(["git", "rev-parse", commit], cwd=repository, capture_output=True, text=True).stdout
    assert (found, err) == (code, "")
    assert out.startswith(f"{hash_[:12]}  ")
    assert out.endswith(f"{end}\n")
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ENDS, "bisect_step=decode"), "a step of a bisection is compare live=GOOD,COMMIT bisect_step=PHASE effect=X"),
        (("bisect_step=decode", "effect=0.95"), "a step of a bisection is compare live=GOOD,COMMIT"),
        (
            (ENDS, *STEP[:-1], "effect=1.05"),
            "effect=1.05: the bad end's speed over the good one's lies between",
        ),
        ((ENDS, *STEP, "markdown=a.md"), "writes no markdown=FILE"),
        ((ENDS, *STEP, "rounds=7"), "7 rounds: a 99 % interval needs 8"),
        ((ENDS, "bisect_step=idle", "effect=0.95"), "bisect_step=idle: must be one of prefill, decode"),
    ],
)
def test_a_mistake_in_a_step_ends_the_bisection(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (bisect.ABORT, "")
    assert message in err


def test_an_effect_without_a_step_is_a_mistake(run):
    assert run(ENDS, "effect=0.95")[0] == 2


def test_a_bug_in_a_step_blames_no_commit(run):
    with pytest.raises(SystemExit) as ended:
        run(*STEP, ENDS, after=("+model=toy", "+bug=1"))
    assert ended.value.code == bisect.ABORT


def test_ends_without_a_step_are_refused_before_a_commit_is_asked(simulated, repository):
    told = r"the bad end reads \S+x of good \(.*\), \d+ rounds: no step that so many"
    with pytest.raises(UserError, match=told):
        bisect.bisect(repository, "good", "near", "decode", ("+model=toy",), ROUNDS, io.StringIO())
    worktrees = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True).stdout
    assert len(worktrees.splitlines()) == 1
