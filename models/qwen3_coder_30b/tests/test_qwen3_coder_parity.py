"""The eager build is Hugging Face's Qwen3-MoE, bit for bit; native stacks pass the gate, `full` with its kernels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.build import builder
from harness.parity.gate import prove
from harness.parity.reference.reference_model import ReferenceModel
from harness.records.error_units import COUNTED, MEASURED
from harness.records.proof_size import ProofSize
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from models.qwen3_coder_30b import SPEC

CPU = torch.device("cpu")
SOURCE = builder.Source.of(SPEC, "tiny", seed=3, weights=None)


def target(dtype: torch.dtype) -> Target:
    return Target(CPU, dtype, "none")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_eager_prefill_is_bit_equal_to_hugging_face(dtype: torch.dtype) -> None:
    hf = builder.reference(SPEC, SOURCE, dtype, CPU)
    ours, _ = builder.candidate(builder.BuildConfig(SPEC, SOURCE, (), target(dtype)), hf)
    tokens = torch.randint(2000, (2, 33), generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(tokens, ours.new_cache(2, 33)), ReferenceModel(hf).logits(ModelInputs(tokens)))


def test_the_experts_are_held_once() -> None:
    hf = builder.reference(SPEC, SOURCE, torch.bfloat16, CPU)
    ours, _ = builder.candidate(builder.BuildConfig(SPEC, SOURCE, (), target(torch.bfloat16)), hf)
    theirs = hf.model.layers[1].mlp.experts
    assert ours.layers[1].mlp.experts.gate_up_proj.data_ptr() == theirs.gate_up_proj.data_ptr()
    assert ours.layers[1].mlp.experts.down_proj.data_ptr() == theirs.down_proj.data_ptr()


@pytest.mark.parametrize("stack", [(), ("kv_cache", "linear"), ("kv_cache_paged", "prefix_caching")], ids="+".join)
def test_native_stacks_pass_every_level(stack: tuple[str, ...]) -> None:
    proof = prove(
        builder.BuildConfig(SPEC, SOURCE, stack, target(torch.bfloat16)), ProofSize(2, 24), lambda _, __: None
    )
    assert [f"{c.subject} {c.name} {c.rule}: {c.error:.3g} > {c.limit:.3g}" for c in proof.parity.failures()] == []
    assert proof.parity.levels() == ("layer", "logits", "reference", "generation", "path")
    judged = {check.name for check in proof.parity.checks}
    assert {"chosen experts float32", "expert weights bfloat16"} <= judged
    assert {check.rule for check in proof.parity.checks} <= COUNTED.keys() | MEASURED.keys(), "a rule without words"


def test_full_size_on_meta_has_the_published_parameter_count() -> None:
    model = SPEC.build(SPEC.sizes["full"], torch.bfloat16, torch.device("meta"))
    assert sum(p.numel() for p in model.parameters()) == 30_532_122_624


def test_full_with_interpreted_kernels_is_hugging_face_in_float32(judge_full: Callable[..., Any]) -> None:
    said = judge_full(SPEC.name, "interpret")
    assert said["failed"] == []
    assert said["levels"] == ["layer", "logits", "reference"]
    declared = {kernel.name for name in said["stack"] for kernel in SPEC.menu[name].kernels}
    # Only experts have gates, and only prompts of more than 64 tokens are sorted for them.
    assert {*said["launched"]} == declared - {"swiglu"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: `full` with compiled kernels")
def test_full_with_compiled_kernels_passes_every_level(judge_full: Callable[..., Any]) -> None:
    said = judge_full(SPEC.name, "compile")
    assert said["failed"] == []
    assert {*said["levels"]} >= {"reference", "layer", "logits", "generation", "path"}
