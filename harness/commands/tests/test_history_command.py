"""`python -m harness history` on a store of 34 nights, the last four of them 6 % slower."""

import io
import math
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.compare.estimate import of_pairs
from harness.analysis.history import accepted, nightly_series
from harness.commands import history as command
from harness.commands.answers import answered
from harness.commands.bisect import Found
from harness.records import store
from harness.records.case import Plan
from harness.records.case_identity import CaseIdentity
from harness.records.checks import Check, Parity
from harness.records.record import Record, Series
from harness.records.run_file import RunWriter, read_file, run_path
from harness.records.stack_name import StackNames

RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.0, noise=1.0, limit=1.0),))
NIGHTS, SLOW_FROM = 34, 30
FIRST = date(2030, 1, 1)
TODAY = FIRST + timedelta(NIGHTS)


def commit_of(number):
    return f"{number:08d}{'0' * 32}"


@pytest.fixture
def night(tmp_path, make_case, environment):
    """`night(number, candidate_ms)`: writes the run of one night; returns its case."""

    def night(number, candidate_ms, weights=None, hardware="cpu", parameters=None, asked=None, **changes):
        case = make_case(weights=weights, hardware=hardware, parameters=parameters or {}, **(asked or {}))
        day = FIRST + timedelta(number)
        commit = commit_of(number)
        rng = np.random.default_rng(number)
        reference_ms = 4.0 if hardware == "cpu" else 40.0 * rng.normal(1, 0.1)
        series = tuple(
            Series(arm=arm, phase="decode", process=0, samples_ms=tuple(ms * rng.normal(1, 0.002, 5)), blocks=range(5))
            for arm, ms in (("candidate", candidate_ms), ("again", candidate_ms), ("reference", reference_ms))
        )
        plan, run = Plan(cases=(case,), skipped=()), f"{day:%Y%m%d}-{commit[:8]}-a"
        record = Record(
            run=run,
            plan=plan.hash,
            case=case,
            key=case.key,
            status="passed",
            started_at=f"{day}T02:00:00+00:00",
            wall_s=1.0,
            environment=environment.model_copy(update={"commit": commit} | changes),
            parity=RIGHT,
            series=series,
        )
        with RunWriter(run_path(tmp_path, hardware, run), run, plan) as writer:
            writer.append(record)
        return case

    return night


@pytest.fixture
def slowed(night):
    """The history with its step; gives KEY:PHASE."""
    for number in range(NIGHTS):
        case = night(number, 2.0 if number < SLOW_FROM else 2.12)
    return f"{key(case)}:decode"


def key(case):
    return CaseIdentity.of_case(case).key


@pytest.fixture
def run(tmp_path):
    def run(*arguments, today=TODAY):
        out, err = io.StringIO(), io.StringIO()
        words = [f"out={tmp_path}", *map(str, arguments)]
        return answered(lambda: command.main(words, out, err, today), err), out.getvalue(), err.getvalue()

    return run


ACCEPT = ("owner=the kernel team", "reason=exact rounding", f"expires={TODAY + timedelta(30)}")


def test_an_alarm_has_its_commits_and_the_command_that_bisects(slowed, run):
    code, out, _ = run()
    assert code == 1
    assert out.startswith("SLOWER  toy/tiny rotary cpu smoke, decode")
    assert f"commits {commit_of(SLOW_FROM - 1)[:12]}..{commit_of(SLOW_FROM)[:12]}" in out
    assert f"since {FIRST + timedelta(SLOW_FROM)}T02:00" in out
    assert f"python -m harness history bisect={slowed}" in out
    assert out.endswith("1 series: 1 slower\n")


def test_an_alarm_names_a_stack_shortly_and_tells_its_members_below(slowed, run, monkeypatch):
    monkeypatch.setattr(command.registry, "stack_names", lambda models: StackNames({"toy": ("rotary",)}))
    lines = run()[1].splitlines()
    assert lines[0].startswith("SLOWER  toy/tiny full on cpu smoke, decode")
    assert lines[-2:] == ["`full` of toy is rotary", "1 series: 1 slower"]


def test_series_on_gpus_come_before_those_on_a_cpu(night, run):
    for number in range(3):
        night(number, 2.0)
        night(number, 2.0, hardware="h200")
    told = [line for line in run()[1].splitlines() if line.startswith("INSUFFICIENT HISTORY")]
    assert ["rotary h200" in line for line in told] == [True, False]


def test_an_accepted_step_is_quiet_until_it_expires(slowed, run, night):
    assert run(f"accept={slowed}", *ACCEPT)[0] == 0
    assert run()[0] == 3
    for number in range(NIGHTS, NIGHTS + 8):
        night(number, 2.12)
    assert run()[0] == 0
    code, out, _ = run(today=TODAY + timedelta(30))
    assert code == 1
    assert "SLOWER" in out


def test_an_acceptance_is_made_once_and_an_edited_one_is_refused(slowed, run, tmp_path):
    run(f"accept={slowed}", *ACCEPT)
    (path,) = (tmp_path / "accepted").iterdir()
    path.write_text(path.read_text().replace("exact rounding", "no reason"))
    code, _, err = run()
    assert code == 2
    assert f"{path.name}: edited" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs owner= reason= expires="),
        (("owner=  ", "reason=good", "expires=2031-01-01"), "at least 3 characters"),
        (("owner=me and you", "reason=good", "expires=2029-01-01"), "would accept nothing"),
    ],
)
def test_an_acceptance_without_owner_reason_or_future_is_refused(slowed, run, tmp_path, words, message):
    code, _, err = run(f"accept={slowed}", *words)
    assert code == 2
    assert message in err
    assert not (tmp_path / "accepted").exists()


def test_bisect_is_asked_with_the_last_good_and_first_bad_commit(slowed, run, monkeypatch):
    asked, effect = [], of_pairs([math.log(0.95)] * 10, 0.01)
    monkeypatch.setattr(command, "bisect", lambda *words: asked.append(words) or Found("f" * 40, effect))
    code, out, _ = run(f"bisect={slowed}", "rounds=8", "arm=reference")
    assert code == 0
    speed = "0.950x of good (0.950 to 0.950), 10 rounds"
    assert out == f"{'f' * 40} made toy/tiny rotary cpu smoke, decode slower: {speed}\n"
    _, good, bad, phase, overrides, rounds, _ = asked[0]
    assert (good, bad, phase, rounds) == (commit_of(SLOW_FROM - 1), commit_of(SLOW_FROM), "decode", 8)
    assert not any("weights" in word for word in overrides)
    assert overrides[:3] == ["+model=toy", "size=tiny", "optimization=[rotary]"]
    assert overrides[-1] == "arm=reference"


def test_a_history_of_a_checkpoint_is_bisected_with_the_checkpoint(night, tmp_path):
    for number in range(9):
        night(number, 2.0, weights="checkpoints/a")
    (series,) = nightly_series.series(store.load(tmp_path, **nightly_series.WHERE))
    assert "weights=checkpoints/a" in series.ask


def test_a_history_of_a_parameter_is_bisected_with_its_value(night, tmp_path):
    for number in range(9):
        night(number, 2.0, parameters={"rotary.rows": 8})
    (series,) = nightly_series.series(store.load(tmp_path, **nightly_series.WHERE))
    assert series.label == "toy/tiny rotary(rows=8) cpu smoke"
    assert series.ask[2:4] == ("optimization=[rotary]", "optimization.rotary.rows=8")


def test_a_steady_history_exits_zero(night, run):
    for number in range(20):
        night(number, 2.0)
    assert run()[:2] == (0, "1 series: 1 steady\n")


def test_a_short_history_is_told_and_is_no_pass(night, run):
    night(0, 2.0)
    code, out, _ = run()
    assert code == 3
    assert out.startswith("INSUFFICIENT HISTORY")


def test_a_record_that_a_merged_run_repeats_is_one_point(night, run, tmp_path):
    for number in range(6):
        night(number, 2.0)
    files = [read_file(path) for path in sorted(tmp_path.glob("cpu/*.jsonl"))]
    sources = tuple(file.run for file in files)
    with RunWriter(run_path(tmp_path, "cpu", "merged"), "merged", files[0].plan, sources=sources) as writer:
        for file in files:
            writer.append(file.records[0])
    assert "6 points of this machine" in run()[1]


def test_records_of_dirty_trees_are_no_points(night, run):
    for number in range(20):
        night(number, 2.0)
    for number in range(20, 24):
        night(number, 3.0, dirty=True)
    assert run()[0] == 0


def test_a_new_driver_starts_a_new_history(night, run):
    for number in range(20):
        night(number, 2.0)
    for number in range(20, 24):
        night(number, 3.0, driver="2")
    code, out, _ = run()
    assert code == 3
    assert "4 points of this machine" in out


def test_nights_of_other_seeds_and_arms_are_one_series(night, run):
    keys = {
        night(number, 2.0, asked={"seed": number, "arms": ("reference",) * (number % 3)}).key for number in range(20)
    }
    assert len(keys) == 20
    assert run()[:2] == (0, "1 series: 1 steady\n")


def test_on_a_gpu_the_candidate_is_held_to_its_own_speed(night, run):
    """The reference varies by a tenth from night to night."""
    for number in range(NIGHTS):
        night(number, 2.0 if number < SLOW_FROM else 2.12, hardware="h200")
    code, out, _ = run()
    assert code == 1
    assert f"since {FIRST + timedelta(SLOW_FROM)}T02:00" in out
    assert "nightly: -5.7%" in out


def test_another_host_of_the_same_gpu_goes_on_with_a_replayed_step_and_begins_anew_without(night, run):
    for number in range(40):
        asked = {"optimizations": ("cuda_graph",) if number < 20 else ("rotary",)}
        night(number, 2.0, hardware="h200", asked=asked, cpu_cores=16 * (1 + number % 2))
    code, out, _ = run()
    assert code == 3
    assert "2 series: 1 insufficient history, 1 steady" in out
    assert "INSUFFICIENT HISTORY  toy/tiny rotary h200" in out


def test_a_protocol_starts_an_epoch_and_is_told(night, run, make_case):
    for number in range(20):
        night(number, 2.0)
    signoff = make_case().timing.model_copy(update={"name": "signoff", "processes": 5})
    for number in range(20, 24):
        night(number, 2.5, asked={"timing": signoff})
    code, out, _ = run()
    assert code == 3
    assert "4 points of this machine, these versions and this protocol" in out
    assert (
        "PROTOCOL  toy/tiny rotary cpu smoke, decode: `quick, same inputs` to `signoff, same inputs` at 2030-01-21"
        in out
    )
    night(24, 2.0)
    assert "steady" in run()[1], "the nights of the older protocol are still there"


def test_an_acceptance_by_the_key_of_the_exact_question_still_holds(slowed, night, run, tmp_path):
    assert run(f"accept={slowed}", *ACCEPT)[0] == 0
    (made,) = accepted.read(tmp_path)
    (tmp_path / "accepted").rename(tmp_path / "newer")
    case = night(NIGHTS, 2.12)
    accepted.write(made.model_copy(update={"key": case.key}), tmp_path)
    assert "SLOWER" not in run()[1]


def test_the_records_of_this_repository_form_series_that_tell_their_protocols(run):
    out, err = io.StringIO(), io.StringIO()
    results = Path(__file__).resolve().parents[3] / "benchmark_results"
    frame = store.load(results, **nightly_series.WHERE)
    made = nightly_series.series(frame)
    gpu = [one for one in made if one.unit == "/s"]
    assert len({one.key for one in gpu}) < len(set(frame[frame["hardware"].str.startswith("h200")]["key"]))
    assert max(len(one.points) for one in gpu) >= 3
    assert command.main([f"out={results}"], out, err, TODAY) == 3
    told = [line for line in out.getvalue().splitlines() if line.startswith("PROTOCOL")]
    assert any("`quick, same inputs` to `quick, new inputs`" in line for line in told)


def test_what_is_steady_has_nothing_to_bisect(night, run):
    for number in range(20):
        case = night(number, 2.0)
    code, _, err = run(f"bisect={key(case)}:decode")
    assert code == 2
    assert "is steady: there is no step" in err
    assert "no series 'x:decode'" in run("bisect=x:decode")[2]


def test_the_trend_dates_the_change_with_its_commits(slowed, run):
    pytest.importorskip("ruptures", reason="the trend is an optional extra: pip install 'inference-pio[history]'")
    _, out, _ = run("trend=true")
    levels = [line.split() for line in out.splitlines()[1:]]
    assert [float(level[0].rstrip("x")) for level in levels] == [
        pytest.approx(2.0, abs=0.01),
        pytest.approx(4 / 2.12, abs=0.01),
    ]
    assert levels[1][1].startswith(str(FIRST + timedelta(SLOW_FROM)))
    assert levels[0][-1] == commit_of(SLOW_FROM - 1)[:12]


def test_the_trend_without_its_extra_says_what_to_install(slowed, run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ruptures", None)
    code, _, err = run("trend=true")
    assert code == 2
    assert "pip install 'inference-pio[history]'" in err
