"""Changes to the judge are seen by its tests, what survived is written down, and the tool can tell a kill from none."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools.judge_mutations import page, trial
from tools.judge_mutations.__main__ import HERE, ROOT
from tools.judge_mutations.kept import Kept
from tools.judge_mutations.mutants import Module, table

SOURCE = '''\
LIMIT = 2.0
WORDS = ("one", "two")


def inside(x, limits=None):
    """Whether."""
    if x < 0 and LIMIT:
        raise ValueError(f"{x + 1} is below")
    return min(abs(x), 3) <= LIMIT
'''
TESTS = """\
import pytest

from judged import inside


def test_inside():
    assert inside(2.0)
    assert not inside(2.5)
    assert not inside(9.0)
    with pytest.raises(ValueError):
        inside(-1)
"""


@pytest.fixture
def judged(tmp_path: Path) -> Module:
    (tmp_path / "judged.py").write_text(SOURCE)
    return Module(tmp_path, "judged.py")


def test_limits_are_moved_conditions_turned_and_steps_left_out(judged: Module) -> None:
    made = {(mutant.scope, mutant.change) for mutant in judged.mutants}
    assert {
        ("", "LIMIT = 2.0 -> LIMIT = 3.0"),
        ("", "LIMIT = 2.0 -> LIMIT = 1.4"),
        ("", "WORDS = ('one', 'two') -> WORDS = ('two',)"),
        ("inside", "x < 0 and LIMIT -> x < 0"),
        ("inside", "x < 0 and LIMIT -> x < 0 or LIMIT"),
        ("inside", "x < 0 and LIMIT -> x <= 0 and LIMIT"),
        ("inside", "return min(abs(x), 3) <= LIMIT -> return max(abs(x), 3) <= LIMIT"),
        ("inside", "return min(abs(x), 3) <= LIMIT -> return min(x, 3) <= LIMIT"),
        ("inside", "return min(abs(x), 3) <= LIMIT -> return min(abs(x), 3) < LIMIT"),
    } <= made
    assert ("inside", "raise ValueError(f'{x + 1} is below') -> pass") in made
    assert not any("x - 1" in change for _, change in made)


def test_a_mutant_is_the_module_with_one_change_and_a_name_of_its_own(judged: Module) -> None:
    whole = ast.unparse(ast.parse(SOURCE))
    texts = [ast.unparse(judged.tree(mutant)) for mutant in judged.mutants]
    assert len({mutant.name for mutant in judged.mutants}) == len(set(texts)) == len(texts)
    assert whole not in texts


def test_a_name_stays_where_lines_move(judged: Module, tmp_path: Path) -> None:
    (tmp_path / "judged.py").write_text(f"# A line more.\n{SOURCE}")
    moved = Module(tmp_path, "judged.py")
    assert [mutant.name for mutant in moved.mutants] == [mutant.name for mutant in judged.mutants]
    assert [mutant.line for mutant in moved.mutants] == [mutant.line + 1 for mutant in judged.mutants]


def test_trials_count_as_long_as_the_module_has_its_text(judged: Module, tmp_path: Path) -> None:
    mutant = judged.mutants[0]
    Kept(tmp_path / "kept").keep(judged, mutant, "killed")
    assert Kept(tmp_path / "kept").outcome(judged, mutant) == "killed"
    (tmp_path / "judged.py").write_text(f"{SOURCE}\n")
    assert Kept(tmp_path / "kept").outcome(Module(tmp_path, "judged.py"), mutant) is None


def test_a_kill_is_told_from_a_survivor(judged: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tests of a module that stands alone, each trial in a process of its own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "test_judged.py").write_text(TESTS)
    tests = [str(tmp_path / "test_judged.py")]
    known = trial.baseline(judged, tests)
    ended = {mutant.change: trial.judge(judged, mutant, tests, known) for mutant in judged.mutants}
    survived = {change for change, outcome in ended.items() if outcome == "survived"}
    assert survived == {
        "WORDS = ('one', 'two') -> WORDS = ('two',)",
        "WORDS = ('one', 'two') -> WORDS = ('one',)",
        "x < 0 and LIMIT -> x < 0",
        "x < 0 and LIMIT -> x <= 0 and LIMIT",
        "x < 0 and LIMIT -> x < 1 and LIMIT",
        "return min(abs(x), 3) <= LIMIT -> return min(x, 3) <= LIMIT",
        "return min(abs(x), 3) <= LIMIT -> return min(abs(x), 4) <= LIMIT",
    }
    assert ended["LIMIT = 2.0 -> LIMIT = 3.0"] == "killed"


def test_tests_that_fail_unchanged_judge_nothing(
    judged: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "test_judged.py").write_text("def test_wrong():\n    assert False\n")
    with pytest.raises(RuntimeError, match="do not pass unchanged"):
        trial.baseline(judged, [str(tmp_path / "test_judged.py")])


def test_every_module_of_the_table_and_its_tests_are_there() -> None:
    for path, tests in table((HERE / "modules.yaml").read_text()).items():
        assert all((ROOT / name).is_file() for name in (path, *tests)), path


def test_the_page_says_what_its_data_says() -> None:
    assert (ROOT / page.PAGE).read_text() == page.rendered(), "python -m tools.judge_mutations --page"


def test_a_reason_stays_as_long_as_its_mutant_survives(
    judged: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SURVIVORS", "RUN"):
        monkeypatch.setattr(page, name, tmp_path / name)
    (tmp_path / "docs").mkdir()
    kept, (first, second, third, *rest) = Kept(tmp_path / "kept"), judged.mutants
    page.SURVIVORS.write_text("{}")
    for mutant, outcome in ((first, "survived"), (second, "not run"), (third, "killed")):
        kept.keep(judged, mutant, outcome)
    page.write(tmp_path, {judged.path: judged}, kept, "abc")
    page.SURVIVORS.write_text(page.SURVIVORS.read_text().replace("reason: null", "reason: no reader", 1))
    page.write(tmp_path, {judged.path: judged}, kept, "abc")
    assert [each.reason for each in page.survivors()[judged.path].values()] == ["no reader", None]
    assert (page.is_known(first), page.is_known(third)) == (True, False)
    told = (tmp_path / page.PAGE).read_text()
    assert f"| `judged.py` | {3 + len(rest)} | 3 | 1 | 1 | 1 | 50% |" in told
    kept.keep(judged, first, "killed")
    page.write(tmp_path, {judged.path: judged}, kept, "abc")
    assert page.survivors()[judged.path].keys() == {page.key(second)}


def test_a_sample_of_the_limits_is_seen_by_their_tests(tmp_path: Path) -> None:
    """In a process of its own: nothing of ours may be loaded where mutants are."""
    words = [sys.executable, "-m", "tools.judge_mutations", "tolerance/rules", "levels/logits", "--sample", "12"]
    ended = subprocess.run(
        [*words, "--kept", str(tmp_path / "kept")], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("12 mutants")
