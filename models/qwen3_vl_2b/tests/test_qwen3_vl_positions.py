"""Positions are Hugging Face's integers; images that do not fit their tokens are refused."""

import pytest
import torch
from torch import Tensor

from harness.build import builder
from harness.errors import CacheFull, InputError
from harness.spec.model_inputs import Features, Grid, ModelInputs
from models.qwen3_vl_2b import SPEC
from models.qwen3_vl_2b.config import geometry
from models.qwen3_vl_2b.model import Qwen3VL
from models.qwen3_vl_2b.positions import places
from models.qwen3_vl_2b.rotary import AxisRotary, axis_of_frequency

CPU = torch.device("cpu")
SOURCE = builder.Source.of(SPEC, "tiny", seed=0, weights=None)
G = geometry(SOURCE.config)
IMAGE, VIDEO = G.image_token, G.video_token


@pytest.fixture(scope="module")
def hf() -> torch.nn.Module:
    return builder.reference(SPEC, SOURCE, torch.float32, CPU)


def row(*parts: int | Grid) -> list[int]:
    """So many text tokens, or an image."""
    tokens: list[int] = []
    for part in parts:
        tokens += [7] * part if isinstance(part, int) else [IMAGE] * (part[0] * part[1] * part[2] // 4)
    return tokens


def prompt(rows: list[list[int | Grid]]) -> tuple[ModelInputs, list[int]]:
    """Rows padded on the left to one length, and how much of each is padding."""
    tokens = [row(*parts) for parts in rows]
    longest = max(map(len, tokens))
    padding = [longest - len(r) for r in tokens]
    padded = torch.tensor([[0] * pad + r for pad, r in zip(padding, tokens, strict=True)])
    grids = tuple(tuple(p for p in parts if not isinstance(p, int)) for parts in rows)
    return ModelInputs(padded, torch.zeros(1, G.vision.patch_size), grids, IMAGE), padding


ROWS: dict[str, list[list[int | Grid]]] = {
    "one image": [[3, (1, 4, 6), 5]],
    "an image first and last": [[(1, 8, 2), 1, (1, 2, 12)]],
    "odd aspect ratios": [[2, (1, 2, 22), 1, (1, 22, 2), 1, (1, 6, 10), 4]],
    "none, one and three images, padded": [[4], [2, (1, 10, 6), 1], [(1, 2, 2), 3, (1, 4, 14), 1, (1, 14, 4)]],
    "frames": [[1, (3, 4, 6), 2]],
}


@pytest.mark.parametrize("name", ROWS)
def test_positions_are_hugging_faces(hf: torch.nn.Module, name: str) -> None:
    inputs, padding = prompt(ROWS[name])
    kept = torch.arange(inputs.tokens.shape[1]) >= torch.tensor(padding).unsqueeze(1)
    keywords = inputs.keywords()
    theirs, deltas = hf.model.get_rope_index(  # type: ignore[union-attr, operator]
        inputs.tokens,
        keywords["mm_token_type_ids"],
        image_grid_thw=keywords["image_grid_thw"],
        attention_mask=kept.int(),
    )
    ours = places(inputs, padding, G)
    assert torch.equal(ours.positions, theirs)
    assert torch.equal(ours.offsets, deltas.squeeze(1))
    assert torch.equal(ours.features.flatten()[ours.features.flatten() >= 0], torch.arange(int(inputs.shows().sum())))
    axes = ours.positions[:, inputs.shows()]
    assert not torch.equal(axes[1], axes[2]), "a prompt whose axes are equal could not show a wrong one"


def test_frequencies_turn_by_interleaved_axes(hf: torch.nn.Module) -> None:
    axis = axis_of_frequency((24, 20, 20))
    assert axis.bincount().tolist() == [24, 20, 20]
    assert axis[:6].tolist() == [0, 1, 2, 0, 1, 2]
    assert axis[60:].tolist() == [0, 0, 0, 0]
    inputs, padding = prompt(ROWS["odd aspect ratios"])
    positions = places(inputs, padding, G).positions
    theirs = hf.model.language_model.rotary_emb(torch.zeros(1), positions)  # type: ignore[union-attr, operator]
    rotary = AxisRotary(G.text, torch.float32, CPU)
    for ours, reference in zip(rotary(positions), theirs, strict=True):
        assert torch.equal(ours, reference)
    text = torch.arange(9).view(1, 9)
    for ours, reference in zip(rotary(text), rotary(text.expand(3, 1, 9)), strict=True):
        assert torch.equal(ours, reference)


@pytest.fixture(scope="module")
def model(hf: torch.nn.Module) -> Qwen3VL:
    from harness.spec.optimization import Target

    return builder.candidate(builder.BuildConfig(SPEC, SOURCE, ("kv_cache",), Target(CPU, torch.float32, "none")), hf)[
        0
    ]


@pytest.mark.parametrize(
    ("tokens", "grids", "words"),
    [
        (row(2, (1, 4, 6), 1), (((1, 4, 4),),), r"row 0 holds 6 image tokens and its 1 images take 4"),
        (row(2, (1, 4, 6), 1), (((1, 4, 6), (1, 2, 2)),), r"holds 6 image tokens and its 2 images take 7"),
        (row(5), (((1, 2, 2),),), r"holds 0 image tokens"),
        ([7, IMAGE, 7, IMAGE, 7], (((1, 2, 4),),), r"the 2 tokens of an image at slot 1 are interrupted"),
        (row(2, (1, 3, 6)), (((1, 3, 6),),), r"cannot be merged in squares of 2 x 2"),
        (row(2, (1, 2, 2)), (((0, 2, 2),),), r"cannot be merged"),
        ([7, VIDEO, 7], ((),), r"video token"),
        (row(3), ((), ()), r"images of 2 rows were given with tokens of 1"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    model: Qwen3VL, tokens: list[int], grids: tuple[tuple[Grid, ...], ...], words: str
) -> None:
    inputs = ModelInputs(torch.tensor([tokens]), torch.zeros(4, G.vision.patch_size), grids, IMAGE)
    with pytest.raises(InputError, match=words):
        model.place(model.new_cache(1, len(tokens)), inputs, None)


def run(model: Qwen3VL, tokens: list[int], capacity: int) -> Tensor:
    return model(torch.tensor([tokens]), model.new_cache(1, capacity))


def test_prompts_are_refused_before_anything_runs(model: Qwen3VL) -> None:
    with pytest.raises(InputError, match="no images were given"):
        run(model, [7, IMAGE, 7], 3)
    with pytest.raises(InputError, match="token 2048 is not in the vocabulary of 2048"):
        run(model, [7, 2048, 7], 3)
    with pytest.raises(InputError, match="token -1 is not"):
        run(model, [-1, 7], 2)
    with pytest.raises(CacheFull, match="0 \\+ 4 tokens do not fit into a cache of 3"):
        run(model, [7] * 4, 3)


def test_features_must_be_there_and_be_as_many_as_the_tokens(model: Qwen3VL) -> None:
    inputs, _ = prompt([[2, (1, 4, 6), 3]])
    cache = model.new_cache(1, 11)
    model.place(cache, inputs, None)
    model(inputs.tokens[:, :2], cache)
    with pytest.raises(InputError, match="only their places are known"):
        model(inputs.tokens[:, 2:], cache)
    with pytest.raises(InputError, match="the cache holds 2 tokens: nothing of this prompt is left"):
        model.place(cache, inputs.continued(inputs.tokens[:, :2]), None)
    rows = torch.zeros(5, G.text.hidden)
    with pytest.raises(InputError, match="5 rows of embeddings for 6 image tokens"):
        model.place(model.new_cache(1, 11), inputs, Features(rows))
    with pytest.raises(InputError, match="no images to see"):
        model.see(ModelInputs(inputs.tokens))
