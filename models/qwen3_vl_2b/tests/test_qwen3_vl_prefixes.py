"""A prefix is equal where its images are; a reused one goes on at its own positions."""

from dataclasses import replace

import pytest
import torch

from harness.build import builder, inputs
from harness.parity.gate import prove
from harness.records.proof_size import ProofSize
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from models.common.cache.kv_cache import KVCache
from models.qwen3_vl_2b import SPEC, prefix_cache
from models.qwen3_vl_2b.prefix_cache import symbols

SOURCE = builder.Source.of(SPEC, "tiny", seed=3, weights=None)
TARGET = Target(torch.device("cpu"), torch.float32, "none")


def prompt() -> ModelInputs:
    return inputs.draw(SPEC, SOURCE.config, 40, [2, 0, 1], 0, "prefixes")


def test_text_is_its_ids_and_images_are_their_content() -> None:
    shown = prompt()
    assert shown.pixels is not None
    rows, again = symbols(shown.tokens, shown), symbols(shown.tokens, shown)
    assert rows == again
    changed = shown.pixels.clone()
    changed[0, 0] = -changed[0, 0]
    other = symbols(shown.tokens, replace(shown, pixels=changed))
    places = shown.shows()
    first = shown.grids[0][0][1] * shown.grids[0][0][2] // 4
    different = torch.tensor([[a != b for a, b in zip(*pair, strict=True)] for pair in zip(rows, other, strict=True)])
    assert int(different.sum()) == first, "one pixel of one image changes that image's tokens and no others"
    assert bool((different <= places).all())
    assert rows[1] == shown.tokens[1].tolist()
    assert len(set(rows[0])) > int(places[0].sum()), "every part of an image is a symbol of its own"


def test_the_size_of_an_image_is_part_of_it() -> None:
    shown = prompt()
    turned = replace(shown, grids=(tuple((t, w, h) for t, h, w in shown.grids[0]), *shown.grids[1:]))
    assert symbols(shown.tokens, shown)[0] != symbols(shown.tokens, turned)[0]
    assert symbols(shown.tokens, shown)[2] == symbols(shown.tokens, turned)[2]


def failures(rows: int = 2) -> set[str]:
    stack = ("kv_cache", "prefix_caching")
    config = builder.BuildConfig(SPEC, SOURCE, stack, TARGET)
    proof = prove(config, ProofSize(rows, 40, new_tokens=8), lambda _, __: None, recipe="random")
    return {check.subject for check in proof.parity.failures()}


def test_every_path_through_prefixes_holds() -> None:
    """The third row shows no image."""
    assert failures(rows=3) == set()


def test_images_told_apart_by_their_token_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "_digests", lambda pixels, grids: [[str(grid) for grid in row] for row in grids])
    assert failures() == {"prefix of other images", "image that differs in its last value"}


def test_an_offset_left_behind_with_the_prefix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding on a shared cache goes on at the positions of text, as if its images took as many as tokens."""
    before = KVCache.claim

    def claim(self: KVCache, tokens: int) -> object:
        slots = before(self, tokens)
        return replace(slots, offsets=torch.zeros_like(slots.offsets)) if hasattr(self, "leases") else slots

    monkeypatch.setattr(KVCache, "claim", claim)
    assert failures() == {"decode after a prefix hit", "left-padded prompt", "prompt where a padded one was"}
