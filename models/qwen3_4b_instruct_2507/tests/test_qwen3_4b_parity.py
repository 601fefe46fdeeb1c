"""The eager build is Hugging Face's Qwen3, bit for bit; native stacks pass the whole gate, `full` with its kernels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.build import builder
from harness.parity.gate import prove
from harness.parity.reference.reference_model import ReferenceModel
from harness.records.proof_size import ProofSize
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from models.qwen3_4b_instruct_2507 import SPEC

CPU = torch.device("cpu")
SOURCE = builder.Source.of(SPEC, "tiny", seed=3, weights=None)


def target(dtype: torch.dtype) -> Target:
    return Target(CPU, dtype, "none")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_eager_prefill_is_bit_equal_to_hugging_face(dtype: torch.dtype) -> None:
    hf = builder.reference(SPEC, SOURCE, dtype, CPU)
    ours, receipts = builder.candidate(builder.BuildConfig(SPEC, SOURCE, (), target(dtype)), hf)
    tokens = torch.randint(2000, (2, 33), generator=torch.Generator().manual_seed(0))
    assert receipts == ()
    assert torch.equal(ours(tokens, ours.new_cache(2, 33)), ReferenceModel(hf).logits(ModelInputs(tokens)))


@pytest.mark.parametrize("stack", [(), ("kv_cache", "linear"), ("kv_cache_paged", "prefix_caching")], ids="+".join)
def test_native_stacks_pass_every_level(stack: tuple[str, ...]) -> None:
    proof = prove(
        builder.BuildConfig(SPEC, SOURCE, stack, target(torch.bfloat16)), ProofSize(2, 24), lambda _, __: None
    )
    assert [f"{c.subject} {c.name} {c.rule}: {c.error:.3g} > {c.limit:.3g}" for c in proof.parity.failures()] == []
    assert proof.parity.levels() == ("layer", "logits", "reference", "generation", "path")
    assert tuple(r.optimization for r in proof.receipts) == stack


def test_keep_returns_the_last_tokens_logits_alone() -> None:
    hf = builder.reference(SPEC, SOURCE, torch.float32, CPU)
    ours, _ = builder.candidate(builder.BuildConfig(SPEC, SOURCE, (), target(torch.float32)), hf)
    tokens = torch.arange(10).view(1, 10)
    everything = ours(tokens, ours.new_cache(1, 10))
    last = ours(tokens, ours.new_cache(1, 10), keep=2)
    assert last.shape == (1, 2, 2048)
    assert torch.allclose(last, everything[:, -2:], atol=1e-5)


def test_full_size_on_meta_has_the_published_parameter_count() -> None:
    model = SPEC.build(SPEC.sizes["full"], torch.bfloat16, torch.device("meta"))
    assert sum(p.numel() for p in model.parameters()) == 4_022_468_096


def test_full_with_interpreted_kernels_is_hugging_face_in_float32(judge_full: Callable[..., Any]) -> None:
    said = judge_full(SPEC.name, "interpret")
    assert said["failed"] == []
    assert said["levels"] == ["layer", "logits", "reference"]
    assert {*said["launched"]} == {kernel.name for name in said["stack"] for kernel in SPEC.menu[name].kernels}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: `full` with compiled kernels")
def test_full_with_compiled_kernels_passes_every_level(judge_full: Callable[..., Any]) -> None:
    said = judge_full(SPEC.name, "compile")
    assert said["failed"] == []
    assert {*said["levels"]} >= {"reference", "layer", "logits", "generation", "path"}
