"""Two runs compared: each word for how a case ended, the interval that decides, and the command with its exit codes."""

import io
import math
import subprocess

import numpy as np
import pytest

from harness.analysis.compare import markdown
from harness.analysis.compare.attempts import standing
from harness.analysis.compare.difference import difference
from harness.analysis.compare.runs import Change, Comparison, compare_runs
from harness.commands.main import main
from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.record import Failure, Provenance, Record, Series
from harness.records.run_file import RunWriter, run_path
from harness.records.stack_name import StackNames

RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.0, noise=1.0, limit=1.0),))
PROCESSES, BLOCKS = 5, 20


@pytest.fixture
def case(make_case):
    timing = make_case().timing.model_copy(update={"processes": PROCESSES, "margin": 0.01})
    return make_case(timing=timing)


@pytest.fixture
def make_record(case, environment):
    def make(status="passed", candidate_ms=2.0, seed=0, timed=True, **changes):
        ends = {"skipped": {"reason": "no GPU"}, "lost": {"reason": "no shard recorded it"}}
        if status == "crashed":
            ends["crashed"] = {"error": Failure(kind="ValueError", message="a | b <script>", traceback="")}
        passed = {"parity": RIGHT, "series": samples(candidate_ms, seed) if timed else ()}
        fields = {
            "run": "r",
            "plan": "p",
            "case": case,
            "key": case.key,
            "status": status,
            "started_at": "2025-01-01T00:00:00+00:00",
            "wall_s": 1.0,
            "environment": environment,
        }
        return Record(**(fields | (passed if status == "passed" else ends.get(status, {})) | changes))

    return make


def samples(candidate_ms, seed, arms=("candidate", "again", "reference")):
    rng = np.random.default_rng(seed)
    return tuple(
        Series(
            arm=arm,
            phase="decode",
            process=process,
            samples_ms=tuple((4.0 if arm == "reference" else candidate_ms) * np.exp(rng.normal(0, 0.002, BLOCKS))),
            blocks=tuple(range(BLOCKS)),
        )
        for process in range(PROCESSES)
        for arm in arms
    )


def only(found):
    (item,) = (*found.changes, *found.apart)
    return item


def compared(base, head):
    return compare_runs(*(standing([record] if record else []) for record in (base, head)))


@pytest.mark.parametrize(
    ("head_ms", "verdict", "code"),
    [(2.1, "slower", 1), (2.0, "same", 0), (1.9, "faster", 0), (2.02, "inconclusive", 3)],
)
def test_a_change_of_speed_has_its_verdict_interval_and_exit_code(make_record, head_ms, verdict, code):
    found = compared(make_record(), make_record(candidate_ms=head_ms, seed=1))
    change = only(found)
    assert isinstance(change, Change)
    assert (change.estimate.verdict, found.exit_code) == (verdict, code)
    assert change.estimate.low < 2.0 / head_ms < change.estimate.high


@pytest.mark.parametrize(
    ("before", "after", "word", "code"),
    [
        ("passed", "crashed", "introduced", 1),
        (None, "crashed", "introduced", 1),
        ("crashed", "passed", "fixed", 0),
        ("passed", None, "lost", 1),
        ("passed", "lost", "lost", 1),
        ("passed", "skipped", "lost", 1),
        ("crashed", "lost", "lost", 1),
        (None, "passed", "added", 3),
        ("skipped", "passed", "added", 3),
        ("crashed", "crashed", "not comparable", 3),
        ("lost", "lost", "not comparable", 3),
    ],
)
def test_ends_without_a_speed_are_kept_apart(make_record, before, after, word, code):
    found = compared(*(make_record(status) if status else None for status in (before, after)))
    assert (only(found).word, found.exit_code) == (word, code)


def test_a_case_that_is_right_and_untimed_in_both_is_held(make_record):
    found = compared(make_record(timed=False), make_record(timed=False))
    assert (only(found).word, found.exit_code) == ("held", 0)


def test_a_case_that_is_skipped_in_both_is_not_shown_and_decides_nothing(make_record):
    found = compared(make_record("skipped"), make_record("skipped"))
    assert (found.changes, found.apart, found.exit_code) == ((), (), 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"driver": "2"}, "different machines or versions: driver"),
        ({"packages": {"torch": "9"}}, "different machines or versions: packages"),
        ({"dirty": True}, "not committed"),
    ],
)
def test_what_cannot_be_compared_says_why(make_record, environment, change, reason):
    base = make_record(environment=environment.model_copy(update=change))
    item = only(compared(base, make_record()))
    assert item.word == "not comparable"
    assert reason in item.reason


def test_without_a_reference_in_both_nothing_is_compared(make_record):
    alone = make_record(series=samples(2.0, 0, arms=("candidate", "again")))
    assert "the reference was not timed in both" in only(compared(alone, make_record())).reason


def test_few_processes_give_no_verdict(make_record):
    few = make_record(series=samples(3.0, 0)[:6])
    estimate = only(compared(make_record(), few)).estimate
    assert (estimate.verdict, estimate.reasons) == (
        "inconclusive",
        ("HEAD: 2 of the 3 processes that a verdict needs",),
    )


def test_a_checkpoint_of_unknown_content_is_known_by_its_path(make_record, case):
    at = case.model_copy(update={"weights": "checkpoints/a"})
    told = Provenance(hf_config="c", kernel_sources="k", checkpoint="1" * 64)
    old, new = (make_record(case=at, key=at.key, provenance=held) for held in (None, told))
    replaced = new.model_copy(update={"provenance": told.model_copy(update={"checkpoint": "2" * 64})})
    assert only(compared(old, new)).estimate.verdict == "same"
    assert {item.word for item in compared(new, replaced).apart} == {"lost", "added"}


def test_a_side_that_is_disturbed_makes_the_change_invalid(make_record):
    unlike = samples(2.0, 0, arms=("candidate", "reference")) + tuple(
        series.model_copy(update={"arm": "again"}) for series in samples(3.0, 1, arms=("candidate",))
    )
    estimate = only(compared(make_record(), make_record(series=unlike))).estimate
    assert estimate.verdict == "invalid"
    assert "HEAD: the candidate differs from itself" in estimate.reasons[0]


def test_the_interval_covers_what_differs_between_processes():
    """Blocks within a process agree to 0.2 %, processes differ by 0.7 %: equal code must hardly ever be called."""
    rng = np.random.default_rng(5)
    trials, alarms, covered = 300, 0, 0
    for _ in range(trials):
        base, head = (
            {p: center + rng.normal(0, 0.002, BLOCKS) for p, center in enumerate(rng.normal(0, 0.007, PROCESSES))}
            for _ in range(2)
        )
        found = difference(base, head, margin=0.01)
        alarms += found.verdict in ("faster", "slower")
        covered += found.low <= 1 <= found.high
    assert alarms <= 1
    assert covered >= 0.97 * trials


def test_the_largest_effect_comes_first(make_record, case):
    heads = {}
    for seed, ms in enumerate((2.0, 2.4, 1.8)):
        one = case.model_copy(update={"seed": seed})
        heads[one.key] = make_record(case=one, key=one.key, candidate_ms=ms, seed=seed)
    bases = {key: record.model_copy(update={"series": samples(2.0, 9)}) for key, record in heads.items()}
    found = compare_runs(bases, heads)
    assert [round(math.exp(change.effect), 1) for change in found.changes] == [1.2, 1.1, 1.0]


def test_markdown_stays_under_its_limit_and_counts_what_it_leaves_out(make_record):
    one = only(compared(make_record(), make_record(candidate_ms=2.2, seed=1)))
    text = markdown.render(Comparison((one,) * 5000, ()), "a", "b")
    assert len(text.encode()) < 65_000
    shown = text.count("| **slower** |")
    assert 100 < shown < 5000
    assert "more lines were left out" in text
    assert text.splitlines()[2] == "5000 slower."


def test_markdown_names_a_stack_shortly_and_tells_its_members_below(make_record):
    names = StackNames({"toy": ("rotary",)})
    text = markdown.render(compared(make_record(), make_record(candidate_ms=2.1, seed=1)), "a", "b", names=names)
    assert "| toy/tiny full on cpu smoke | decode |" in text
    assert text.endswith("- full of toy is rotary\n")


def test_markdown_cannot_be_broken_by_an_exception(make_record):
    text = markdown.render(compared(make_record(), make_record("crashed")), "<b>|", "`head`")
    assert "crashed: a \\| b &lt;script&gt;" in text
    assert "### \\`head\\` against &lt;b&gt;\\|" in text


@pytest.fixture
def repository(tmp_path, make_record, case, environment):
    """A git repository with records of its two commits: BASE at 2.0 ms, HEAD at 2.2 ms. Gives (folder, commits)."""
    commits = []
    git = ("git", "-c", "user.name=n", "-c", "user.email=e")
    subprocess.run([*git, "init", "-q", str(tmp_path)], check=True)
    for number, ms in enumerate((2.0, 2.2)):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", str(number)], cwd=tmp_path, check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True)
        commits.append(commit.stdout.strip())
        plan, run = Plan(cases=(case,), skipped=()), f"20250101-{commits[-1][:8]}-a"
        measured = environment.model_copy(update={"commit": commits[-1]})
        record = make_record(run=run, plan=plan.hash, candidate_ms=ms, seed=number, environment=measured)
        with RunWriter(run_path(tmp_path / "results", "cpu", run), run, plan) as writer:
            writer.append(record)
    return tmp_path, commits


def run_main(*arguments):
    out, err = io.StringIO(), io.StringIO()
    return main(["compare", *map(str, arguments)], out, err), out.getvalue(), err.getvalue()


def test_the_command_takes_commits_names_files_and_folders(repository):
    folder, (base, head) = repository
    results = folder / "results"
    files = [results / "cpu" / f"20250101-{commit[:8]}-a.jsonl" for commit in (base, head)]
    for pair in ((base, head), (base[:10], head[:10]), [file.stem for file in files], files):
        code, out, _ = run_main(*pair, f"out={results}")
        assert code == 1
        assert "1 slower." in out
    assert run_main(results, results)[0] == 0


def test_the_command_writes_what_it_prints(repository):
    folder, (base, head) = repository
    code, out, _ = run_main(head, base, f"out={folder / 'results'}", f"markdown={folder / 'comment.md'}")
    assert code == 0
    assert "**faster**" in (folder / "comment.md").read_text() == out


def test_one_file_of_many_that_cannot_be_trusted_is_set_aside_by_name(repository):
    folder, _ = repository
    results = folder / "results"
    (results / "cpu" / "20250102-edited-a.jsonl").write_text("{}\n")
    code, out, err = run_main(results, results, f"out={results}")
    assert "1 same." in out
    assert (code, err.count("set aside: 20250102-edited-a.jsonl line 1")) == (3, 1)
    code, out, err = run_main(results, results, f"out={results}", "strict=true")
    assert (code, out) == (2, "")
    assert "20250102-edited-a.jsonl line 1" in err
    assert run_main(results / "cpu" / "20250102-edited-a.jsonl", results, f"out={results}")[0] == 2


def test_what_is_no_run_is_one_line_and_exit_code_two(repository):
    folder, (base, _) = repository
    code, _, err = run_main(base, "nothing", f"out={folder / 'results'}")
    assert code == 2
    assert err.startswith("error: no file, folder, run or commit 'nothing' under ")
    assert err.count("\n") == 1
