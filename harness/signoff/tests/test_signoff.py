"""A sign-off through its command: what signs, each single thing that refuses, waivers, and bytes that were edited."""

from __future__ import annotations

import io
import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from harness import compose, registry
from harness.case import Plan
from harness.checks import Check, Parity
from harness.environment import source_state
from harness.gate_records import read
from harness.history import accepted
from harness.kill_matrix import KillMatrix, MutantOutcome
from harness.place import Cluster
from harness.plan import expand
from harness.record import ArmReport, Block, Failure, Provenance, Record, Series, StandingProof
from harness.run_file import RunWriter, run_path
from harness.signoff import document as documents
from harness.signoff import evidence, paths, policy
from harness.signoff.__main__ import ROOT, main
from harness.signoff.decision import decide

ASKED = ["+model=qwen3_4b_instruct_2507", "hardware=cpu"]
ARMS = {"reference": 3.0, "hf_max_autotune": 1.5, "candidate": 1.0, "again": 1.0}
"""Milliseconds."""
PROCESSES, BLOCKS = 5, 30
PATHS = ("chunked prefill", "left-padded batch", "one row alone", "one row decoded alone", "kv_cache_paged layout")
PATHS += paths.PREFIXES
NOW = datetime.now(UTC)
PROVENANCE = Provenance(hf_config="c", kernel_sources="s", fresh_caches=True, lock="l")


@pytest.fixture
def environment(environment):
    """At a commit that exists, where there is a checkout."""
    commit, _ = source_state(ROOT)
    return environment.model_copy(update={"commit": commit or "0" * 40})


@pytest.fixture(scope="module")
def case():
    return planned()


def planned(*more):
    jobs = compose.jobs([*ASKED, "timing=signoff", *more], multirun=False)
    specs = {job.model.name: registry.load(job.model.name) for job in jobs}
    return expand(jobs, specs, Cluster(2**34), registry.weights_bytes, registry.uneven, sweep=False).cases[0]


def parity(levels=("op", "layer", "logits", "generation"), error=1.0, not_judged=(), paths=PATHS):
    judged = [*((level, "gemv") for level in levels), *(("path", path) for path in paths)]
    return Parity(
        not_judged=not_judged,
        checks=tuple(
            Check(level=level, subject=subject, name="out", rule="max", error=error, noise=1.0, limit=2.0)
            for level, subject in judged
        ),
    )


def matrix(subjects=("gemv", "model"), end="killed"):
    return KillMatrix(
        outcomes=tuple(
            MutantOutcome(
                subject=subject, name="halved", kind="scale", end=end, level="op" if end == "killed" else None
            )
            for subject in subjects
        )
    )


def series(arms, processes=PROCESSES, phases=("prefill", "decode")):
    """A little noise, paired alike in all arms, so that ratios are clear."""
    noise = random.Random(0)
    made = []
    for phase in phases:
        for process in range(processes):
            weather = [1 + 0.002 * noise.random() for _ in range(BLOCKS)]
            for arm, ms in arms.items():
                times = tuple(ms * w * (1 + 0.0005 * noise.random()) for w in weather)
                made.append(
                    Series(arm=arm, phase=phase, process=process, samples_ms=times, blocks=tuple(range(BLOCKS)))
                )
    return tuple(made)


def record(case, environment, hours_ago=1, **changes):
    peaks = changes.pop("peaks", dict.fromkeys(ARMS, 100))
    packages = changes.pop("packages", {"torch": "2.11.0", "triton": "3.6.0", "transformers": "5.17.0"})
    fields = {
        "status": "passed",
        "parity": parity(),
        "series": series(ARMS),
        "blocks": tuple(
            Block(process=process, index=index, phase=phase)
            for phase in ("prefill", "decode")
            for process in range(PROCESSES)
            for index in range(BLOCKS)
        ),
        "arms": tuple(ArmReport(name=n, label=n, process=0, peak_memory_bytes=b) for n, b in peaks.items()),
        "provenance": PROVENANCE,
        "environment": environment.model_copy(update={"packages": packages}),
    }
    return Record(
        run=f"run-{hours_ago}",
        plan=Plan(cases=(case,), skipped=()).hash,
        case=case,
        key=case.key,
        started_at=(NOW - timedelta(hours=hours_ago)).isoformat(timespec="seconds"),
        wall_s=1.0,
        **(fields | changes),
    )


def history(case, environment, count=10, arms=ARMS, since=20, **changes):
    return [record(case, environment, hours_ago=since + i, series=series(arms), **changes) for i in range(count)]


def faults(case, environment, hardware="cpu", **changes):
    said = {"kill_matrix": matrix(), "series": (), "blocks": ()} | changes
    untimed = case.timing.model_copy(update={"name": "off", "processes": 0})
    other = case.model_copy(update={"timing": untimed, "hardware": hardware})
    return record(other, environment, hours_ago=2, **said)


def stored(folder, records):
    for made in records:
        plan = Plan(cases=(made.case,), skipped=())
        with RunWriter(run_path(folder, "cpu", made.run), made.run, plan) as writer:
            writer.append(made)


def asked(tmp_path, *more):
    out = io.StringIO()
    err = io.StringIO()
    code = main([*ASKED, f"out={tmp_path / 'records'}", f"reports={tmp_path / 'reports'}", *more], out, err)
    return code, out.getvalue() + err.getvalue()


def document(tmp_path):
    (folder,) = (tmp_path / "reports").iterdir()
    return folder


def test_a_case_with_all_its_evidence_is_signed_and_verified(tmp_path, case, environment):
    stored(tmp_path / "records", [record(case, environment), faults(case, environment), *history(case, environment)])
    code, said = asked(tmp_path)
    assert code == 0, said
    out = io.StringIO()
    path = document(tmp_path) / "signoff.json"
    assert main(["--verify", str(path), f"out={tmp_path / 'records'}"], out) == 0, out.getvalue()
    assert "verified: signed, by 12 record(s)" in out.getvalue()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (None, "no kill matrix of these sources"),
        ({"kill_matrix": matrix(end="survived")}, "0 of 2 planted faults seen"),
        ({"kill_matrix": matrix(("model",))}, "none was planted in gemv"),
        ({"kill_matrix": matrix(("gemv",))}, "none was planted in model"),
        ({"provenance": Provenance(hf_config="c", kernel_sources="other")}, "no kill matrix of these sources"),
        ({"hardware": "h200"}, "no kill matrix of these sources on cpu"),
    ],
    ids=["none", "a survivor", "a kernel left out", "the model left out", "of other sources", "on other hardware"],
)
def test_without_a_whole_kill_matrix_of_these_sources_nothing_is_signed(tmp_path, case, environment, changes, says):
    planted = [] if changes is None else [faults(case, environment, **changes)]
    stored(tmp_path / "records", [record(case, environment), *planted, *history(case, environment)])
    code, said = asked(tmp_path)
    assert code == 1
    assert says in (document(tmp_path) / "signoff.md").read_text()
    assert "python -m harness.mutants +model=qwen3_4b_instruct_2507" in said


@pytest.mark.parametrize(("subjects", "missing"), [(("model",), True), (("model", "ranks"), False)])
def test_ranks_that_hold_the_model_together_need_faults_of_their_own(tmp_path, environment, subjects, missing):
    stack = "optimization=[tensor_parallel]"
    cut, levels = planned(stack), parity(("layer", "logits", "generation"))
    planted = faults(cut, environment, kill_matrix=matrix(subjects))
    stored(tmp_path / "records", [record(cut, environment, parity=levels), planted, *history(cut, environment)])
    code, said = asked(tmp_path, stack)
    assert code == int(missing), said
    assert ("none was planted in ranks" in (document(tmp_path) / "signoff.md").read_text()) == missing
    assert not missing or "'optimization=[tensor_parallel]'" in said


def test_too_short_a_history_refuses(tmp_path, case, environment):
    short = [record(case, environment), faults(case, environment), *history(case, environment, 9)]
    stored(tmp_path / "records", short)
    assert asked(tmp_path)[0] == 1
    assert "insufficient history: 9 of 10" in (document(tmp_path) / "signoff.md").read_text()


FAST = ARMS | {"candidate": 0.9, "again": 0.9}


def history_said(folder):
    lines = next(folder.rglob("signoff.md")).read_text().splitlines()
    return next(line for line in lines if line.startswith("| history"))


def test_one_slow_run_is_to_be_measured_again(tmp_path, case, environment):
    before = history(case, environment, 14, FAST)
    stored(tmp_path / "records", [record(case, environment), faults(case, environment), *before])
    code, said = asked(tmp_path)
    assert code == 1
    assert "decode is rerun: run-1 reads -10.0%: measure it again" in history_said(tmp_path)
    assert "timing=signoff" in said


def test_a_step_down_refuses_until_it_is_accepted_and_again_when_that_expires(tmp_path, case, environment):
    slow, fast = history(case, environment, 12), history(case, environment, 20, FAST, since=40)
    records = tmp_path / "records"
    stored(records, [record(case, environment), faults(case, environment), *slow, *fast])
    assert asked(tmp_path)[0] == 1
    assert "decode is slower: -10.0% since" in history_said(tmp_path)
    fields = {"key": case.key, "fingerprint": slow[0].environment.fingerprint(), "commit": "c", "owner": "kernels"}
    fields |= {"since": slow[-1].started_at, "reason": "right at last", "made": NOW.date() - timedelta(days=9)}
    for phase in ("prefill", "decode"):
        expires = NOW.date() + timedelta(days=9)
        accepted.write(accepted.Accepted(phase=phase, expires=expires, **fields), records)
    code, said = asked(tmp_path, f"reports={tmp_path / 'then'}")
    assert code == 0, said
    assert "decode is steady over 13 runs" in history_said(tmp_path / "then")
    assert "accepted by kernels, until" in history_said(tmp_path / "then")
    verify = ["--verify", str(next((tmp_path / "then").rglob("signoff.json"))), f"out={records}"]
    assert main(verify, io.StringIO()) == 0
    shutil.rmtree(records / accepted.FOLDER)
    for phase in ("prefill", "decode"):
        expires = NOW.date() - timedelta(days=1)
        accepted.write(accepted.Accepted(phase=phase, expires=expires, **fields), records)
    assert asked(tmp_path, f"reports={tmp_path / 'late'}")[0] == 1
    assert "decode is slower" in history_said(tmp_path / "late")
    assert "accepted by kernels, expired on" in history_said(tmp_path / "late")


def test_a_policy_for_the_first_time_asks_no_history(tmp_path, case, environment):
    stored(tmp_path / "records", [record(case, environment), faults(case, environment)])
    assert asked(tmp_path, "policy=first")[0] == 0
    assert "none is asked" in history_said(tmp_path)


@pytest.mark.parametrize(("days", "code"), [(1, 0), (-1, 1)])
def test_a_waiver_stands_in_until_it_expires_and_only_for_its_cases(tmp_path, case, environment, days, code):
    stored(tmp_path / "records", [record(case, environment), faults(case, environment)])
    waiver = tmp_path / "waiver.yaml"
    expires = (NOW + timedelta(days=days)).date()
    waiver.write_text(
        f"owner: performance group\nreason: first release\nexpires: {expires}\nrequirements: [history]\n"
        f"cases: ['{case.label()}']\n"
    )
    assert asked(tmp_path, f"waiver={waiver}")[0] == code
    text = (document(tmp_path) / "signoff.md").read_text()
    assert ("waived by performance group" if days > 0 else "has expired") in text
    waiver.write_text(waiver.read_text().replace(case.label(), "another case"))
    assert asked(tmp_path, f"waiver={waiver}", f"reports={tmp_path / 'other'}")[0] == 1


def test_what_is_right_cannot_be_waived(tmp_path, case, environment):
    waiver = tmp_path / "waiver.yaml"
    waiver.write_text("owner: x\nreason: y\nexpires: 2999-01-01\nrequirements: [parity]\ncases: [a]\n")
    code, said = asked(tmp_path, f"waiver={waiver}")
    assert code == 2
    assert "requirements.0" in said


def test_one_edited_byte_of_a_document_or_a_record_is_found(tmp_path, case, environment):
    stored(tmp_path / "records", [record(case, environment), faults(case, environment), *history(case, environment)])
    assert asked(tmp_path)[0] == 0
    folder = document(tmp_path)
    verify = ["--verify", str(folder / "signoff.json"), f"out={tmp_path / 'records'}"]
    for name in ("signoff.json", "signoff.md", "index.html"):
        whole = (folder / name).read_text()
        (folder / name).write_text(whole.replace("faster: 1.5", "faster: 2.5", 1))
        assert (folder / name).read_text() != whole
        out = io.StringIO()
        assert main(verify, out) == 1, name
        assert name in out.getvalue()
        (folder / name).write_text(whole)
    assert main(verify, io.StringIO()) == 0
    edited = next((tmp_path / "records").rglob("run-1.jsonl"))
    edited.write_text(edited.read_text().replace('"wall_s":1.0', '"wall_s":2.0'))
    err = io.StringIO()
    assert main(verify, io.StringIO(), err) == 1
    assert "edited" in err.getvalue()


def verified(tmp_path, *more):
    out, err = io.StringIO(), io.StringIO()
    code = main(["--verify", str(document(tmp_path) / "signoff.json"), f"out={tmp_path / 'records'}", *more], out, err)
    return code, out.getvalue() + err.getvalue()


def leaves(tree, at=()):
    if not isinstance(tree, dict | list) or not tree:
        yield at
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from leaves(value, (*at, key))


def edited(said, at):
    """A copy of which the leaf at `at` says something else."""
    copy = json.loads(json.dumps(said))
    *above, last = at
    inner = copy
    for key in above:
        inner = inner[key]
    value = inner[last]
    if isinstance(value, bool):
        inner[last] = not value
    elif isinstance(value, int | float):
        inner[last] = value + 1
    else:
        inner[last] = f"{value}s" if isinstance(value, str) else "more"
    return copy


def test_no_value_of_a_document_can_be_edited_unseen(tmp_path, case, environment):
    stored(tmp_path / "records", [record(case, environment), faults(case, environment)])
    assert asked(tmp_path, "policy=first")[0] == 0
    path = document(tmp_path) / "signoff.json"
    said = json.loads(path.read_text())
    assert {("policy", "memory_ratio"), ("case", "deadline_s"), ("case", "timing", "limit_s")} <= set(leaves(said))
    for at in leaves(said):
        path.write_text(json.dumps(edited(said, at), indent=1, sort_keys=True) + "\n")
        assert verified(tmp_path)[0] == 1, at


def _forged(tmp_path, **changes):
    """All three pages written again by the very code that signs, from rules that somebody would like better."""
    said = documents.question(document(tmp_path) / "signoff.json")
    forged = said.model_copy(update=changes)
    sources = read(tmp_path / "records")
    found = evidence.gather(forged.case, sources, [], forged.decided_at)
    decision = decide(found, forged.policy, forged.waivers, forged.decided_at)
    assert decision.signed
    documents.write(decision, document(tmp_path))


def test_a_document_cannot_vouch_for_its_own_policy(tmp_path, case, environment):
    heavy = dict.fromkeys(ARMS, 100) | {"candidate": 150}
    stored(tmp_path / "records", [record(case, environment, peaks=heavy), faults(case, environment)])
    assert asked(tmp_path, "policy=first")[0] == 1
    first = policy.policy("first")
    for update, says in (
        ({"memory_ratio": 9.0}, "not what conf/policy/first.yaml asks"),
        ({"memory_ratio": 9.0, "name": "lax"}, "unknown policy 'lax'"),
    ):
        _forged(tmp_path, policy=first.model_copy(update=update))
        code, said = verified(tmp_path)
        assert (code, says in said) == (1, True), said


def test_a_document_cannot_vouch_for_its_own_waivers(tmp_path, case, environment):
    stored(tmp_path / "records", [record(case, environment), faults(case, environment)])
    assert asked(tmp_path)[0] == 1
    path = tmp_path / "waiver.yaml"
    path.write_text(
        f"owner: nobody\nreason: none\nexpires: 2999-01-01\nrequirements: [history]\ncases: ['{case.label()}']\n"
    )
    _forged(tmp_path, waivers=(policy.waiver(path),))
    code, said = verified(tmp_path)
    assert (code, "rests on waivers of nobody" in said) == (1, True), said
    assert verified(tmp_path, f"waiver={path}")[0] == 0, "with the file it stands on"


def _proof_apart(folder, case, environment, **changes):
    """A timed record with the proof of another run, which is stored."""
    untimed = case.model_copy(update={"timing": case.timing.model_copy(update={"processes": 0})})
    proven = record(untimed, environment, hours_ago=3, series=(), blocks=(), arms=())
    stored(folder, [proven])
    (source,) = read(folder)
    named = StandingProof(run=proven.run, content=source.digest)
    return record(case, environment, **({"proof": named} | changes))


def test_the_run_that_proved_what_another_timed_is_named_by_its_hash(tmp_path, case, environment):
    timed = _proof_apart(tmp_path / "records", case, environment)
    stored(tmp_path / "records", [timed, faults(case, environment)])
    code, said = asked(tmp_path, "policy=first")
    assert code == 0, said
    text = (document(tmp_path) / "signoff.md").read_text()
    assert "proven by run run-3" in text
    assert f"run run-3, content {timed.proof.content}" in text
    next((tmp_path / "records").rglob("run-3.jsonl")).unlink()
    code, said = verified(tmp_path)
    assert (code, "index.html is not what the records" in said) == (1, True), said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"proof": StandingProof(run="run-3", content="0" * 64)}, "run run-3, which proved it, is not on record"),
        ({"parity": parity(error=0.5)}, "run run-3 holds other checks than"),
    ],
)
def test_a_proof_that_is_elsewhere_or_says_otherwise_proves_nothing(tmp_path, case, environment, changes, says):
    timed = _proof_apart(tmp_path / "records", case, environment, **changes)
    stored(tmp_path / "records", [timed, faults(case, environment)])
    assert asked(tmp_path, "policy=first")[0] == 1
    assert says in (document(tmp_path) / "signoff.md").read_text()


class _Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)


def test_hostile_words_in_a_record_stay_words(tmp_path, case, environment):
    hostile = "<script>alert(1)</script>|`$(x)`"
    broken = record(
        case, environment, status="crashed", series=(), blocks=(), parity=None, error=Failure(kind="x", message=hostile)
    )
    stored(tmp_path / "records", [broken])
    assert asked(tmp_path)[0] == 1
    html = (document(tmp_path) / "index.html").read_text()
    assert "script" not in _Elements(html).found
    assert "&lt;script&gt;" in html
    lines = (document(tmp_path) / "signoff.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("| outcome"))
    assert line.count(" | ") == 2, "a bar in a message must not open another cell"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["policy=lax"], "unknown policy 'lax'"),
        (["hardware=auto"], "name the cluster's hardware"),
        (["waiver=/nowhere.yaml"], "cannot be read"),
        (["--verify"], "takes one file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(tmp_path, words, says):
    out, err = io.StringIO(), io.StringIO()
    arguments = words if words[0] == "--verify" else ["+model=qwen3_4b_instruct_2507", "hardware=h200", *words]
    assert main(arguments, out, err) == 2
    assert says in err.getvalue()
    assert err.getvalue().count("\n") == 1
