"""The corpus of blind faults is read whole or refused in one line, and its figures count judgments alone."""

from __future__ import annotations

import pytest
import yaml

from harness.errors import UserError
from harness.records.blind_corpus import append_result, read_corpus, read_results
from harness.records.blind_fault import KINDS, BlindResult, Tally, first, last

FAULT = {
    "model": "glm_4_7",
    "kind": "masking",
    "source": "own",
    "visible": "padded batches",
    "why": "padding is seen",
    "written_before": "0" * 40,
}
PATCH = "--- a/models/x.py\n+++ b/models/x.py\n@@ -1 +1 @@\n-a\n+b\n"


@pytest.fixture
def put(tmp_path):
    def put(name="one", patch=PATCH, **changes):
        folder = tmp_path / "round-1"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(FAULT | changes))
        if patch is not None:
            (folder / f"{name}.patch").write_text(patch)
        return tmp_path

    return put


def result(fault="one", end="passed", **more):
    return BlindResult(fault=fault, commit="c", hardware="cpu", end=end, **more)


def test_a_round_holds_its_faults_and_their_results(put):
    folder = put()
    append_result(folder / "round-1" / "results.jsonl", result())
    (only,) = read_corpus(folder)
    assert (only.number, [planted.name for planted in only.faults], only.results) == (1, ["one"], (result(),))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "bad luck"}, "kind"),
        ({"source": "http://somewhere"}, "source"),
        ({"written_before": "main"}, "written_before"),
        ({"colour": "red"}, "colour"),
        ({"patch": None}, "No such file"),
        ({"patch": PATCH.replace("models", "harness")}, "under models/ alone"),
        ({"patch": PATCH.replace("b/models/", "b/models/../harness/")}, "under models/ alone"),
        ({"patch": "nothing"}, "under models/ alone"),
    ],
)
def test_what_describes_no_fault_of_a_model_is_refused_in_one_line(put, changes, told):
    with pytest.raises(UserError, match=told) as refused:
        read_corpus(put(**changes))
    assert "\n" not in str(refused.value)


def test_a_patch_without_a_description_is_refused(put):
    folder = put()
    (folder / "round-1" / "two.patch").write_text(PATCH)
    with pytest.raises(UserError, match=r"no description beside it: two\.yaml"):
        read_corpus(folder)


def test_results_that_nobody_wrote_so_are_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"fault": "one"}\n')
    with pytest.raises(UserError, match="no results of blind faults"):
        read_results(path)


def test_the_corpus_of_this_repository_is_whole():
    for each in read_corpus():
        names = {planted.name for planted in each.faults}
        assert {found.fault for found in each.results} <= names
        assert {planted.fault.kind for planted in each.faults} <= set(KINDS)


def test_a_crash_and_a_stale_patch_are_no_judgments():
    ends = [result(str(index), end) for index, end in enumerate(("refused", "passed", "crashed", "stale", "stale"))]
    assert Tally.of(ends).words() == "1 of 2, 1 crashed, 2 stale"


def test_the_first_judgment_is_kept_apart_from_the_last():
    held = [result(), result(end="refused", level="op", check="gemv")]
    assert (first(held)["one"].end, last(held)["one"].end) == ("passed", "refused")
