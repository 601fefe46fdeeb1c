"""Blind faults end to end: one that the gate refuses, and one whose patch does not apply any more."""

from __future__ import annotations

import difflib
from io import StringIO

import pytest
import yaml

from harness.commands import faults, faults_blind
from harness.errors import UserError
from harness.records.blind_corpus import CORPUS, read_results

ROTATED = "models/common/attention/eager.py"
RIGHT, WRONG = (
    "        cache.write(rotate(self.k_norm(k), cos, sin), v, slots)",
    "        cache.write(self.k_norm(k), v, slots)",
)


def patch(line=RIGHT):
    """The unified diff of a source whose keys are written as they come, against one that holds `line` instead."""
    right = (CORPUS.parents[2] / ROTATED).read_text()
    ours, theirs = (right.replace(RIGHT, each).splitlines(keepends=True) for each in (line, WRONG))
    return "".join(difflib.unified_diff(ours, theirs, f"a/{ROTATED}", f"b/{ROTATED}"))


@pytest.fixture
def corpus(tmp_path):
    def put(name, text, **changes):
        folder = tmp_path / "round-3"
        folder.mkdir(exist_ok=True)
        described = {
            "model": "qwen3_4b_instruct_2507",
            "kind": "indexing",
            "source": "own",
            "visible": "everywhere",
            "why": "keys stay unrotated",
            "written_before": "0" * 40,
            "options": ["optimization=none"],
            "must_refuse": ["cpu"],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(described | changes))
        (folder / f"{name}.patch").write_text(text)
        return tmp_path

    return put


def judged(folder, *arguments):
    out = StringIO()
    code = faults_blind.main([*arguments], out, StringIO(), folder)
    return code, out.getvalue(), {result.fault: result for result in read_results(folder / "round-3" / "results.jsonl")}


def test_a_fault_is_refused_by_name_and_a_stale_one_is_not_a_refusal(corpus):
    corpus("keys_not_rotated", patch())
    folder = corpus("written_for_other_sources", patch("        gone()"))
    code, shown, ends = judged(folder)
    refused, stale = ends["keys_not_rotated"], ends["written_for_other_sources"]
    assert (refused.end, refused.hardware, refused.level) == ("refused", "cpu", "layer")
    assert refused.broken > 1
    assert refused.place.startswith("layer 0, key_cached")
    assert (stale.end, stale.level) == ("stale", None)
    assert "patch does not apply" in stale.why
    assert code == 1, "what must be refused and was not judged is missing"
    assert "round 3: 1 of 1 refused, 1 stale" in shown
    assert "NOT REFUSED: written_for_other_sources: keys stay unrotated" in shown


def test_what_need_not_be_refused_here_is_no_error(corpus):
    folder = corpus("written_for_other_sources", patch("        gone()"), must_refuse=["h200"])
    assert judged(folder)[0] == 0


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("fault=keys_not_rotatd", "did you mean 'keys_not_rotated'"),
        ("model=qwen3_4b", "did you mean 'qwen3_4b_instruct_2507'"),
        ("round=2", "holds no round 2"),
        ("hardware=h20", "unknown hardware 'h20'"),
        ("rounds=2", "option of faults blind"),
    ],
)
def test_a_mistake_in_what_was_asked_is_one_line(corpus, asked, told):
    folder = corpus("keys_not_rotated", patch())
    with pytest.raises(UserError, match=told):
        judged(folder, asked)


def test_its_help_stands_with_that_of_the_catalogue():
    assert "faults blind" in faults.help_text()
    assert faults.help_text(["blind"]) == faults_blind.help_text()
