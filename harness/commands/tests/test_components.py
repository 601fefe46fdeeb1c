"""The table of components: the README carries it, and a cell cannot claim what is not there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build import registry
from harness.commands import components
from harness.commands.component_rows import COMPONENTS, KERNEL_TESTS
from harness.commands.components import ROOT, Evidence, committed, table, written
from harness.errors import HarnessError
from harness.spec.optimization import Menu

SPECS = [registry.load(name) for name in registry.names()]
CODER = registry.load("qwen3_coder_30b")


def rows(made: str) -> dict[str, list[str]]:
    """Component -> its cells."""
    split = ([cell.strip() for cell in line.split("|")[1:-1]] for line in made.splitlines()[2:])
    return {name: cells for name, *cells in split}


@pytest.fixture(scope="module")
def evidence() -> tuple[Evidence, ...]:
    return committed()


def test_the_readme_carries_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert components.main([]) == 0
    made = capsys.readouterr().out
    readme = (ROOT / "README.md").read_text()
    assert readme == written(readme, made), "python -m harness.commands.components --write"


def test_every_model_has_every_component(evidence: tuple[Evidence, ...]) -> None:
    made = rows(table(SPECS, evidence))
    assert list(made) == [component.name for component in COMPONENTS]
    assert {name: cells for name, cells in made.items() if len(cells) != len(SPECS) or "not offered" in cells} == {}
    lacking = {
        name: [spec.name for spec, cell in zip(SPECS, cells, strict=True) if cell == "none"]
        for name, cells in made.items()
    }
    assert {name: models for name, models in lacking.items() if models} == {
        "router and experts": [spec.name for spec in SPECS if spec.routing is None],
        "vision": [spec.name for spec in SPECS if spec.vision is None],
    }


@pytest.mark.parametrize("file", KERNEL_TESTS)
def test_a_test_of_kernels_names_those_that_the_table_says(file: str) -> None:
    text = (ROOT / file).read_text()
    assert [name for name in KERNEL_TESTS[file] if name not in text] == []


def test_a_row_cites_what_this_model_does_otherwise_and_the_tests_of_its_own_kernels() -> None:
    made = rows(table(SPECS, ()))
    cells = {spec.name: cell for spec, cell in zip(SPECS, made["rotary"], strict=True)}
    assert {name for name, cell in cells.items() if "test_qwen3_vl_positions.py" in cell} == {"qwen3_vl_2b"}
    assert {name for name, cell in cells.items() if "test_tower_kernels.py" in cell} == {"qwen3_vl_2b"}
    assert all(cell.count("test_rotary.py") == 1 for cell in cells.values())


def test_a_kernel_that_no_test_judges_is_refused() -> None:
    kernel = replace(CODER.menu["rotary"].kernels[0], name="unjudged")
    rotary = replace(CODER.menu["rotary"], kernels=(kernel,))
    items = tuple(rotary if item.name == "rotary" else item for item in CODER.menu.items)
    with pytest.raises(HarnessError, match="no file in KERNEL_TESTS judges unjudged"):
        table([replace(CODER, menu=Menu(items, ()))], ())


def test_a_record_proves_the_optimizations_of_its_own_stack_and_model(evidence: tuple[Evidence, ...]) -> None:
    mine = [e for e in evidence if e.record.case.model == "qwen3_coder_30b"]
    without = [e for e in mine if "cuda_kernels" not in e.record.case.optimizations]
    assert "](benchmark_results/" in rows(table([CODER], mine))["kernels, CUDA C++"][0]
    assert rows(table([CODER], without))["kernels, CUDA C++"][0].endswith("no record yet")
    assert rows(table([registry.load("glm_4_7")], mine))["core model"][0].endswith("no record yet")


def test_a_row_of_several_optimizations_names_those_without_a_record(evidence: tuple[Evidence, ...]) -> None:
    found = next(e for e in evidence if e.record.case.model == "qwen3_coder_30b")
    case = found.record.case.model_copy(update={"optimizations": ("linear_int8",)})
    rounded = Evidence("here.jsonl", found.record.model_copy(update={"case": case}))
    cell = rows(table([CODER], [rounded]))["linear, fewer bits"][0]
    assert cell.endswith("[linear_int8](here.jsonl) no record of linear_fp8, linear_int4 yet")


def project(root: Path) -> Path:
    for folder in ("harness", "models"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("models/qwen3_coder_30b/rotary.py", "qwen3_coder_30b has no code of rotary: models/qwen3_coder_30b/rotary.py"),
        ("models/qwen3_coder_30b/tests/test_qwen3_coder_quantized.py", "no test of linear, fewer bits"),
        ("models/common/cache/tests/test_kv_cache.py", "no test of KV cache"),
        ("models/common/moe/tests/test_moe_kernels.py", "no test of kernels, Triton"),
    ],
)
def test_a_cell_without_its_file_or_test_is_refused(tmp_path: Path, path: str, words: str) -> None:
    root = project(tmp_path)
    assert table([CODER], (), root)
    (root / path).unlink()
    with pytest.raises(HarnessError, match=words):
        table([CODER], (), root)


def test_what_the_menu_lacks_is_not_claimed() -> None:
    items = tuple(item for item in CODER.menu.items if item.name != "rotary")
    made = rows(table([replace(CODER, menu=Menu(items, ()))], ()))
    assert made["rotary"] == ["not offered"]


def test_outside_a_checkout_nothing_counts_as_committed(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="which records are committed cannot be told"):
        committed(tmp_path)


def test_a_readme_without_its_marks_is_refused() -> None:
    with pytest.raises(HarnessError, match="no place for the table"):
        written("# Title", "| |")
