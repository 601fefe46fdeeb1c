from __future__ import annotations

import io

import pytest

from harness import shards


def ask(*argv):
    out, err = io.StringIO(), io.StringIO()
    code = shards.main([str(item) for item in argv], out, err)
    return code, out.getvalue() + err.getvalue()


@pytest.fixture
def listed(tmp_path):
    def listed(name, *tests):
        path = tmp_path / name
        path.write_text("".join(f"{test}\n" for test in tests) + "\n3 tests collected in 0.1s\n")
        return path

    return listed


@pytest.mark.parametrize(
    ("first", "second", "code", "said"),
    [
        (["a.py::x"], ["a.py::y[1-b]"], 0, "2 collected, 2 ran in 2 shard(s), 0 wrong"),
        (["a.py::x"], [], 1, "never ran: a.py::y[1-b]"),
        (["a.py::x"], ["a.py::x", "a.py::y[1-b]"], 1, "ran 2 times: a.py::x"),
        (["a.py::x", "a.py::z"], ["a.py::y[1-b]"], 1, "ran and was not collected: a.py::z"),
    ],
)
def test_every_test_runs_in_exactly_one_shard_or_is_named(listed, first, second, code, said):
    collected = listed("collected", "a.py::x", "a.py::y[1-b]")
    found = ask("verify", collected, listed("first", *first), listed("second", *second))
    assert found[0] == code
    assert said in found[1]


def test_a_shard_that_never_reported_and_an_empty_collection_are_refused(listed, tmp_path):
    assert "its shard never reported" in ask("verify", listed("collected", "a.py::x"), tmp_path / "none")[1]
    assert "nothing would be proven" in ask("verify", listed("collected"), listed("first", "a.py::x"))[1]


def test_the_balance_of_a_sweep_is_shown_with_every_case_once():
    code, said = ask("show", 2, "+model=qwen3_4b_instruct_2507", "optimization=none,rotary,linear", "hardware=cpu")
    assert code == 0, said
    assert "shard 2/2: " in said
    assert said.count("qwen3_4b_instruct_2507/tiny") == 3
    assert "longest shard over the mean" in said
