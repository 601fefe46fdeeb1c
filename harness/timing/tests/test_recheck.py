"""After timing every arm is judged again, in every phase: one that stopped computing is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.build import builder, registry
from harness.errors import HarnessError
from harness.records.case import Case
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from harness.timing.arms import line_up
from harness.timing.arms.arm import Answer
from harness.timing.arms.candidate import Candidate
from harness.timing.arms.hf_static import HFStatic
from harness.timing.case_timing import Timing, time_case
from harness.timing.recheck import limit_of, require_computed, require_model

CPU = Target(torch.device("cpu"), torch.float32, "none")


class OncePrefilled(HFStatic):
    """Its prefill computes the first prompt and gives that answer ever after."""

    answer: Tensor | None = None

    def prefill(self, inputs: ModelInputs) -> Tensor:
        if self.answer is None:
            self.answer = super().prefill(inputs)
        return self.answer


class IdleStep(HFStatic):
    """Its decode step is a no-op: the logits are whatever lies in the buffer."""

    def decode(self, tokens: Tensor, steps: int) -> Answer:
        return Answer(torch.randn(tokens.shape[0], self.model.config.vocab_size), (tokens,))


class IdleCandidate(Candidate):
    def decode(self, tokens: Tensor, steps: int) -> Answer:
        return Answer(torch.full((tokens.shape[0], 8), 0.5), (tokens,))


def timed(case: Case) -> Timing:
    spec = registry.load(case.model)
    brief = case.timing.model_copy(update={"limit_s": 0.1})
    shape = case.workload.model_copy(update={"prompt_tokens": 4, "new_tokens": 1, "dtype": "float32"})
    changes = {"timing": brief, "workload": shape, "arms": ("reference", "hf_static", "eager")}
    source = builder.Source.of(spec, "tiny", 0, None)
    config = builder.BuildConfig(spec, source, case.optimizations, CPU)
    return time_case(case.model_copy(update=changes), config, 0, True, lambda _, __: None)


@pytest.fixture
def eager(make_case: Callable[..., Case]) -> Case:
    return make_case(model="qwen3_4b_instruct_2507", optimizations=())


def test_every_arm_that_ran_is_judged_again_and_says_so(eager: Case) -> None:
    timing = timed(eager.model_copy(update={"optimizations": ("kv_cache", "linear")}))
    assert {arm.name: arm.rechecked for arm in timing.arms} == dict.fromkeys(
        ("reference", "hf_static", "eager", "candidate", "again"), True
    )
    assert {series.arm for series in timing.series if series.phase == "decode"} == {arm.name for arm in timing.arms}


def test_what_did_not_run_was_not_judged_again(eager: Case) -> None:
    (absent,) = (arm for arm in timed(eager).arms if arm.absent)
    assert (absent.name, absent.rechecked) == ("eager", False)


@pytest.mark.parametrize(
    ("peer", "says"), [(OncePrefilled, "timed prefill output again"), (IdleStep, "its decode logits are")]
)
def test_a_peer_that_does_not_compute_has_no_speed(
    eager: Case, monkeypatch: pytest.MonkeyPatch, peer: type[HFStatic], says: str
) -> None:
    monkeypatch.setitem(line_up.PEERS, "hf_static", peer)
    timing = timed(eager)
    (wrong,) = (arm for arm in timing.arms if arm.name == "hf_static")
    assert wrong.absent is not None
    assert re.search(f"hf_static: .*{says}", wrong.absent)
    assert not wrong.rechecked
    assert {series.arm for series in timing.series} == {"reference", "candidate", "again"}


def test_a_candidate_whose_step_is_a_no_op_is_refused(eager: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_up, "Candidate", IdleCandidate)
    with pytest.raises(HarnessError, match="candidate: rewritten inputs gave the timed decode output again"):
        timed(eager)


def test_each_phase_is_judged_against_its_own() -> None:
    prefill, decode = torch.randn(2, 1, 8)
    require_model("arm", {"prefill": prefill, "decode": decode}, {"prefill": prefill, "decode": decode}, 1e-4)
    with pytest.raises(HarnessError, match="arm: after timing, its prefill logits"):
        require_model("arm", {"prefill": decode, "decode": decode}, {"prefill": prefill}, 1e-4)
    require_computed("arm", {"prefill": prefill}, [decode])
    with pytest.raises(HarnessError, match="timed decode output again"):
        require_computed("arm", {"prefill": prefill, "decode": decode}, [prefill + 1, decode])


def test_one_other_expert_is_no_other_model_and_another_tokens_logits_are() -> None:
    routed, dense = (registry.load(name) for name in ("glm_4_7", "qwen3_4b_instruct_2507"))
    assert limit_of(dense, torch.bfloat16) < 0.117 < limit_of(routed, torch.bfloat16) < 1
    assert limit_of(routed, torch.float32) == limit_of(dense, torch.float32)
