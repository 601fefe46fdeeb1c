"""What is kept of a prompt for its like. A graph's replay is its function run again on the memory that it was recorded
with: a stand-in does so without a GPU, where the kept graph itself can only be run on one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.build import builder, registry
from harness.faults.model_faults import planted, pristine
from harness.parity.levels.logits import Reference
from harness.parity.parity_run import ParityRun
from harness.parity.paths.graph_replay import check_again
from harness.parity.reference.routing import our_choices
from harness.records.checks import Check
from harness.records.path_names import ExecutionPath
from harness.records.proof_size import ProofSize
from harness.spec.mutant import Mutant
from harness.spec.optimization import Target
from models.common.graphs import captured_prompt
from models.common.graphs.captured_prompt import MOST_CALLS, PROMPT_GRAPH, GraphedPrompts

TARGET = Target(torch.device("cpu"), torch.bfloat16, "none")
STACK = ("kv_cache", "prefix_caching")


class Replayed:
    """The recorded function again, into the memory of its first answer."""

    def __init__(self, run: Callable[[], Tensor]) -> None:
        self.run, self.out = run, run()
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.out.copy_(self.run())


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Replayed]:
    made: list[Replayed] = []

    def recorded(run: Callable[[], Tensor]) -> tuple[Replayed, Tensor]:
        made.append(Replayed(run))
        return made[-1], made[-1].out

    monkeypatch.setattr(captured_prompt, "recorded", recorded)
    return made


@pytest.fixture(scope="module", params=registry.names())
def run(request: pytest.FixtureRequest) -> ParityRun:
    spec = registry.load(request.param)
    made = ParityRun(
        builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), STACK, TARGET), ProofSize(2, 40)
    )
    PROMPT_GRAPH.apply(made.model, TARGET)
    return made


@torch.no_grad()
def judged(run: ParityRun, model: torch.nn.Module) -> dict[str, Check]:
    prompt = run.oracle.prompt("again")
    upcast, routes = run.plain.wide_logits(prompt)
    with our_choices(model, run.spec.routing, routes):
        known = Reference(upcast, run.plain.logits(prompt, routes))
        checks = check_again(model, run.config.provides | PROMPT_GRAPH.provides, prompt.tokens, known)
    return {check.subject: check for check in checks}


def test_a_replayed_prompt_is_the_prompt(run: ParityRun, recordings: list[Replayed]) -> None:
    found = judged(run, pristine(run.model))
    assert {path: check.passed for path, check in found.items()} == {
        ExecutionPath.PROMPT_AGAIN: True,
        ExecutionPath.PROMPT_AGAIN_SHARED: True,
    }
    # On the used cache the second prompt and the third; on the shared prefix likewise.
    assert [recording.replays for recording in recordings] == [2, 2]


@pytest.mark.parametrize("fault", PROMPT_GRAPH.mutants, ids=lambda fault: fault.name)
def test_what_a_replay_must_not_keep_is_seen(run: ParityRun, recordings: list[Replayed], fault: Mutant) -> None:
    wrong, touched = planted(run.model, fault)
    assert touched == ("compute",)
    found = judged(run, wrong)
    assert not all(check.passed for check in found.values())


def test_only_so_many_kinds_of_call_are_kept(recordings: list[Replayed]) -> None:
    spec = registry.load("qwen3_4b_instruct_2507")
    model = spec.build(spec.sizes["tiny"], TARGET.dtype, TARGET.device)
    builder.optimize(spec, model, STACK, TARGET)
    PROMPT_GRAPH.apply(model, TARGET)
    cache = model.new_cache(1, 64)
    for length in [*range(2, 2 + MOST_CALLS + 1), 2, 3]:
        model(torch.zeros(1, length, dtype=torch.int64), cache, keep=1)
        cache.rewind(0)
    assert isinstance(model.compute, GraphedPrompts)
    assert len(model.compute.calls[cache]) == MOST_CALLS
    # The first two were forgotten before they came again.
    assert recordings == []


@pytest.mark.parametrize("call", ["one token", "every logit", "growing cache"])
def test_what_is_not_worth_keeping_is_computed_anew(call: str, recordings: list[Replayed]) -> None:
    spec = registry.load("qwen3_4b_instruct_2507")
    model = spec.build(spec.sizes["tiny"], TARGET.dtype, TARGET.device)
    builder.optimize(spec, model, () if call == "growing cache" else STACK, TARGET)
    PROMPT_GRAPH.apply(model, TARGET)
    cache = model.new_cache(1, 64)
    tokens = torch.zeros(1, 1 if call == "one token" else 8, dtype=torch.int64)
    for _ in range(3):
        model(tokens, cache, keep=0 if call == "every logit" else 1)
        cache.rewind(0)
    assert recordings == []
    assert cache not in model.compute.calls
