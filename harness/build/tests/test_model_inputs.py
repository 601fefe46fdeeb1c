"""A batch of prompts with images: rows by themselves, one layout for one shape, memory overwritten in place."""

import pytest
import torch

from harness.build import inputs
from harness.errors import InputError
from harness.parity.reference.oracle import TOWER_IMAGES, TOWER_TOKENS
from harness.spec.model_inputs import ModelInputs
from models.qwen3_4b_instruct_2507 import SPEC as TEXT
from models.qwen3_vl_2b import SPEC as SEES
from models.qwen3_vl_2b.kernels.segment_attention import default_shape

CPU = torch.device("cpu")
CONFIG = SEES.sizes["tiny"]


def drawn(seed: int = 0) -> ModelInputs:
    return inputs.draw(SEES, CONFIG, 40, [2, 0, 1], seed, "tests")


def test_a_row_alone_keeps_its_own_images() -> None:
    batch = drawn()
    assert batch.pixels is not None
    rows = [batch.row(index) for index in range(3)]
    assert [len(row.grids[0]) for row in rows] == [2, 0, 1]
    assert rows[1].pixels is None
    assert rows[1].keywords() == {}
    assert torch.equal(torch.cat([row.pixels for row in rows if row.pixels is not None]), batch.pixels)
    assert torch.equal(torch.cat([row.tokens for row in rows]), batch.tokens)
    for row in rows:
        assert int(row.shows().sum()) * 4 == sum(t * h * w for t, h, w in row.grids[0])


def test_another_seed_is_another_batch_of_the_same_layout() -> None:
    one, again, other = drawn(), drawn(), drawn(1)
    assert torch.equal(one.tokens, again.tokens)
    assert one.grids == other.grids
    assert torch.equal(one.shows(), other.shows())
    assert not torch.equal(one.tokens, other.tokens)
    kept = one.pixels
    one.overwrite(other)
    assert one.pixels is kept
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.pixels, other.pixels)  # type: ignore[arg-type]


def test_image_axes_differ_and_pixels_are_rounded_once() -> None:
    batch = drawn()
    assert all(h != w for row in batch.grids for _, h, w in row)
    half = batch.to(CPU, torch.float16)
    assert half.pixels is not None
    assert half.keywords()["pixel_values"].dtype == torch.float16
    assert float(half.pixels.abs().max()) <= 1


@pytest.mark.parametrize("images", [3, 4, 5])
def test_the_largest_of_several_images_stands_between_smaller_ones(images: int) -> None:
    (grids,) = inputs.draw(SEES, CONFIG, 104, [images], 0, "tests").grids
    sizes = [height * width for _, height, width in grids]
    assert max(sizes) not in (sizes[0], sizes[-1])
    assert sizes[0] != sizes[-1]


def test_the_tower_is_judged_on_an_image_of_several_blocks() -> None:
    (grids,) = inputs.draw(SEES, CONFIG, TOWER_TOKENS, [TOWER_IMAGES], 0, "tower").grids
    blocks = [default_shape(dtype.itemsize).block_m for dtype in (torch.float32, torch.float16)]
    sizes = [height * width for _, height, width in grids]
    assert max(sizes) > max(blocks) > sizes[-1] > sizes[0]


def test_text_models_and_text_prompts_take_no_keywords() -> None:
    text = inputs.draw(TEXT, TEXT.sizes["tiny"], 12, [0, 0], 0, "tests")
    assert text.tokens.shape == (2, 12)
    assert text.keywords() == {}
    assert inputs.draw(SEES, CONFIG, 12, [0, 0], 0, "tests").keywords() == {}


def test_images_that_leave_no_room_are_refused() -> None:
    with pytest.raises(InputError, match="3 images and their marks do not fit into 12 tokens"):
        inputs.draw(SEES, CONFIG, 12, [3], 0, "tests")
