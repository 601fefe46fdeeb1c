"""The view: coverage that adds up, the banner for each kind of end, and numbers formatted once."""

import math

import pytest

from harness.errors import RecordError
from harness.records.case import Plan
from harness.records.record import Failure
from harness.report import formats
from harness.report.view import build


def all_ends(ends):
    _, plan, records = ends
    return build(tuple(records.values()), plan, "run")


def banner(run):
    return build(*run, "run").banner


def test_every_planned_case_is_counted_once(ends):
    coverage = all_ends(ends).coverage
    counted = (coverage.planned, coverage.passed, coverage.failed, coverage.lost, coverage.skipped)
    assert counted == (7, 2, 2, 2, 1)
    assert coverage.ends() == "1 crashed, 1 broke parity"


def test_a_case_without_a_record_is_lost_and_shown(ends):
    _, plan, _ = ends
    view = build((), plan, "run")
    assert (view.coverage.lost, view.coverage.planned) == (len(plan.cases), 7)
    assert [cells[1].text for cells in view.matrix.rows] == ["REFUSED"] * len(plan.cases)
    assert "without a record" in view.matrix.rows[0][1].note


def test_a_skip_is_told_with_its_reason_whether_or_not_it_left_a_record(ends):
    _, plan, records = ends
    without = build(tuple(record for name, record in records.items() if name != "skipped"), plan, "run")
    for view in (all_ends(ends), without):
        assert [cells[1].text for cells in view.skips.rows] == ["tensor_parallel needs 2 GPUs, this machine has 1"]


def test_records_that_are_not_those_of_the_plan_are_refused(ends):
    _, plan, records = ends
    smaller = Plan(cases=plan.cases[:1], skipped=())
    with pytest.raises(RecordError, match="plan does not hold"):
        build((records["failed"],), smaller, "run")
    with pytest.raises(RecordError, match="several records"):
        build((records["timed"], records["timed"]), plan, "run")


@pytest.mark.parametrize(
    ("name", "word", "sentence"),
    [
        ("timed", "PASSED", "parity proven, prefill 1.08× and decode 2.18× faster than the strongest baseline"),
        ("untimed", "PARITY ONLY", "parity proven; speed was not timed here"),
        ("failed", "REFUSED", "parity fails at layer 2, q_rotated (rotary)"),
        ("crashed", "REFUSED", "crashed before a verdict: TritonError: out of resource"),
        ("lost", "REFUSED", "lost: the machine restarted"),
    ],
)
def test_banner_of_a_single_case(alone, name, word, sentence):
    found = banner(alone(name))
    assert found.word == word
    assert found.sentence.startswith(sentence)


@pytest.mark.parametrize(
    ("status", "words"), [("out_of_memory", "ran out of memory"), ("killed", "was killed"), ("timed_out", "ran out of")]
)
def test_banner_says_how_a_case_ended(alone, status, words):
    found = banner(alone("crashed", status=status, error=Failure(kind="Signal", message="9")))
    assert (found.word, words in found.sentence) == ("REFUSED", True)


@pytest.mark.parametrize(
    ("candidate", "word", "words"),
    [
        (2.0, "PASSED", "faster than the strongest baseline"),
        (4.0, "PASSED", "the same speed as the strongest baseline"),
        (5.0, "SLOWER", "0.80× the speed of the strongest baseline"),
        (3.96, "INCONCLUSIVE", "is inconclusive"),
        (1.0, "INVALID", "timing is invalid"),
    ],
)
def test_banner_of_speed_is_against_the_strongest_not_the_default(timed_at, candidate, word, words):
    found = banner(timed_at(candidate=candidate, again=candidate, reference=26.0, hf_max_autotune=4.0))
    assert (found.word, words in found.sentence) == (word, True), found


def test_the_run_is_as_good_as_its_worst_case(ends):
    found = all_ends(ends).banner
    assert (found.word, found.tone) == ("REFUSED", "bad")
    assert found.sentence.startswith("4 of 6 cases did not pass. First qwen3_vl_2b/tiny")
    cases, _, records = ends
    plan = Plan(cases=(cases["timed"], cases["untimed"]), skipped=())
    good = build((records["timed"], records["untimed"]), plan, "run").banner
    assert good.word == "PASSED"
    assert "1 of them timed: 1.08× to 2.18×" in good.sentence


def test_a_run_that_skipped_everything_is_refused(ends):
    _, plan, records = ends
    found = build((records["skipped"],), Plan(cases=(), skipped=plan.skipped), "run").banner
    assert (found.word, found.sentence) == ("REFUSED", "nothing was measured: every planned case was skipped")


def test_provisional_and_few_processes_qualify_the_verdict(alone, ends):
    record = ends[2]["timed"]
    dirty = record.environment.model_copy(update={"dirty": True, "diff_hash": "ab"})
    one = tuple(series for series in record.series if series.process == 0)
    remarks = " ".join(banner(alone("timed", environment=dirty, series=one)).remarks)
    assert "Provisional" in remarks
    assert "1 process: a first look" in remarks


def test_checks_are_worst_first_and_none_is_left_out(alone):
    case = build(*alone("failed"), "run").cases[0]
    layer = next(level for level in case.levels if level.level == "layer")
    assert [cells[-1].text for cells in layer.worst.rows] == ["fail", "pass", "pass", "pass"]
    assert layer.summary == "4 checks, 1 failed: layer 2"
    assert [cells[3].note for cells in layer.worst.rows] == ["RMS error 0.41 of a slice", "", "", ""]
    op = next(level for level in case.levels if level.level == "op")
    assert len(op.worst.rows) + len(op.rest.rows) == 16


def test_dropped_blocks_stay_visible(alone):
    decode = build(*alone("timed"), "run").cases[0].phases[1]
    dropped = {mark.position for mark in decode.samples if mark.dropped}
    assert dropped == {24 + 7, 24 + 15}
    assert len(decode.samples) == 6 * 72


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (formats.milliseconds(2.2378), "2.24 ms"),
        (formats.milliseconds(0.99951), "1.00 ms"),
        (formats.milliseconds(1234.5), "1,230 ms"),
        (formats.milliseconds(math.nan), "–"),
        (formats.ratio(1.899), "1.90×"),
        (formats.interval(1.5, 2.25), "1.50–2.25×"),
        (formats.interval(0.999, 1.001), "0.999–1.001×"),
        (formats.interval(0.0, math.inf), "no interval"),
        (formats.percent(0.793), "79 %"),
        (formats.percent(0.0123), "1.2 %"),
        (formats.use(1e9), "none allowed"),
        (formats.use(1.001), "just over 100 %"),
        (formats.memory(128 * 2**30), "128 GiB"),
        (formats.memory(0), "0 B"),
        (formats.rate(4.64e12, "B/s"), "4.64 TB/s"),
        (formats.seconds(141), "2 min 21 s"),
    ],
)
def test_numbers_as_text(text, shown):
    assert text == shown


def test_a_speed_row_holds_what_was_measured_of_its_arm(timed_at):
    phase = build(*timed_at(candidate=2.0, again=2.0, reference=26.0, hf_max_autotune=4.0), "run").cases[0].phases[0]
    rows = {cells[0].text: cells for cells in phase.arms.rows}
    strongest, default = rows["Hugging Face compiled, max-autotune"], rows["Hugging Face default"]
    assert (strongest[0].note, default[0].note) == ("strongest baseline", "")
    assert [float(cells[1].text.removesuffix(" ms")) for cells in (strongest, default)] == pytest.approx([4, 26], 0.05)
    assert [cells[2].text for cells in (strongest, default)] == ["2.00×", "13.00×"]
    assert strongest[4].text == "70"
    facts = {fact.name: fact.value for fact in phase.facts}
    assert phase.headline == f"candidate {facts['Time per output token']} for one decode step"
    assert float(facts["Throughput"].split()[0].replace(",", "")) == pytest.approx(1000 / 1.98, rel=0.01)
    assert facts["Throughput"].endswith(" new tokens a second, 1 at a time")
    assert facts["Blocks"] == "72 in 3 processes, 2 dropped"
    assert facts["Roofline"].endswith("% of the memory floor 1.77 ms")


def test_memory_energy_and_kernels_of_an_arm_stand_together_and_are_absent_where_nobody_counted(alone):
    records, plan = alone("timed")
    columns = ("Peak memory", "On the device", "Energy per token", "Kernels per layer")

    def row_of(records):
        table = build(records, plan, "run").cases[0].arms
        places = [[column.name for column in table.columns].index(name) for name in columns]
        return [table.rows[0][place].text for place in places]

    arms = tuple(
        arm.model_copy(update={"peak_memory_bytes": 2**30, "energy_j_per_token": 1.5 + arm.process})
        for arm in records[0].arms
    )
    assert row_of((records[0].model_copy(update={"arms": arms}),)) == ["1.00 GiB", "11.0 GiB", "2.50 J", "9.25"]
    unknown = {
        "peak_memory_bytes": 0,
        "device_memory_bytes": None,
        "energy_j_per_token": None,
        "decode_kernels_per_layer": None,
    }
    arms = tuple(arm.model_copy(update=unknown) for arm in arms)
    assert row_of((records[0].model_copy(update={"arms": arms}),)) == ["–", "–", "–", "–"]


def test_cold_and_hot_stand_apart_and_a_kernel_under_its_floor_is_invalid(alone):
    records, plan = alone("timed")
    kernels = tuple(
        time.model_copy(update={"median_ms": 0.001}) if time.kernel == "gemv_bf16" else time
        for time in records[0].kernels
    )
    table = build((records[0].model_copy(update={"kernels": kernels}),), plan, "run").cases[0].kernels
    place = {column.name: number for number, column in enumerate(table.columns)}
    fast, other = table.rows[0][place["Median, cold"]], table.rows[1][place["Median, cold"]]
    assert fast.note.startswith("invalid: 0.001 ms is under 0.95 of the physical floor")
    assert (fast.tone, other.tone, other.note) == ("bad", None, "")
    assert table.rows[1][place["Median, hot"]].text == "0.00820 ms"
