"""The catalogue, the judge of the judge, and what a kill matrix lets nobody claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from harness.build import builder, registry
from harness.errors import HarnessError, RecordError
from harness.faults.catalog import every
from harness.faults.kernel_faults import judge_kernel
from harness.faults.model_faults import Suspects, mutants_of
from harness.records.checks import Check, Parity
from harness.records.kill_matrix import KillMatrix, MutantOutcome, SignOffEvidence
from harness.records.proof_size import ProofSize
from harness.spec.kernel import Cost, Kernel, OpCase
from harness.spec.mutant import Mutant
from harness.spec.optimization import Target

CPU = torch.device("cpu")
FLOATS = (torch.float32, torch.float16)


def scaled_sum(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"out": x * 0.7 + y}


def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    rows = int(torch.randint(2, 900, (1,), generator=generator))
    for shape in ((5, 33), (rows, 16)):
        x, y = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
        yield OpCase(f"{shape}", {"x": x, "y": y})
        yield OpCase(f"{shape} transposed", {"x": x.T.contiguous().T, "y": y})


KERNEL = Kernel("made", scaled_sum, scaled_sum, menu, lambda **_: Cost(0, 0), lambda _: ())


def test_every_kernel_has_a_dozen_kinds_of_fault_and_each_is_seen() -> None:
    mutants = every(KERNEL, torch.float32, CPU)
    assert len({mutant.kind for mutant in mutants}) >= 12
    outcomes = list(judge_kernel(KERNEL, FLOATS, CPU, seed=1))
    assert [(item.name, item.end) for item in outcomes if item.end not in ("killed", "crash")] == []
    assert len(outcomes) == len(mutants)


def test_a_blind_menu_lets_a_fault_survive_by_name() -> None:
    blind = replace(KERNEL, cases=lambda *draw: (case for case in menu(*draw) if "transposed" not in case.name))
    survivors = [item.name for item in judge_kernel(blind, FLOATS, CPU, seed=1) if item.end == "survived"]
    assert survivors == ["strides ignored"]


def test_a_declared_fault_stands_for_the_one_of_its_name() -> None:
    same = Mutant("strides ignored", "stride", lambda launch: launch, equivalent="nothing is read by strides")
    outcomes = list(judge_kernel(replace(KERNEL, mutants=(same,)), FLOATS, CPU, seed=1))
    assert [item.end for item in outcomes if item.name == "strides ignored"] == ["equivalent"]
    lie = replace(same, apply=lambda launch: lambda **i: {"out": 1.1 * launch(**i)["out"]})
    (seen,) = (i for i in judge_kernel(replace(KERNEL, mutants=(lie,)), FLOATS, CPU, seed=1) if i.name == lie.name)
    assert (seen.end, seen.reason) == ("killed", "declared equivalent (nothing is read by strides), and seen")


def test_a_kernel_that_fails_by_itself_judges_no_fault() -> None:
    wrong = replace(KERNEL, launch=lambda x, y: {"out": x * 0.71 + y})
    with pytest.raises(HarnessError, match="fails without a fault"):
        list(judge_kernel(wrong, FLOATS, CPU, seed=1))


def test_a_fault_that_raises_is_a_crash_and_is_said_to_be_one() -> None:
    def broken(launch: Any) -> Any:
        def raises(**_: Any) -> Any:
            raise RuntimeError("no such stride")

        return raises

    outcomes = judge_kernel(replace(KERNEL, mutants=(Mutant("raises", "crash", broken),)), FLOATS, CPU, seed=1)
    last = list(outcomes)[-1]
    assert (last.end, last.reason) == ("crash", "RuntimeError: no such stride")


@pytest.fixture(scope="module")
def suspects() -> Suspects:
    spec = registry.load("qwen3_4b_instruct_2507")
    source = builder.Source.of(spec, "tiny", 0, None)
    return Suspects(
        builder.BuildConfig(spec, source, ("kv_cache", "linear"), Target(CPU, torch.float32, "none")),
        ProofSize(2, 16, 56),
    )


LEVELS = {
    "attention scale off by 1 %": "layer",
    "last layer: rotary on the query alone": "layer",
    "head without its last row": "layer",
    "decode: value slot stale": "logits",
    "padding ignored": "path",
    "every page is the first": "path",
}


@pytest.mark.parametrize("name", LEVELS)
def test_a_fault_is_seen_at_the_level_that_can_see_it(name: str, suspects: Suspects) -> None:
    mutant = next(item for item in registry.load("qwen3_4b_instruct_2507").mutants if item.name == name)
    outcome = suspects.judge(mutant)
    assert (outcome.end, outcome.level) == ("killed", LEVELS[name])


def test_an_equivalence_is_verified(suspects: Suspects) -> None:
    mutants = registry.load("qwen3_4b_instruct_2507").mutants
    honest = next(item for item in mutants if item.equivalent)
    assert suspects.judge(honest).end == "equivalent"
    lie = replace(next(item for item in mutants if item.name == "cos and sin exchanged"), equivalent="nobody looks")
    outcome = suspects.judge(lie)
    assert (outcome.end, outcome.reason) == ("killed", "declared equivalent (nobody looks), and seen")


def test_a_fault_without_a_place_is_not_counted(suspects: Suspects) -> None:
    assert suspects.judge(Mutant("nowhere", "none", lambda model: ())).end == "no place"


def test_every_model_has_at_least_forty_faults_with_names_of_their_own() -> None:
    for model in registry.names():
        names = [mutant.name for mutant in mutants_of(registry.load(model), ())]
        assert len(names) == len(set(names)) >= 40, model


def outcome(end: Any) -> MutantOutcome:
    return MutantOutcome(subject="model", name=end, kind="made", end=end)


def test_no_sign_off_without_a_complete_kill_matrix() -> None:
    check = Check(level="op", subject="k", name="c", rule="max", error=0, noise=0, limit=1)
    parity = Parity(checks=(check,))
    blind = KillMatrix(outcomes=(outcome("killed"), outcome("survived")))
    assert (blind.rate, blind.judged) == (0.5, 2)
    with pytest.raises((RecordError, ValidationError), match="blind to planted faults: model: survived"):
        SignOffEvidence(parity=parity, kill_matrix=blind)
    with pytest.raises(ValidationError, match="kill_matrix"):
        SignOffEvidence(parity=parity)  # type: ignore[call-arg]
    only_equivalent = KillMatrix(outcomes=(outcome("equivalent"), outcome("no place")))
    assert not only_equivalent.complete
    complete = KillMatrix(outcomes=(outcome("killed"), outcome("crash"), outcome("equivalent")))
    assert SignOffEvidence(parity=parity, kill_matrix=complete).kill_matrix.rate == 1
