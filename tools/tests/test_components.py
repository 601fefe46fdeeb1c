"""The tables of components: every model has its own, and a cell cannot claim what is not there."""

from __future__ import annotations

import importlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build import registry
from harness.errors import HarnessError
from harness.spec.kernel import Kernel
from harness.spec.optimization import Menu
from tools.component_rows import COMPONENTS, KERNEL_TESTS
from tools.components import table, tables
from tools.repository import ROOT, Evidence, Repository

SPECS = [registry.load(name) for name in registry.names()]
CODER = registry.load("qwen3_coder_30b")


def rows(made: str) -> dict[str, list[str]]:
    """Component -> its code, tests and record."""
    split = ([cell.strip() for cell in line.split("|")[1:-1]] for line in made.splitlines()[2:])
    return {name: cells for name, *cells in split}


@pytest.fixture(scope="module")
def evidence() -> tuple[Evidence, ...]:
    return Repository().passed


def test_every_model_has_a_table() -> None:
    made = tables(Repository())
    assert [line for line in made.splitlines() if line.startswith("## ")] == [f"## `{spec.name}`" for spec in SPECS]


def test_every_model_has_every_component(evidence: tuple[Evidence, ...]) -> None:
    for spec in SPECS:
        made = rows(table(spec, evidence))
        assert list(made) == [component.name for component in COMPONENTS]
        assert [name for name, cells in made.items() if len(cells) != 3 or "not offered" in cells] == []
        lacking = {"router and experts": spec.routing is None, "vision": spec.vision is None}
        assert {name for name, cells in made.items() if "none" in cells} == {name for name in lacking if lacking[name]}


def judged(test: Path) -> set[str]:
    """The kernels that the judge of a test says it judges: a script beside the test, or a name in the test itself."""
    subject = test.stem.removeprefix("test_")
    scripts = [test.with_name(f"{subject.removesuffix(end)}_judge.py") for end in ("", "_kernels")]
    source = next((script for script in scripts if script.exists()), test)
    module = importlib.import_module(".".join(source.relative_to(ROOT).with_suffix("").parts))
    value = getattr(module, "KERNELS", None) or module.KERNEL
    if isinstance(value, str):
        place, _, name = value.partition(":")
        value = getattr(importlib.import_module(place), name)
    return {value.name} if isinstance(value, Kernel) else {kernel.name for kernel in value}


@pytest.mark.parametrize(
    "pattern", [pattern for pattern in KERNEL_TESTS if re.search(r"_(kernels|router)\.py$", pattern)]
)
def test_a_test_of_kernels_judges_those_that_the_table_says(pattern: str) -> None:
    tests = list(ROOT.glob(pattern.format(model="models/*")))
    assert tests
    assert set().union(*map(judged, tests)) == set(KERNEL_TESTS[pattern])


def test_a_row_cites_what_this_model_does_otherwise_and_the_tests_of_its_own_kernels() -> None:
    tests = {spec.name: rows(table(spec, ()))["rotary"][1] for spec in SPECS}
    assert {name for name, cell in tests.items() if "test_qwen3_vl_positions.py" in cell} == {"qwen3_vl_2b"}
    assert {name for name, cell in tests.items() if "test_tower_kernels.py" in cell} == {"qwen3_vl_2b"}
    assert all("test_eager_twins.py" in cell and "test_layer_kernels.py" in cell for cell in tests.values())


def test_a_kernel_that_no_test_judges_is_refused() -> None:
    kernel = replace(CODER.menu["rotary"].kernels[0], name="unjudged")
    rotary = replace(CODER.menu["rotary"], kernels=(kernel,))
    items = tuple(rotary if item.name == "rotary" else item for item in CODER.menu.items)
    with pytest.raises(HarnessError, match="no file in KERNEL_TESTS judges unjudged"):
        table(replace(CODER, menu=Menu(items, ())), ())


def test_a_record_proves_the_optimizations_of_its_own_stack_and_model(evidence: tuple[Evidence, ...]) -> None:
    mine = [e for e in evidence if e.record.case.model == "qwen3_coder_30b"]
    without = [e for e in mine if "cuda_kernels" not in e.record.case.optimizations]
    assert "](benchmark_results/" in rows(table(CODER, mine))["kernels, CUDA C++"][2]
    assert rows(table(CODER, without))["kernels, CUDA C++"][2] == "no record yet"
    assert rows(table(registry.load("glm_4_7"), mine))["core model"][2] == "no record yet"


def test_a_row_of_several_optimizations_names_those_without_a_record(evidence: tuple[Evidence, ...]) -> None:
    found = next(e for e in evidence if e.record.case.model == "qwen3_coder_30b")
    case = found.record.case.model_copy(update={"optimizations": ("linear_int8",)})
    rounded = Evidence("here.jsonl", found.record.model_copy(update={"case": case}))
    cell = rows(table(CODER, [rounded]))["linear, fewer bits"][2]
    assert cell == "[linear_int8](here.jsonl) no record of linear_fp8, linear_int4 yet"


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
    assert table(CODER, (), root)
    (root / path).unlink()
    with pytest.raises(HarnessError, match=words):
        table(CODER, (), root)


def test_what_the_menu_lacks_is_not_claimed() -> None:
    items = tuple(item for item in CODER.menu.items if item.name != "rotary")
    made = rows(table(replace(CODER, menu=Menu(items, ())), ()))
    assert made["rotary"][0] == "not offered"


def test_a_record_of_a_gpu_is_shown_before_one_of_a_cpu(evidence: tuple[Evidence, ...]) -> None:
    mine = [found for found in evidence if found.record.case.model == CODER.name and found.record.parity]
    assert {found.record.case.on_cpu for found in mine} == {True, False}
    core = rows(table(CODER, mine))["core model"]
    shown = [found for found in mine if f"({found.path})" in core[2]]
    assert shown
    assert not any(found.record.case.on_cpu for found in shown)
