"""Pictures through a checkpoint's own image processor: what the model sees, and what is no processor of its."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from harness.build import builder, inputs
from harness.build.images import Pictures, picture
from harness.build.tests.test_tokenizer import save_tokenizer
from harness.errors import WeightsError
from harness.parity.gate import prove
from harness.records.proof_size import ProofSize
from harness.spec.optimization import Target
from models.qwen3_vl_2b import SPEC

CPU = torch.device("cpu")


def save_processor(directory: Path, patch: int = 16) -> None:
    """With the numbers that the published checkpoint has."""
    half = [0.5, 0.5, 0.5]
    size = {"shortest_edge": 65536, "longest_edge": 16777216}
    Qwen2VLImageProcessorPil(patch_size=patch, size=size, image_mean=half, image_std=half).save_pretrained(directory)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> builder.Source:
    """A tiny checkpoint with a tokenizer and an image processor beside it."""
    directory = tmp_path_factory.mktemp("sees")
    tiny = builder.Source.of(SPEC, "tiny", seed=3, weights=None)
    builder.reference(SPEC, tiny, torch.float32, CPU).save_pretrained(directory)
    save_tokenizer(directory)
    save_processor(directory)
    return builder.Source.of(SPEC, "full", seed=3, weights=str(directory))


def seen(source: builder.Source, seed: int = 0) -> torch.Tensor:
    pixels = inputs.draw(SPEC, source.config, 40, [2, 0], seed, "tests", source.text, source.pictures).pixels
    assert pixels is not None
    return pixels


def test_a_model_sees_what_its_processor_makes_of_pictures(source: builder.Source) -> None:
    plain = inputs.draw(SPEC, source.config, 40, [2, 0], 0, "tests")
    assert plain.pixels is not None
    pixels = seen(source)
    assert (pixels.shape, pixels.dtype) == (plain.pixels.shape, torch.float32)
    assert torch.equal(pixels, seen(source))
    assert not torch.equal(pixels, seen(source, 1))
    assert -1 <= float(pixels.min()) < float(pixels.max()) <= 1
    # Neighbors in a picture are alike; in patches of noise they are not.
    assert float(pixels.diff(dim=-1).abs().median()) < 0.1 < float(plain.pixels.diff(dim=-1).abs().median())


def test_patches_hold_the_picture_in_the_order_of_merged_blocks(source: builder.Source) -> None:
    assert source.pictures is not None
    rows = source.pictures.patches([(1, 4, 6)], torch.Generator().manual_seed(5))
    drawn = picture(64, 96, torch.Generator().manual_seed(5)).float() / 127.5 - 1
    # Patches of a 2 x 2 block stand together: the third is the first of the second row of patches.
    for row, (down, across) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1), (0, 2))):
        patch = drawn[16 * down : 16 * (down + 1), 16 * across : 16 * (across + 1)]
        twice = rows[row].view(3, 2, 16, 16).permute(1, 2, 3, 0)
        assert torch.allclose(twice, patch.expand(2, 16, 16, 3), atol=1e-5)


def test_the_proof_shows_the_processors_pictures_and_tells_what_was_said(source: builder.Source) -> None:
    builder.check_weights(SPEC, source.directory or Path())
    target = Target(CPU, torch.float32, "none")
    parity = prove(
        builder.BuildConfig(SPEC, source, ("kv_cache",), target), ProofSize(2, 24, 12), lambda _, __: None
    ).parity
    assert parity.passed
    said = [check.where for check in parity.checks if check.rule == "tokens" and check.level == "generation"]
    assert len(said) == 1
    assert "identical, says '" in said[0]


def test_a_checkpoint_without_a_processor_sees_any_patches(source: builder.Source, tmp_path: Path) -> None:
    assert Pictures.of(tmp_path, source.config) is None
    text = {name: value for name, value in source.config.items() if name != "vision_config"}
    assert source.directory is not None
    assert Pictures.of(source.directory, text) is None


def test_a_processor_of_another_model_is_refused(source: builder.Source, tmp_path: Path) -> None:
    save_processor(tmp_path, patch=14)
    with pytest.raises(WeightsError, match="it is another model's"):
        inputs.draw(SPEC, source.config, 40, [1], 0, "tests", None, Pictures.of(tmp_path, source.config))


@pytest.mark.parametrize("damage", ["broken", "code"])
def test_a_processor_that_cannot_be_read_is_refused(source: builder.Source, tmp_path: Path, damage: str) -> None:
    described = tmp_path / "preprocessor_config.json"
    if damage == "broken":
        described.write_text('{"patch_size": ')
    else:
        classes = {"auto_map": {"AutoImageProcessor": "evil.Processor"}, "image_processor_type": "Evil"}
        described.write_text(json.dumps(classes))
        (tmp_path / "evil.py").write_text("raise SystemExit('code of the checkpoint ran')\n")
    with pytest.raises(WeightsError, match=r"the image processor of .* cannot be read"):
        Pictures.of(tmp_path, source.config)
