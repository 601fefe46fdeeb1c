"""One mutant before its tests, in a process of its own that begins with every library loaded and nothing of ours.

Tests that ran the changed statement when nothing was changed are asked first; what no test runs survives unasked.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal

import pytest

from tools.judge_mutations.mutants import Module, Mutant

LIBRARIES = ("torch", "numpy", "scipy.stats", "pandas", "pyarrow", "pydantic", "transformers", "safetensors.torch",
             "altair", "jinja2", "rich", "hydra", "yaml", "pytest", "hypothesis", "triton", "ruptures")  # fmt: skip
LEAST_S, TIMES = 10.0, 5.0
"""Of processor time: a mutant that takes so many times what its tests took unchanged, and more than this, hangs."""
SLOWEST_S = 0.5
"""Of processor time while watched: a slower test is not asked, or few mutants could be."""
WORDS = ("-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "--import-mode=importlib")
"""After the tests' names: none of the plugins that share cores out, time or tell."""
Outcome = Literal["killed", "survived", "not run", "hung"]


@dataclass(frozen=True)
class Baseline:
    """What the tests of a module do while it is unchanged."""

    lines: dict[str, tuple[int, ...]]
    """Test -> lines of the module that ran while it did; under the empty name, those that ran outside of any."""
    seconds: dict[str, float]

    def runs(self, mutant: Mutant) -> bool:
        """Whether anything runs a mutant's statement, be it an import."""
        return any(self._runs(mutant, lines) for lines in self.lines.values())

    def order(self, mutant: Mutant) -> list[str]:
        """Every quick test: first those that run a mutant's statement, the fastest of them first, then the rest, which
        may use what the first has made and kept."""
        quick = [test for test, seconds in self.seconds.items() if seconds <= SLOWEST_S]
        return sorted(quick, key=lambda test: (not self._runs(mutant, self.lines[test]), self.seconds[test]))

    @staticmethod
    def _runs(mutant: Mutant, lines: Sequence[int]) -> bool:
        return any(line in lines for line in range(mutant.line, mutant.last_line + 1))


def warm() -> None:
    """Load what a trial needs of others, once. RuntimeError if something of ours came with it: a changed module that
    is there already would never be read."""
    for name in LIBRARIES:
        __import__(name)
    import torch

    torch.set_num_threads(1)
    # What is loaded is never garbage: looking for some in it would copy it into every trial.
    gc.collect()
    gc.freeze()
    gc.disable()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if ours := sorted(name for name in sys.modules if name.split(".")[0] in ("harness", "models")):
        raise RuntimeError(f"{ours[0]} is loaded already: a change to it would be seen by nobody")


def baseline(module: Module, tests: Sequence[str]) -> Baseline:
    """RuntimeError where the tests fail unchanged: they could tell nothing apart."""
    with tempfile.TemporaryDirectory(prefix="inference-pio-") as folder:
        told = Path(folder) / "told.json"
        code, _ = _apart(lambda: _watched(module, tests, told), None)
        if code != 0:
            raise RuntimeError(f"the tests of {module.path} do not pass unchanged: {' '.join(tests)}")
        found = json.loads(told.read_text())
    return Baseline({test: tuple(lines) for test, lines in found["lines"].items()}, found["seconds"])


def judge(module: Module, mutant: Mutant, tests: Sequence[str], known: Baseline) -> Outcome:
    if not known.runs(mutant):
        return "not run"
    order = known.order(mutant)
    limit_s = LEAST_S + TIMES * sum(known.seconds[test] for test in order)
    code, hung = _apart(lambda: _changed(module, mutant, tests, order), limit_s)
    if hung:
        return "hung"
    lost = [test for test in tests if not Path(test).is_file()]
    if code == 5 or lost:
        raise RuntimeError(f"{mutant.name}: its tests are gone, and would be taken for ones that noticed: {lost}")
    return "survived" if code == 0 else "killed"


def _changed(module: Module, mutant: Mutant, tests: Sequence[str], asked: Sequence[str]) -> int:
    tree = module.tree(mutant)
    sys.meta_path.insert(0, _Changed(module, tree))
    return _pytest(tests, _Only(asked))


def _watched(module: Module, tests: Sequence[str], told: Path) -> int:
    watch = _Watch(str(module.file))
    sys.settrace(watch.frame)
    code = _pytest(tests, watch)
    sys.settrace(None)
    lines = {test: sorted(found) for test, found in watch.lines.items()}
    told.write_text(json.dumps({"lines": lines, "seconds": watch.seconds}))
    return code


def _pytest(tests: Sequence[str], plugin: object) -> int:
    return int(pytest.main([*tests, *WORDS], plugins=[plugin]))


def _apart(work: Callable[[], int], limit_s: float | None) -> tuple[int, bool]:
    """The exit code of `work` in a process of its own, and whether it ran out of processor time or never ended."""
    child = os.fork()
    if child == 0:
        os._exit(_quietly(work, limit_s))
    ends_s = time.monotonic() + 20 * (limit_s or 3600)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > ends_s:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 1, True
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    return code, code in (-signal.SIGXCPU, -signal.SIGKILL)


def _quietly(work: Callable[[], int], limit_s: float | None) -> int:
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    if limit_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 5))
    try:
        return work()
    except BaseException:  # noqa: BLE001 - the process ends here, and its end is the answer
        return 1


class _Changed(MetaPathFinder):
    """Gives the changed module to whoever imports it by its name."""

    def __init__(self, module: Module, tree: ast.Module) -> None:
        self.name = module.path.removesuffix(".py").replace("/", ".")
        self.file, self.tree = str(module.file), tree

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name != self.name:
            return None
        tree, file = self.tree, self.file

        class Loader(SourceFileLoader):
            def get_code(self, fullname: str) -> CodeType:
                return compile(tree, file, "exec")

        return spec_from_loader(name, Loader(name, file))


class _Only:
    """A pytest plugin that runs the tests of a list, in its order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.order = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda i: self.order[i.nodeid])


class _Watch:
    """A pytest plugin that notes which lines of one file ran during which test, fixtures included."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.test = ""
        self.lines: dict[str, set[int]] = {"": set()}
        self.seconds: dict[str, float] = {}

    def frame(self, frame: FrameType, event: str, _: Any) -> Any:
        return self.line if frame.f_code.co_filename == self.file else None

    def line(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            self.lines[self.test].add(frame.f_lineno)
        return self.line

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, bool | None, bool | None]:
        self.test = item.nodeid
        self.lines[self.test] = set()
        start_s = time.process_time()
        found = yield
        self.seconds[self.test] = time.process_time() - start_s
        self.test = ""
        return found
