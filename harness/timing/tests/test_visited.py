"""Experts that tokens visit are counted where they are chosen, and the floor holds no more of them."""

from collections.abc import Callable

import pytest
import torch

from harness.build import builder, registry
from harness.parity.reference.reference_model import ReferenceModel
from harness.records.case import Case
from harness.spec.model import Workload
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from harness.timing.case_timing import time_case
from harness.timing.visited import experts_visited

CPU = torch.device("cpu")
SPEC = registry.load("qwen3_coder_30b")
SOURCE = builder.Source.of(SPEC, "tiny", 0, None)
CHOSEN, EXPERTS = (SOURCE.config[name] for name in ("num_experts_per_tok", "num_experts"))


@pytest.fixture(scope="module")
def plain() -> ReferenceModel:
    return ReferenceModel(builder.reference(SPEC, SOURCE, torch.float32, CPU))


def visited(plain: ReferenceModel, tokens: torch.Tensor, last: int) -> float:
    assert SPEC.routing is not None
    with torch.no_grad():
        return experts_visited(
            plain.core.layers, SPEC.routing, len(tokens), last, lambda: plain.logits(ModelInputs(tokens))
        )


def test_rows_that_are_alike_visit_the_experts_of_one(plain: ReferenceModel) -> None:
    row = torch.randint(2000, (1, 6), generator=torch.Generator().manual_seed(0))
    assert visited(plain, row.expand(16, -1), 1) == CHOSEN
    assert not any(gate._forward_hooks for gate in plain.model.modules())


def test_only_the_last_tokens_count_and_a_passage_of_many_visits_most(plain: ReferenceModel) -> None:
    rows = torch.randint(2000, (2, 40), generator=torch.Generator().manual_seed(0))
    few, all_of_them = visited(plain, rows, 1), visited(plain, rows, 40)
    assert CHOSEN < few <= 2 * CHOSEN
    assert 2 * CHOSEN < all_of_them <= EXPERTS


def test_the_floor_of_a_timed_phase_holds_what_was_visited(make_case: Callable[..., Case]) -> None:
    asked = make_case(model=SPEC.name, optimizations=(), arms=("reference",))
    brief = asked.timing.model_copy(update={"limit_s": 0.1})
    shape = asked.workload.model_copy(update={"prompt_tokens": 4, "new_tokens": 1, "dtype": "float32"})
    case = asked.model_copy(update={"timing": brief, "workload": shape})
    target = Target(CPU, torch.float32, "none")
    made = time_case(case, builder.BuildConfig(SPEC, SOURCE, case.optimizations, target), 0, False, lambda _, __: None)
    (decode,) = (work for work in made.work if work.phase == "decode")
    assert decode.experts is not None
    assert CHOSEN <= decode.experts <= 2 * CHOSEN
    load = Workload("decode", shape.batch, 1, shape.prompt_tokens + 1, decode.experts)
    assert decode.bytes == SPEC.work(SOURCE.config, torch.float32, load).bytes
