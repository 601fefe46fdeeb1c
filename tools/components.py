"""Every component of every model: the file that does it, the tests that prove it, and the newest committed record of a
proof that it passed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from harness.build import registry
from harness.errors import HarnessError
from harness.spec.model import ModelSpec
from tools.component_rows import COMPONENTS, KERNEL_TESTS, Component
from tools.repository import ROOT, Evidence, Repository, markdown_table


def tables(repository: Repository) -> str:
    """Return a heading and a table for each model."""
    specs = [registry.load(name) for name in registry.names()]
    made = (f"## `{spec.name}`\n\n{table(spec, repository.passed, repository.root)}" for spec in specs)
    return "\n".join(made)


def table(spec: ModelSpec, evidence: Iterable[Evidence], root: Path = ROOT) -> str:
    """Return Markdown, a row for each component of a model. HarnessError names the file or the test that a cell would
    claim and that does not exist."""
    found = tuple(evidence)
    rows = [[component.name, *_cells(component, spec, found, root)] for component in COMPONENTS]
    return markdown_table(("component", "code", "tests", "newest record"), rows)


def _cells(component: Component, spec: ModelSpec, evidence: Sequence[Evidence], root: Path) -> list[str]:
    if component.part and getattr(spec, component.part) is None:
        return ["none", "", ""]
    if not set(component.optimizations) <= set(spec.menu.names()):
        return ["not offered", "", ""]
    kernels = _kernels(component, spec)
    code = _links(_existing(f"code of {component.name}", component.code, spec.name, root))
    asked = (*component.tests, *_judges(kernels, spec))
    own = _found(component.own, spec.name, root)[:1] if component.own else []
    tests = [*own, *_existing(f"test of {component.name}", asked, spec.name, root)]
    count = "" if component.counts is None else f"{len(kernels)} kernel{'s' * (len(kernels) > 1)}: "
    return [f"{count}{code}", _links(tests), _records(component, spec, evidence)]


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


def _links(paths: Sequence[str]) -> str:
    return " ".join(f"[{PurePosixPath(path).stem.removeprefix('test_')}]({path})" for path in paths)


def _kernels(component: Component, spec: ModelSpec) -> list[str]:
    """Names of the kernels that the row is about, or that its optimizations bring."""
    counts, asked = component.counts, component.optimizations
    brought = (kernel for item in spec.menu.items if not asked or item.name in asked for kernel in item.kernels)
    names = list(dict.fromkeys(kernel.name for kernel in brought if (counts(kernel) if counts else asked)))
    if component.counts and not names:
        raise HarnessError(f"{spec.name} has no {component.name} on its menu, and the table would lie")
    return names


def _judges(kernels: Sequence[str], spec: ModelSpec) -> list[str]:
    """The patterns of the test files of the kernels. HarnessError for a kernel that none of them judges."""
    unknown = set(kernels) - {name for names in KERNEL_TESTS.values() for name in names}
    if unknown:
        raise HarnessError(f"{spec.name}: no file in KERNEL_TESTS judges {min(unknown)}, and the table would lie")
    return [pattern for pattern, names in KERNEL_TESTS.items() if set(names) & set(kernels)]


def _worth(found: Evidence) -> tuple[bool, bool, str]:
    case = found.record.case
    return not case.on_cpu, case.size != "tiny", found.record.started_at


def _records(component: Component, spec: ModelSpec, evidence: Sequence[Evidence]) -> str:
    """A link for each optimization of the row to the newest record that proves it: GPUs before CPUs, real
    sizes before tiny ones."""
    mine = [e for e in evidence if e.record.case.model == spec.name and component.shows(e.record)]
    proven, lacking = [], []
    for name in component.optimizations or ("",):
        with_it = [e for e in mine if not name or name in e.record.case.optimizations]
        if with_it:
            best = max(with_it, key=_worth)
            proven.append(f"[{name if len(component.optimizations) > 1 else 'record'}]({best.path})")
        else:
            lacking.append(name)
    if not proven:
        return "no record yet"
    return " ".join(proven) + (f" no record of {', '.join(lacking)} yet" if lacking else "")
