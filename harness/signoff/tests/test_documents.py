"""A signed document: no value of it, of its policy, its waivers or its records can be edited unseen."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

from harness.commands.main import main
from harness.machine.installation import ROOT
from harness.records.gate_evidence import read
from harness.records.record import StandingProof
from harness.signoff import document as documents
from harness.signoff import evidence, policy
from harness.signoff.decision import decide
from harness.signoff.tests.made import ARMS, asked, document, faults, parity, record, stored


@pytest.fixture
def signed(tmp_path, case, environment):
    """The folder of a signed document."""
    stored(tmp_path / "records", [record(case, environment), faults(case, environment)])
    assert asked(tmp_path, "policy=first")[0] == 0
    return document(tmp_path)


def test_one_edited_byte_of_a_record_is_found(tmp_path, signed):
    assert verified(tmp_path)[0] == 0
    edited = next((tmp_path / "records").rglob("run-1.jsonl"))
    edited.write_text(edited.read_text().replace('"wall_s":1.0', '"wall_s":2.0'))
    code, said = verified(tmp_path)
    assert (code, "edited" in said) == (1, True), said


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("faster: 1.5", "faster: 2.5", "findings.prefill.found"),
        ('"met": true', '"met": false', "findings.record.met"),
        ('"signed": true', '"signed": false', "signed"),
        ('"content": "', '"content": "0', "records.0.content"),
        ('"signed": true', '"signed": true,\n "weather": "fine"', "weather"),
        ('  "weights": null,\n', "", "case.weights"),
        ('"signed": true', '"signed": false,\n "signed": true', "a name may stand in it twice"),
    ],
)
def test_a_decision_that_says_something_else_is_refused_by_the_json_alone(tmp_path, signed, old, new, at):
    for page in ("signoff.md", "index.html"):
        (signed / page).unlink()
    path = signed / "signoff.json"
    assert verified(tmp_path)[0] == 0, "the JSON is the document"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    code, said = verified(tmp_path)
    assert (code, at in said) == (1, True), said


def test_other_words_of_a_page_or_of_an_advised_command_leave_a_document_valid(tmp_path, signed):
    page = signed / "index.html"
    page.write_text(page.read_text().replace('<h2 id="requirements">Requirements', '<h2 id="asked">Asked'))
    code, said = verified(tmp_path)
    assert (code, f"note: {page} is not as this build would render" in said) == (0, True), said
    for name in ("signoff.md", "index.html"):
        (signed / name).unlink()
    path = signed / "signoff.json"
    path.write_text(path.read_text().replace("python -m harness", "some-other-command"))
    code, said = verified(tmp_path)
    assert (code, "advises commands that this build words otherwise" in said) == (0, True), said


@pytest.mark.parametrize("name", ["signoff.md", "index.html"])
def test_a_page_of_another_document_is_refused_in_a_line_of_its_own(tmp_path, signed, name):
    page = signed / name
    page.write_text(
        page.read_text().replace(hashlib.sha256((signed / "signoff.json").read_bytes()).hexdigest(), "0" * 64)
    )
    code, said = verified(tmp_path)
    assert (code, said.count("\n")) == (1, 1), said
    assert f"{page} renders another document" in said


def test_the_documents_of_this_repository_hold():
    for path in sorted((ROOT / "reports").glob("signoff-*/signoff.json")):
        waivers = {entry["owner"] for entry in json.loads(path.read_text())["waivers"]}
        own = [f"waiver={file}" for file in (ROOT / "reports" / "waivers").glob("*.yaml") if waivers]
        out, err = io.StringIO(), io.StringIO()
        assert main(["signoff", f"verify={path}", f"out={ROOT / 'benchmark_results'}", *own], out, err) == 0, (
            out.getvalue() + err.getvalue()
        )


def verified(tmp_path, *more):
    out, err = io.StringIO(), io.StringIO()
    code = main(
        ["signoff", f"verify={document(tmp_path) / 'signoff.json'}", f"out={tmp_path / 'records'}", *more], out, err
    )
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
    for page in ("signoff.md", "index.html"):
        path.with_name(page).unlink()
    said = json.loads(path.read_text())
    assert {("policy", "memory_ratio"), ("case", "deadline_s"), ("case", "timing", "limit_s")} <= set(leaves(said))
    for at in leaves(said):
        path.write_text(json.dumps(edited(said, at), indent=1, sort_keys=True) + "\n")
        code, told = verified(tmp_path)
        assert code == 1 or (at[-1] == "supply" and "note: " in told), at


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
    assert (code, "findings.parity.found" in said) == (1, True), said


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
