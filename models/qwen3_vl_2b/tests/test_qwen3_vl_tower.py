"""The tower computes what Hugging Face's does, for any sizes of images side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.build import builder
from harness.parity.reference.reference_model import ReferenceModel
from harness.spec.model_inputs import Features, Grid, ModelInputs
from harness.spec.optimization import Target
from models.qwen3_vl_2b import SPEC
from models.qwen3_vl_2b.config import geometry
from models.qwen3_vl_2b.grid import patches
from models.qwen3_vl_2b.tower_layers import AddLayerNorm, rotate_pair

CPU = torch.device("cpu")
SOURCE = builder.Source.of(SPEC, "tiny", seed=1, weights=None)
G = geometry(SOURCE.config).vision
SIZES: dict[str, tuple[Grid, ...]] = {
    "one block": ((1, 2, 2),),
    "larger than the table": ((1, 10, 22),),
    "odd aspect ratios": ((1, 2, 30), (1, 26, 2), (1, 6, 10)),
    "frames": ((3, 4, 6), (1, 4, 2)),
}


def images(grids: tuple[Grid, ...]) -> ModelInputs:
    count = sum(t * h * w for t, h, w in grids)
    pixels = torch.rand(count, G.patch_size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return ModelInputs(torch.zeros(1, 1, dtype=torch.int64), pixels, (grids,), 0)


def towers(dtype: torch.dtype) -> tuple[ReferenceModel, Any]:
    hf = builder.reference(SPEC, SOURCE, dtype, CPU)
    ours, _ = builder.candidate(builder.BuildConfig(SPEC, SOURCE, (), Target(CPU, dtype, "none")), hf)
    return ReferenceModel(hf, None, SPEC.decoder, SPEC.vision), ours


def parts(features: Features) -> list[Tensor]:
    return [features.embeddings, *features.deep]


@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_features_are_hugging_faces_up_to_the_order_of_sums(name: str) -> None:
    plain, ours = towers(torch.float32)
    inputs = images(SIZES[name])
    theirs = plain.features(inputs)
    found = ours.see(inputs)
    assert len(found.deep) == 2
    for mine, reference in zip(parts(found), parts(theirs), strict=True):
        assert mine.shape == reference.shape
        assert float((mine - reference).norm() / reference.norm()) < 2e-6


@torch.no_grad()
def test_an_image_is_seen_the_same_beside_others() -> None:
    _, ours = towers(torch.float32)
    grids = SIZES["odd aspect ratios"]
    together = ours.see(images(grids))
    first = grids[0][1] * grids[0][2]
    alone = ours.see(ModelInputs(torch.zeros(1, 1), images(grids).pixels[:first], (grids[:1],), 0))
    for mine, reference in zip(parts(alone), parts(together), strict=True):
        assert torch.allclose(mine, reference[: first // 4], atol=1e-5)


@pytest.mark.parametrize("name", SIZES)
def test_places_and_interpolation_are_hugging_faces(name: str) -> None:
    from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

    grids = torch.tensor(SIZES[name])
    at = patches(SIZES[name], G, CPU)
    indices, weights = get_vision_interpolation_indices_and_weights(
        grids, G.side, mode="bilinear", align_corners=True, spatial_merge_size=G.merge
    )
    assert torch.equal(torch.stack((at.rows, at.columns), dim=1), get_vision_position_ids(grids, G.merge))
    assert torch.equal(at.taps, indices)
    assert torch.allclose(at.weights, weights, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_twins_are_hugging_faces_functions(dtype: torch.dtype) -> None:
    from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

    qkv, angles = torch.randn(7, 3 * 2 * 64).to(dtype), torch.randn(7, 64) * 9
    q, k, _ = qkv.unflatten(1, (3, 2, 64)).unbind(1)
    theirs = apply_rotary_pos_emb_vision(q, k, angles.cos(), angles.sin())
    ours = rotate_pair(qkv, angles.cos(), angles.sin(), 2)
    assert torch.equal(ours["q"], theirs[0])
    assert torch.equal(ours["k"], theirs[1])
    norm, reference = AddLayerNorm(64, 1e-6, dtype, CPU), torch.nn.LayerNorm(64, eps=1e-6, dtype=dtype)
    norm.load_state_dict(reference.state_dict())
    x = torch.randn(5, 64).to(dtype)
    assert torch.equal(norm(x, x)[0], reference(x + x))


def test_kernels_of_the_tower_see_what_the_eager_one_sees(judge: Callable[..., Any]) -> None:
    found = judge(Path(__file__).with_name("tower_judge.py"), interpret=True)
    assert found["swapped"] == {"rotary": 3, "attention": 3, "fused_layers": 9}
    assert {name: error for name, error in found["errors"].items() if not error < 2e-6} == {}
