"""Values that tests of the harness share: a model that is only a menu, machines that are only facts, a plain case."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from harness.planning.hardware_target import LocalMachine
from harness.planning.settings import Hardware
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.records.record import Environment
from harness.spec.optimization import Menu, Optimization
from harness.spec.parameter import Parameter

GIB = 2**30
PAGE_TOKENS = Parameter("page_tokens", 64, (16, 32, 64), "Tokens in a page.")


@dataclass(frozen=True)
class FakeModel:
    sizes: dict[str, dict[str, Any]]
    menu: Menu
    checkpoint: str = "toys/toy@01234567"


@dataclass(frozen=True)
class FakeMachine:
    kind: Literal["cpu", "cuda"] = "cpu"
    gpu_names: tuple[str, ...] = ()
    gpu_uuids: tuple[str, ...] = ()
    gpu_memory_bytes: int | None = None
    memory_bytes: int = 16 * GIB
    cpu: str = "a CPU"
    cores: int = 2
    capability: tuple[int, int] | None = None


def optimization(name: str, **fields: Any) -> Optimization:
    def refuse(module: Any, target: Any, page_tokens: int = 64) -> Any:
        raise AssertionError("a plan applies nothing")

    return Optimization(name=name, summary=name, numerics="reordered", apply=refuse, **fields)


def hardware(name: str, gpu_count: int, match: str | None) -> Hardware:
    return Hardware(
        name=name,
        gpu_count=gpu_count,
        memory_bytes=141 * GIB if gpu_count else None,
        capability=None,
        match=match,
    )


KNOWN = {
    entry.name: entry
    for entry in (
        hardware("cpu", 0, None),
        hardware("cpu_x4", 0, None),
        hardware("h200", 1, r"\bH200\b"),
        hardware("h200_x2", 2, r"\bH200\b"),
    )
}


def pytest_configure() -> None:
    # A shell without job control starts what runs behind it deaf to interrupts, and so would be all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def model() -> FakeModel:
    items = (
        optimization("rotary", needs=("triton",)),
        optimization("attention", needs=("triton",)),
        optimization("kv_cache", conflicts=("kv_cache_paged",)),
        optimization("kv_cache_paged", requires=("attention",), parameters=(PAGE_TOKENS,)),
        optimization("cuda_graph", needs=("cuda",), requires=("kv_cache",)),
    )
    sizes: dict[str, dict[str, Any]] = {"tiny": {}, "slice": {}, "full": {}}
    return FakeModel(sizes, Menu(items, full=("rotary", "attention", "kv_cache", "cuda_graph")))


@pytest.fixture
def cpu_site() -> LocalMachine:
    return LocalMachine(FakeMachine(), KNOWN, cxx=True, nvcc=True)


@pytest.fixture
def gpu_site() -> LocalMachine:
    names = ("NVIDIA H200", "NVIDIA H200")
    return LocalMachine(FakeMachine("cuda", names, ("GPU-a", "GPU-b"), 140 * GIB), KNOWN, cxx=True, nvcc=True)


@pytest.fixture
def make_case() -> Callable[..., Case]:
    def make(**changes: Any) -> Case:
        workload = WorkloadShape(name="smoke", batch=2, prompt_tokens=24, new_tokens=64, dtype="float16")
        timing = TimingSettings(
            name="quick", processes=1, min_blocks=3, max_blocks=6, half_width=0.01, margin=0.03, limit_s=5.0
        )
        fields: dict[str, Any] = {
            "model": "toy",
            "size": "tiny",
            "optimizations": ("rotary",),
            "hardware": "cpu",
            "workload": workload,
            "arms": ("reference", "hf_static"),
            "timing": timing,
            "seed": 0,
            "deadline_s": 20.0,
        }
        return Case(**(fields | changes))

    return make


@pytest.fixture
def environment() -> Environment:
    return Environment(
        commit="0123456789abcdef",
        dirty=False,
        diff_hash=None,
        command=("python", "-m", "harness"),
        python="3.11",
        platform="Linux",
        packages={},
        cpu="a CPU",
        cpu_cores=2,
        memory_bytes=16 * GIB,
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function: file, and settings of the browser, to the page opened from disk. No page may complain or ask a
    network for anything."""
    said: list[str] = []
    contexts = []

    def opened(path: Path, **settings: Any) -> Any:
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | settings)))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else said.append(asked.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
