"""A checkpoint is read bit for bit as it was written, by every model; a wrong way to read one is refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.build import builder, registry
from harness.parity.gate import prove
from harness.parity.levels.checkpoint_roundtrip import check_reading
from harness.records.proof_size import ProofSize
from harness.spec.hf_config import HFConfig
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target

CPU = torch.device("cpu")
Stream = Iterable[tuple[str, Tensor]]
SPARSE = registry.load("qwen3_coder_30b")


@pytest.mark.parametrize("name", registry.names())
def test_every_model_reads_what_hugging_face_wrote(name: str) -> None:
    check = check_reading(registry.load(name), 0, torch.bfloat16)
    assert check.passed, check.where


def up_rows_first(config: HFConfig, stream: Stream) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in SPARSE.merge(config, stream):
        yield name, torch.cat(tensor.chunk(2, 1)[::-1], 1) if name.endswith("gate_up_proj") else tensor


def experts_in_another_order(config: HFConfig, stream: Stream) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in SPARSE.merge(config, stream):
        yield name, tensor.roll(1, 0) if "layers.2.mlp.experts.down" in name else tensor


def last_expert_left_out(config: HFConfig, stream: Stream) -> Iterable[tuple[str, Tensor]]:
    return SPARSE.merge(config, ((name, tensor) for name, tensor in stream if ".experts.15." not in name))


@pytest.mark.parametrize(
    ("merge", "wrong", "where"),
    [
        (up_rows_first, 6, "layers.0.mlp.experts.gate_up_proj, read whole"),
        (experts_in_another_order, 2, "layers.2.mlp.experts.down_proj, read whole"),
        (
            last_expert_left_out,
            1,
            "refused: no tensor for 'model.layers.0.mlp.experts.15.down_proj.weight' (3 missing)"
            f"; qwen3_coder_30b was written for {SPARSE.checkpoint}",
        ),
    ],
)
def test_what_is_put_together_wrongly_is_named(merge: Any, wrong: int, where: str) -> None:
    check = check_reading(replace(SPARSE, merge=merge), 0, torch.bfloat16)
    assert (check.error, check.where) == (wrong, where)


def test_a_tensor_in_slices_is_judged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ranks read it."""
    right = builder.read_slices

    def faulty(*where: Any) -> Iterator[tuple[str, Any]]:
        for name, tensor in right(*where):
            yield name, tensor[:].flip(0) if "layers.1.input_layernorm" in name else tensor

    monkeypatch.setattr(builder, "read_slices", faulty)
    check = check_reading(SPARSE, 0, torch.bfloat16)
    assert (check.error, check.where) == (1, "layers.1.input_norm.weight, read in slices")


def proven(spec: ModelSpec) -> list[tuple[str, str, str]]:
    """Level, subject and place of what a proof of random weights refuses."""
    source, target = builder.Source.of(spec, "tiny", seed=3, weights=None), Target(CPU, torch.float32, "none")
    parity = prove(builder.BuildConfig(spec, source, (), target), ProofSize(1, 8, 4), lambda _, __: None).parity
    return [(check.level, check.subject, check.where) for check in parity.failures()]


def test_a_proof_of_random_weights_judges_how_a_checkpoint_is_read() -> None:
    wrong = proven(replace(SPARSE, merge=up_rows_first))
    assert wrong == [("path", "weights read from a checkpoint", "layers.0.mlp.experts.gate_up_proj, read whole")]
