"""`python -m harness.components [--write]`: every component of every model, as the README shows it: the file that does
it, the test that proves it, and the newest committed record of a proof that it passed."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import registry
from harness.errors import HarnessError
from harness.record import Record
from harness.run_file import read_file
from harness.spec import Kernel, ModelSpec

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- components: python -m harness.components --write -->", "<!-- components end -->"
KERNELS = "models/common/kernels"
SHARED = "models/common/tests"


@dataclass(frozen=True)
class Component:
    """A row. Paths start at the root, `{model}` stands for a model's directory and `*` for anything."""

    name: str
    code: str
    tests: tuple[str, ...]
    """The first one that exists is the proof: a model's own before that of the mechanism."""
    optimizations: tuple[str, ...] = ()
    """What a record must have in its stack; any stack will do where there are none."""
    shows: Callable[[Record], object] = lambda record: record.parity
    """What a record must hold beside a passed parity."""
    counts: Callable[[Kernel], bool] | None = None
    """Which kernels of the menu the row is about."""


def is_cuda(kernel: Kernel) -> bool:
    """A kernel that counts its own launches is no Triton function."""
    return kernel.launches is not None


COMPONENTS = (
    Component("core model", "{model}/model.py", ("{model}/tests/test_*_parity.py",)),
    Component("plugin interface", "{model}/plugin.py", ("harness/tests/test_model_registry.py",)),
    Component("attention", "{model}/attention.py", (f"{SHARED}/test_fused_modules.py",), ("attention",)),
    Component(
        "kernels, Triton",
        KERNELS,
        (f"{KERNELS}/tests/test_layer_kernels.py",),
        shows=lambda record: record.parity and "op" in record.parity.levels(),
        counts=lambda kernel: not is_cuda(kernel),
    ),
    Component(
        "kernels, CUDA C++",
        "{model}/cuda_kernels.py",
        (f"{KERNELS}/tests/test_cluster_attention.py",),
        ("cuda_kernels",),
        counts=is_cuda,
    ),
    Component(
        "tensor parallelism",
        "{model}/tensor_parallel.py",
        ("{model}/tests/test_*_tensor_parallel.py",),
        ("tensor_parallel",),
    ),
    Component("KV cache", "{model}/kv_cache.py", (f"{SHARED}/test_kv_cache.py",), ("kv_cache",)),
    Component("rotary", "{model}/rotary.py", (f"{KERNELS}/tests/test_layer_kernels.py",), ("rotary",)),
    Component("fused layers", "{model}/fused_layers.py", (f"{SHARED}/test_fused_modules.py",), ("fused_layers",)),
    Component("linear", "{model}/linear.py", (f"{SHARED}/test_skinny.py",), ("linear",)),
    Component(
        "linear, fewer bits",
        "{model}/linear.py",
        ("{model}/tests/test_*_quantized.py",),
        ("linear_int8", "linear_fp8", "linear_int4"),
    ),
    Component(
        "prefix caching",
        "{model}/prefix_cache.py",
        ("{model}/tests/test_*_prefixes.py", f"{SHARED}/test_prefixes.py"),
        ("prefix_caching",),
    ),
    Component("tests", "{model}/tests", ("models/tests/test_deletion.py",), shows=lambda record: record.kill_matrix),
    Component(
        "benchmarks", "{model}/benchmarks", ("{model}/benchmarks/bench_*.py",), shows=lambda record: record.series
    ),
)


@dataclass(frozen=True)
class Evidence:
    """A passed record and the file, from the root, that it stands in."""

    path: str
    record: Record


def committed(root: Path = ROOT) -> tuple[Evidence, ...]:
    """The passed records that git knows: those that a reader finds too. HarnessError outside a checkout."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "benchmark_results/*.jsonl"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HarnessError(f"which records are committed cannot be told in {root}: {done.stderr.strip()}")
    paths = sorted(path for path in done.stdout.split("\0") if path and (root / path).exists())
    return tuple(
        Evidence(path, record)
        for path in paths
        for record in read_file(root / path).records
        if record.status == "passed"
    )


def table(specs: Sequence[ModelSpec], evidence: Iterable[Evidence], root: Path = ROOT) -> str:
    """Markdown, a row for each component and a column for each model. HarnessError names the file or the test that a
    cell would claim and that does not exist."""
    found = tuple(evidence)
    lines = ["| | " + " | ".join(f"`{spec.name}`" for spec in specs) + " |", "|---" * (len(specs) + 1) + "|"]
    for component in COMPONENTS:
        cells = (_cell(component, spec, found, root) for spec in specs)
        lines.append(f"| {component.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(component: Component, spec: ModelSpec, evidence: Sequence[Evidence], root: Path) -> str:
    if not set(component.optimizations) <= set(spec.menu.names()):
        return "not offered"
    code = _existing(f"code of {component.name}", (component.code,), spec.name, root)
    test = _existing(f"test of {component.name}", component.tests, spec.name, root)
    return " ".join([f"[{_noun(component, spec)}]({code})", f"[test]({test})", _records(component, spec, evidence)])


def _existing(what: str, patterns: Sequence[str], model: str, root: Path) -> str:
    asked = [pattern.format(model=f"models/{model}") for pattern in patterns]
    for pattern in asked:
        for path in sorted(root.glob(pattern)):
            return path.relative_to(root).as_posix()
    raise HarnessError(f"{model} has no {what}: {' nor '.join(asked)} does not exist, and the table would lie")


def _noun(component: Component, spec: ModelSpec) -> str:
    if component.counts is None:
        return "code"
    names = {kernel.name for item in spec.menu.items for kernel in item.kernels if component.counts(kernel)}
    if not names:
        raise HarnessError(f"{spec.name} has no {component.name} on its menu, and the table would lie")
    return f"{len(names)} kernel{'s' * (len(names) > 1)}"


def _records(component: Component, spec: ModelSpec, evidence: Sequence[Evidence]) -> str:
    """A link for each optimization of the row to the newest record that proves it, real sizes before tiny ones."""
    mine = [e for e in evidence if e.record.case.model == spec.name and component.shows(e.record)]
    proven, lacking = [], []
    for name in component.optimizations or ("",):
        with_it = [e for e in mine if not name or name in e.record.case.optimizations]
        if with_it:
            best = max(with_it, key=lambda e: (e.record.case.size != "tiny", e.record.started_at))
            proven.append(f"[{name if len(component.optimizations) > 1 else 'record'}]({best.path})")
        else:
            lacking.append(name)
    if not proven:
        return "no record yet"
    return " ".join(proven) + (f" no record of {', '.join(lacking)} yet" if lacking else "")


def written(document: str, made: str) -> str:
    """The document with `made` between its two marks. HarnessError where it lacks them."""
    before, begun, rest = document.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise HarnessError(f"README.md lacks the marks {BEGIN!r} and {END!r}: there is no place for the table")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.components", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args(argv)
    made = table([registry.load(name) for name in registry.names()], committed())
    if options.write:
        readme = ROOT / "README.md"
        readme.write_text(written(readme.read_text(), made))
    else:
        print(made, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
