"""Op-level verdicts stand for another run of the same sources, seed, device and versions, and say whose they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.build import builder, registry
from harness.parity.gate import prove
from harness.parity.kernels import verdict_store
from harness.parity.kernels.input_kinds import ITEMS
from harness.parity.kernels.verdict_store import VerdictStore
from harness.records.case import Case
from harness.records.checks import Check, Parity
from harness.records.proof_size import ProofSize
from harness.spec.kernel import Cost, Kernel, OpCase
from harness.spec.optimization import Menu, Optimization, Receipt, Target

SPEC, CPU = registry.load("qwen3_4b_instruct_2507"), torch.device("cpu")


def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for size in (5, 64):
        yield OpCase(f"{size} numbers", {"x": torch.randn(size, generator=generator, device=device).to(dtype)})


def kernel(name: str, launch: Callable[..., Mapping[str, Tensor]]) -> Kernel:
    free, nothing = dict.fromkeys(ITEMS, "of no matter here"), Cost(0, 0)
    return Kernel(name, launch, lambda x: {"y": x * 0.3}, cases, lambda **_: nothing, lambda _: (), inapplicable=free)


def check(error: float = 0.5) -> Check:
    return Check(level="op", subject="rms_norm", name="out", rule="max", error=error, noise=0.5, limit=1.0)


def store(folder: Path, case: Case, run: str = "one") -> VerdictStore:
    return VerdictStore(folder, run, case, SPEC, CPU)


def test_the_next_proof_takes_the_verdicts_over_and_names_the_run_that_made_them(tmp_path: Path, make_case) -> None:
    launched: list[str] = []

    def scaled(x: Tensor) -> Mapping[str, Tensor]:
        launched.append(str(x.dtype))
        return {"y": x * 0.3}

    def overrunning(x: Tensor) -> Mapping[str, Tensor]:
        x.as_strided((1,), (1,), x.storage_offset() + len(x)).fill_(1.0)
        return {"y": x * 0.3}

    # What overruns ends a proof behind its op level.
    kernels = tuple(kernel(*named) for named in (("scaled", scaled), ("overrun", overrunning)))
    item = Optimization("scaling", "scales", "exact", lambda *_: Receipt("scaling", ()), kernels=kernels)
    spec = replace(SPEC, menu=Menu((item,), ("scaling",)))
    target = Target(CPU, torch.float16, "interpreted")
    config = builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), ("scaling",), target)

    def judged(run: str) -> Parity:
        verdicts = VerdictStore(tmp_path / "held", run, make_case(), spec, CPU)
        return prove(config, ProofSize(1, 8, 2), lambda *_: None, verdicts=verdicts).parity

    first, counted = judged("one"), len(launched)
    second = judged("two")
    assert set(launched) == {"torch.float32", "torch.float16"}
    assert len(launched) == counted, "it was launched again"
    assert first.standing == ()
    assert {(each.kernel, each.dtype, each.run) for each in second.standing} == {
        ("scaled", dtype, "one") for dtype in ("float32", "float16")
    }
    assert second.checks == first.checks


def test_what_was_kept_is_found_by_the_same_question_alone(tmp_path: Path, make_case) -> None:
    case = make_case()
    store(tmp_path / "held", case).keep("rms_norm", torch.float16, [check()])
    found = store(tmp_path / "held", case, "two").find("rms_norm", torch.float16)
    assert found is not None
    assert (found.standing.run, found.checks) == ("one", (check(),))
    others = [("swiglu", torch.float16, case), ("rms_norm", torch.float32, case)]
    others += [("rms_norm", torch.float16, case.model_copy(update={"seed": case.seed + 1}))]
    others += [("rms_norm", torch.float16, case.model_copy(update={"parameters": {"linear.rows": 8}}))]
    for kernel, dtype, asked in others:
        assert store(tmp_path / "held", asked).find(kernel, dtype) is None


@pytest.mark.parametrize("changed", ["kernel_sources", "gate_sources"])
def test_other_sources_are_another_question(
    tmp_path: Path, make_case, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    store(tmp_path / "held", make_case()).keep("rms_norm", torch.float16, [check()])
    monkeypatch.setattr(verdict_store, changed, lambda *_: "edited")
    assert store(tmp_path / "held", make_case()).find("rms_norm", torch.float16) is None


def test_a_refusal_is_made_again_each_time(tmp_path: Path, make_case) -> None:
    store(tmp_path / "held", make_case()).keep("rms_norm", torch.float16, [check(), check(error=2.0)])
    assert store(tmp_path / "held", make_case()).find("rms_norm", torch.float16) is None


def test_a_file_that_was_changed_or_a_folder_that_others_write_holds_nothing(tmp_path: Path, make_case) -> None:
    folder = tmp_path / "held"
    held = store(folder, make_case())
    held.keep("rms_norm", torch.float16, [check()])
    (file,) = folder.iterdir()
    whole = file.read_text()
    for text in (whole[:-20], whole.replace("0.5", "5.5"), whole.replace("rms_norm", "swiglu"), ""):
        file.write_text(text)
        assert held.find("rms_norm", torch.float16) is None
    file.write_text(whole)
    assert held.find("rms_norm", torch.float16) is not None
    folder.chmod(0o777)
    assert held.find("rms_norm", torch.float16) is None


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_verdicts(tmp_path: Path, make_case) -> None:
    (tmp_path / "file").touch()
    held = store(tmp_path / "file" / "held", make_case())
    held.keep("rms_norm", torch.float16, [check()])
    assert held.find("rms_norm", torch.float16) is None


def test_the_least_used_verdict_goes_first(tmp_path: Path, make_case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_store, "KEPT", 2)
    held = store(tmp_path / "held", make_case())
    for age, kernel in enumerate(("a", "b", "c")):
        held.keep(kernel, torch.float16, [check()])
        for file in (tmp_path / "held").iterdir():
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 10 * (age < 2)))
    assert [held.find(kernel, torch.float16) is not None for kernel in ("a", "b", "c")] == [False, True, True]
