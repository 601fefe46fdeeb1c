"""What a sweep would measure of every model, told without a GPU."""

from __future__ import annotations

import json

import pytest
import torch

from harness.build import registry
from harness.errors import UnknownName
from harness.spec.tuning import Tuning
from harness.tune.sweep import Wanted, cut, measured

CPU = torch.device("cpu")


def classes(model: str, *kernels: str) -> tuple[Tuning, ...]:
    return Wanted(model, "full", "bfloat16", kernels).tunings()


@pytest.mark.parametrize("model", registry.names())
def test_every_class_of_sizes_has_distinct_candidates_and_stands_once(model: str) -> None:
    found = classes(model)
    labels = [tuning.label() for tuning in found]
    assert {tuning.kernel.name for tuning in found} >= {"gemv", "decode_attention"}
    assert len({*labels}) == len(labels)
    for tuning in found:
        assert 10 <= len(tuning.launches) <= 64, tuning.label()
        assert len({json.dumps(launch) for launch in tuning.launches}) == len(tuning.launches)


@pytest.mark.parametrize("model", registry.names())
def test_the_sizes_are_those_of_the_published_config(model: str) -> None:
    config = registry.load(model).sizes["full"]
    config = config.get("text_config", config)
    sums = {tuning.sizes["sum"] for tuning in classes(model, "gemv")}
    heads, head_dim = config["num_attention_heads"], config["head_dim"]
    assert {config["hidden_size"], heads * head_dim} <= sums
    assert any(tuning.sizes["outputs"] == config["vocab_size"] for tuning in classes(model, "gemv"))
    groups = {tuning.sizes["group"] for tuning in classes(model, "decode_attention")}
    assert groups == {heads // config["num_key_value_heads"]}


def test_a_model_without_a_dense_block_has_no_gated_product() -> None:
    assert "gemv_swiglu" not in {tuning.kernel.name for tuning in classes("qwen3_coder_30b")}
    with pytest.raises(
        UnknownName, match="unknown tuned kernel of qwen3_coder_30b 'gemv_swiglu': known: decode_attention, gemv"
    ):
        classes("qwen3_coder_30b", "gemv_swiglu")


def test_a_launch_without_a_gpu_is_a_row_with_its_reason_and_no_time() -> None:
    tuning = Wanted("qwen3_4b_instruct_2507", "tiny", "float32", ("gemv",)).tunings()[0]
    row = measured(tuning, tuning.launches[0], tuning.case(torch.float32, CPU, torch.Generator().manual_seed(0)))
    assert row.median_us is None
    assert row.error is not None
    assert "cannot be timed on cpu" in row.error


def test_the_default_is_the_kernel_itself() -> None:
    tuning = classes("qwen3_4b_instruct_2507", "gemv")[0]
    assert cut(tuning, None) is tuning.kernel
    assert cut(tuning, tuning.launches[0]).launch is not tuning.kernel.launch
