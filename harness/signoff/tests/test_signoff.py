"""A sign-off through its command: what signs, each single thing that refuses, waivers, and what a mistake gives."""

from __future__ import annotations

import io
import shutil
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from harness.analysis.history import accepted
from harness.commands.main import main
from harness.records.record import Failure, Provenance
from harness.signoff.tests.made import (
    FAST,
    NOW,
    asked,
    document,
    faults,
    history,
    matrix,
    parity,
    planned,
    record,
    stored,
)


def test_a_case_with_all_its_evidence_is_signed_and_verified(tmp_path, case, environment):
    stored(tmp_path / "records", [record(case, environment), faults(case, environment), *history(case, environment)])
    code, said = asked(tmp_path)
    assert code == 0, said
    out = io.StringIO()
    path = document(tmp_path) / "signoff.json"
    assert main(["signoff", f"verify={path}", f"out={tmp_path / 'records'}"], out) == 0, out.getvalue()
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
    assert "python -m harness faults +model=qwen3_4b_instruct_2507" in said


@pytest.mark.parametrize(("subjects", "missing"), [(("model",), True), (("model", "ranks"), False)])
def test_ranks_that_hold_the_model_together_need_faults_of_their_own(tmp_path, environment, subjects, missing):
    stack = "optimization=[tensor_parallel]"
    cut, levels = planned(stack), parity(("reference", "layer", "logits", "generation"))
    planted = faults(cut, environment, kill_matrix=matrix(subjects))
    stored(tmp_path / "records", [record(cut, environment, parity=levels), planted, *history(cut, environment)])
    code, said = asked(tmp_path, stack)
    assert code == int(missing), said
    assert ("none was planted in ranks" in (document(tmp_path) / "signoff.md").read_text()) == missing
    assert not missing or "'optimization=[tensor_parallel]'" in said


def test_evidence_at_another_value_of_a_parameter_signs_nothing(tmp_path, case, environment):
    stored(tmp_path / "records", [record(case, environment), faults(case, environment), *history(case, environment)])
    told = "optimization.linear.rows=8"
    code, said = asked(tmp_path, told)
    assert code == 1
    assert f"'{case.asked()[0]}' {told} hardware=cpu" in said


def test_too_short_a_history_refuses(tmp_path, case, environment):
    short = [record(case, environment), faults(case, environment), *history(case, environment, 9)]
    stored(tmp_path / "records", short)
    assert asked(tmp_path)[0] == 1
    assert "insufficient history: 9 of 10" in (document(tmp_path) / "signoff.md").read_text()


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
    verify = ["signoff", f"verify={next((tmp_path / 'then').rglob('signoff.json'))}", f"out={records}"]
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
        (["verify=signoff.json"], "takes no +model="),
        (["--verify"], "'--verify' is written verify=VALUE"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(tmp_path, words, says):
    out, err = io.StringIO(), io.StringIO()
    assert main(["signoff", "+model=qwen3_4b_instruct_2507", "hardware=h200", *words], out, err) == 2
    assert says in err.getvalue()
    assert err.getvalue().count("\n") == 1
