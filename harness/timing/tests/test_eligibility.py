"""What a machine without a GPU proves and does not time, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from harness.build import builder, registry
from harness.records.case import Case
from harness.spec.optimization import Target
from harness.timing import eligibility
from harness.timing.case_timing import Timing, time_case

CPU = Target(torch.device("cpu"), torch.float32, "none")
BITS = ("linear_int8", "linear_fp8", "linear_int4")


@pytest.mark.parametrize("name", registry.names())
def test_kernels_and_the_weights_that_only_kernels_read_have_no_speed_on_a_cpu(name: str) -> None:
    spec = registry.load(name)
    reasons = eligibility.untimed(spec, spec.menu.names(), CPU)
    assert {item for item, reason in reasons.items() if reason == eligibility.UNPACKED} == set(BITS)
    interpreted = {item for item, reason in reasons.items() if reason == eligibility.INTERPRETED}
    assert interpreted == {item.name for item in spec.menu.items if "triton" in item.needs}
    assert not {"kv_cache", "linear", "prefix_caching", "tensor_parallel", "compile"} & set(reasons)


@pytest.mark.parametrize("name", registry.names())
def test_with_compiled_kernels_all_is_timed(name: str) -> None:
    spec = registry.load(name)
    assert eligibility.untimed(spec, spec.menu.names(), replace(CPU, kernels="compiled")) == {}


def timed(case: Case) -> Timing:
    """What a CPU measures of a case, in as little time as an interval takes."""
    spec = registry.load(case.model)
    brief = case.timing.model_copy(update={"limit_s": 0.1})
    shape = case.workload.model_copy(update={"prompt_tokens": 4, "new_tokens": 1, "dtype": "float32"})
    short = case.model_copy(update={"timing": brief, "workload": shape, "arms": ("reference",)})
    config = builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), short.optimizations, CPU)
    return time_case(short, config, 0, True, lambda _, __: None)


def test_the_rest_of_a_stack_is_timed_and_the_record_says_so(make_case: Callable[..., Case]) -> None:
    timing = timed(make_case(model="qwen3_4b_instruct_2507", optimizations=("kv_cache", "linear_fp8", "rotary")))
    assert timing.notes[:2] == [
        f"timed without linear_fp8: {eligibility.UNPACKED}",
        f"timed without rotary: {eligibility.INTERPRETED}",
    ]
    assert {arm.label for arm in timing.arms if arm.name.startswith("candidate")} == {"kv_cache"}
    assert {series.phase for series in timing.series} == {"prefill", "decode"}


def test_the_eager_build_is_not_timed_under_the_name_of_another(make_case: Callable[..., Case]) -> None:
    timing = timed(make_case(model="qwen3_4b_instruct_2507", optimizations=("linear_int8", "rotary", "attention")))
    assert timing.notes == [
        f"nothing to time of linear_int8: {eligibility.UNPACKED}",
        f"nothing to time of rotary, attention: {eligibility.INTERPRETED}",
    ]
    assert timing.series == timing.arms == []


def test_the_eager_build_has_a_speed_of_its_own(make_case: Callable[..., Case]) -> None:
    timing = timed(make_case(model="qwen3_4b_instruct_2507", optimizations=()))
    assert not [note for note in timing.notes if "without" in note]
    assert {arm.label for arm in timing.arms if arm.name.startswith("candidate")} == {"eager build"}
