"""No file stands in two models: neither as it is, nor with a few lines changed."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import pytest

from harness.build.registry import MODELS, names

SHARE = 0.7
"""Of the longer file's lines. Two geometries of one family have 61 % in common, two values of one dataclass 67 %."""
JUDGED_BY_FUNCTION = ("tests", "benchmarks")
"""Held by `test_self_contained`: what is set up alike there is not code that ships."""


def code_lines(text: str) -> Counter[str]:
    """Count the non-blank lines that are part of no import."""
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    skipped = {number for node in imports for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = (line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in skipped)
    return Counter(filter(None, lines))


def share(one: Counter[str], other: Counter[str]) -> float:
    """Return the part of the longer file's lines that the other has too."""
    return (one & other).total() / max(one.total(), other.total(), 1)


def copied(root: Path, models: Iterable[str]) -> Iterator[str]:
    """Tell every pair of files of two models under `root` that are one file."""
    files = [(name, path, path.read_text()) for name in models for path in sorted((root / name).rglob("*.py"))]
    lines = {path: code_lines(text) for _, path, text in files}
    for (model, path, text), (other_model, other, other_text) in combinations(files, 2):
        if model == other_model or not text.strip():
            continue
        places = (path.relative_to(root), other.relative_to(root))
        shipped = all(not {*place.parts} & {*JUDGED_BY_FUNCTION} for place in places)
        if text == other_text or (shipped and share(lines[path], lines[other]) > SHARE):
            yield f"{places[0]} is {places[1]}"


def test_no_file_of_one_model_is_that_of_another() -> None:
    assert list(copied(MODELS, names())) == []


MECHANISM = '''"""What CUDA C++ does that Triton cannot: which decode steps take a cluster for each head."""

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.attention.cluster_attention_cases import CLUSTER_ATTENTION
from models.common.attention.cluster_step import cluster

ROWS = 1
KEYS = 4096


def launch_once(model: nn.Module, target: Target) -> Receipt:
    """QK-norm, rotation, cache write and attention of one new token in one launch."""
    return Receipt("cuda_kernels", cluster(model, ROWS, KEYS), (f"one launch for {ROWS} sequence of {KEYS} tokens",))


CUDA_KERNELS = Optimization(
    name="cuda_kernels",
    summary="decode attention from projections to heads' outputs in one CUDA launch",
    numerics="reordered",
    apply=launch_once,
    kernels=(CLUSTER_ATTENTION,),
    conflicts=("compile",),
    needs=("clusters", "cuda", "nvcc"),
)
'''
OTHER_NUMBERS = MECHANISM.replace("ROWS = 1", "ROWS = 2").replace("KEYS = 4096", "KEYS = 8192")
OTHER_WORDS = MECHANISM.replace("What CUDA C++ does that Triton cannot", "What this model leaves to CUDA C++")
DECLARATION = '''"""What CUDA C++ does for {name}."""

CUDA_KERNELS = cluster_attention(rows=1, keys=4096)
"""{name}: {heads} clusters a step."""
'''


@pytest.mark.parametrize(
    ("ours", "place", "theirs", "seen"),
    [
        (MECHANISM, "cuda_kernels.py", MECHANISM, True),
        (MECHANISM, "cuda_kernels.py", OTHER_NUMBERS, True),
        (MECHANISM, "another_name.py", OTHER_WORDS, True),
        (MECHANISM, "tests/test_cuda_kernels.py", MECHANISM, True),
        (MECHANISM, "tests/test_cuda_kernels.py", OTHER_NUMBERS, False),
        (DECLARATION.format(name="a", heads=8), "cuda_kernels.py", DECLARATION.format(name="b", heads=4), False),
        ("", "__init__.py", "", False),
    ],
    ids=["equal", "numbers", "words and name", "equal test", "test of its own", "declarations", "empty"],
)
def test_a_planted_copy_is_seen(tmp_path: Path, ours: str, place: str, theirs: str, seen: bool) -> None:
    for path, text in ((tmp_path / "a" / "cuda_kernels.py", ours), (tmp_path / "b" / place, theirs)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert list(copied(tmp_path, ["a", "b"])) == ([f"a/cuda_kernels.py is b/{place}"] if seen else [])
