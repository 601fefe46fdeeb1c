"""`python -m harness.commands.components [--write]`: every component of every model, as the README shows it: the file
that does it, the test that proves it, and the newest committed record of a proof that it passed."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build import registry
from harness.commands.component_rows import COMPONENTS, KERNEL_TESTS, Component
from harness.errors import HarnessError
from harness.records.record import Record
from harness.records.run_file import read_file
from harness.spec.model import ModelSpec

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- components: python -m harness.commands.components --write -->", "<!-- components end -->"


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
    if component.part and getattr(spec, component.part) is None:
        return "none"
    if not set(component.optimizations) <= set(spec.menu.names()):
        return "not offered"
    kernels = _kernels(component, spec)
    code = _existing(f"code of {component.name}", component.code, spec.name, root)
    asked = (*component.tests, *_judges(kernels, spec))
    own = _found(component.own, spec.name, root)[:1] if component.own else []
    tests = [*own, *_existing(f"test of {component.name}", asked, spec.name, root)]
    noun = "code" if component.counts is None else f"{len(kernels)} kernel{'s' * (len(kernels) > 1)}"
    return " ".join([_links(noun, code), _links("test", tests), _records(component, spec, evidence)])


def _found(pattern: str, model: str, root: Path) -> list[str]:
    paths = sorted(root.glob(pattern.format(model=f"models/{model}")))
    return [path.relative_to(root).as_posix() for path in paths]


def _existing(what: str, patterns: Sequence[str], model: str, root: Path) -> list[str]:
    """The first file of every pattern."""
    existing = {pattern.format(model=f"models/{model}"): _found(pattern, model, root) for pattern in patterns}
    lacking = [pattern for pattern, paths in existing.items() if not paths]
    if lacking or not existing:
        missing = " nor ".join(lacking) or "anything"
        raise HarnessError(f"{model} has no {what}: {missing} does not exist, and the table would lie")
    return [paths[0] for paths in existing.values()]


def _links(noun: str, paths: Sequence[str]) -> str:
    """One link on the noun; several as numbers behind it."""
    if len(paths) == 1:
        return f"[{noun}]({paths[0]})"
    return " ".join([noun, *(f"[{number}]({path})" for number, path in enumerate(paths, start=1))])


def _kernels(component: Component, spec: ModelSpec) -> list[str]:
    """Names of the kernels that the row is about, or that its optimizations bring."""
    counts, asked = component.counts, component.optimizations
    brought = (kernel for item in spec.menu.items if not asked or item.name in asked for kernel in item.kernels)
    names = list(dict.fromkeys(kernel.name for kernel in brought if (counts(kernel) if counts else asked)))
    if component.counts and not names:
        raise HarnessError(f"{spec.name} has no {component.name} on its menu, and the table would lie")
    return names


def _judges(kernels: Sequence[str], spec: ModelSpec) -> list[str]:
    """The test files of the kernels. HarnessError for a kernel that none of them judges."""
    unknown = set(kernels) - {name for names in KERNEL_TESTS.values() for name in names}
    if unknown:
        raise HarnessError(f"{spec.name}: no file in KERNEL_TESTS judges {min(unknown)}, and the table would lie")
    return [file for file, names in KERNEL_TESTS.items() if set(names) & set(kernels)]


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
    parser = argparse.ArgumentParser(prog="python -m harness.commands.components", description=__doc__)
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
