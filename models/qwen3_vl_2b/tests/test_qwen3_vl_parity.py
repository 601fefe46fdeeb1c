"""The eager build is Hugging Face's Qwen3-VL; every native stack passes the whole gate, and planted faults do not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.build import builder, inputs
from harness.parity.gate import prove
from harness.parity.tolerance.rules import relative_frobenius
from harness.records.proof_size import ProofSize
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from harness.timing.arms.arm import Shape, last_tokens
from harness.timing.arms.by_name import PEERS
from harness.timing.arms.candidate import Candidate
from models.common.cache.kv_cache import KVCache
from models.qwen3_vl_2b import SPEC
from models.qwen3_vl_2b.fusion import ImageChunk
from models.qwen3_vl_2b.merger import Merger
from models.qwen3_vl_2b.rotary import AxisRotary
from models.qwen3_vl_2b.vision import AxialRotary

CPU = torch.device("cpu")
SOURCE = builder.Source.of(SPEC, "tiny", seed=3, weights=None)


def target(dtype: torch.dtype) -> Target:
    return Target(CPU, dtype, "none")


def pair(dtype: torch.dtype, stack: tuple[str, ...] = ()) -> tuple[Any, Any]:
    hf = builder.reference(SPEC, SOURCE, dtype, CPU)
    return hf, builder.candidate(builder.BuildConfig(SPEC, SOURCE, stack, target(dtype)), hf)[0]


def prompt(tokens: int, images: list[int], dtype: torch.dtype = torch.float32) -> ModelInputs:
    return inputs.draw(SPEC, SOURCE.config, tokens, images, 5, "tests").to(CPU, dtype)


@pytest.mark.parametrize("images", [[0, 0], [1, 0], [2, 3], [0, 1, 2]], ids=str)
@torch.no_grad()
def test_eager_prefill_is_hugging_faces(images: list[int]) -> None:
    hf, ours = pair(torch.float32)
    shown = prompt(40, images)
    theirs = hf(input_ids=shown.tokens, **shown.keywords()).logits
    mine = ours(shown.tokens, inputs.prepared(ours, shown, 40))
    # Text is computed in the same order, bit for bit; the tower's convolution is a product in another order.
    assert torch.equal(mine, theirs) if not any(images) else relative_frobenius(mine, theirs) < 3e-6


@torch.no_grad()
def test_greedy_tokens_of_a_left_padded_batch_are_hugging_faces() -> None:
    hf, ours = pair(torch.float32, ("kv_cache",))
    whole, left_padding = left_padded([prompt(34, [2]), prompt(30, [0]), prompt(27, [1])])
    new = 12
    theirs = hf.generate(
        whole.tokens,
        attention_mask=(torch.arange(34) >= torch.tensor(left_padding).unsqueeze(1)).int(),
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=new,
        suppress_tokens=list(whole.reserved),
        **whole.keywords(),
    )
    cache = inputs.prepared(ours, whole, 34 + new, left_padding)
    made = [choose(ours(whole.tokens, cache, keep=1)[:, -1], whole.reserved)]
    for _ in range(new - 1):
        made.append(choose(ours.decode(made[-1], cache), whole.reserved))
    assert torch.equal(torch.cat(made, dim=1), theirs[:, 34:])
    assert len(set(cache.offsets.tolist())) == 3, "rows with equal offsets could not show whose is used"


def left_padded(rows: list[ModelInputs]) -> tuple[ModelInputs, list[int]]:
    """Prompts of one row each as one batch, and the padding of each."""
    longest = max(row.tokens.shape[1] for row in rows)
    left_padding = [longest - row.tokens.shape[1] for row in rows]
    tokens = [torch.nn.functional.pad(row.tokens, (start, 0)) for row, start in zip(rows, left_padding, strict=True)]
    pixels = [row.pixels for row in rows if row.pixels is not None]
    grids = tuple(row.grids[0] for row in rows)
    return replace(rows[0], tokens=torch.cat(tokens), pixels=torch.cat(pixels), grids=grids), left_padding


def choose(logits: Tensor, reserved: tuple[int, ...]) -> Tensor:
    return logits.index_fill(1, torch.tensor(reserved), -torch.inf).argmax(-1, keepdim=True)


@pytest.mark.parametrize("stack", [(), ("kv_cache", "linear"), ("kv_cache_paged", "prefix_caching")], ids="+".join)
def test_native_stacks_pass_every_level(stack: tuple[str, ...]) -> None:
    proof = prove(
        builder.BuildConfig(SPEC, SOURCE, stack, target(torch.bfloat16)), ProofSize(2, 24), lambda _, __: None
    )
    assert [f"{c.subject} {c.name} {c.rule}: {c.error:.3g} > {c.limit:.3g}" for c in proof.parity.failures()] == []
    assert proof.parity.levels() == ("layer", "logits", "reference", "generation", "path")
    subjects = {check.subject for check in proof.parity.checks}
    assert {"positions", "tower embedding", "tower block 2", "deep feature 1", "image embeddings"} <= subjects


def test_a_prompt_that_ends_just_behind_an_image_is_decoded_from_there() -> None:
    proof = prove(builder.BuildConfig(SPEC, SOURCE, (), target(torch.float16)), ProofSize(2, 16, 8), lambda _, __: None)
    assert proof.parity.failures() == ()
    names = [check.name for check in proof.parity.checks if check.name.endswith("one by one")]
    assert names == ["2 x 3 tokens, one by one", "trained-like: 2 x 4 tokens, one by one"]


def contiguous_axes(patch: Any) -> None:
    """Frequencies turn by time, then height, then width, in three runs."""
    before = AxisRotary.forward

    def forward(self: AxisRotary, positions: Tensor) -> tuple[Tensor, Tensor]:
        self.axis = self.axis.sort().values
        return before(self, positions)

    patch.setattr(AxisRotary, "forward", forward)


def one_axis(patch: Any) -> None:
    before = AxisRotary.forward
    patch.setattr(AxisRotary, "forward", lambda self, p: before(self, p if p.dim() == 2 else p[0]))


def deep_feature_lost(patch: Any) -> None:
    patch.setattr(ImageChunk, "deep", property(lambda self: max(0, len(self.parts) - 2)))


def deep_feature_everywhere(patch: Any) -> None:
    patch.setattr(ImageChunk, "deepen", lambda self, hidden, index: hidden + self.parts[1 + index].mean(0))


def tower_rows_and_columns_exchanged(patch: Any) -> None:
    before = AxialRotary.forward

    def forward(self: AxialRotary, at: Any) -> tuple[Tensor, Tensor]:
        cos, sin = before(self, at)
        return tuple(x.unflatten(1, (2, 2, -1)).flip(2).flatten(1) for x in (cos, sin))  # type: ignore[return-value]

    patch.setattr(AxialRotary, "forward", forward)


def merger_gelu_by_tanh(patch: Any) -> None:
    gelu = torch.nn.functional.gelu
    patch.setattr(Merger, "project", lambda self, x: self.down(gelu(self.up(x), approximate="tanh")))


FAULTS: dict[Callable[[Any], None], str] = {
    contiguous_axes: "layer 0",
    one_axis: "layer 0",
    deep_feature_lost: "language model on the reference's image features",
    deep_feature_everywhere: "language model on the reference's image features",
    tower_rows_and_columns_exchanged: "tower block 0",
    merger_gelu_by_tanh: "image embeddings",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_refused_at_its_place(fault: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    config = builder.BuildConfig(SPEC, SOURCE, (), target(torch.float32))
    proof = prove(config, ProofSize(1, 24, new_tokens=2), lambda _, __: None, recipe="random")
    failed = [check.subject for check in proof.parity.failures()]
    assert FAULTS[fault] in failed
    assert not proof.parity.passed


def test_offsets_that_are_ignored_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode goes on as if an image took as many positions as tokens; prefill is right."""
    before = KVCache.claim

    def claim(self: KVCache, tokens: int) -> Any:
        slots = before(self, tokens)
        return replace(slots, offsets=torch.zeros_like(slots.offsets))

    monkeypatch.setattr(KVCache, "claim", claim)
    config = builder.BuildConfig(SPEC, SOURCE, (), target(torch.float32))
    proof = prove(config, ProofSize(1, 24, new_tokens=4), lambda _, __: None, recipe="random")
    failed = {check.name for check in proof.parity.failures() if check.subject == "logits float32"}
    assert failed == {"2 x 4 tokens, one by one"}
    assert {check.level for check in proof.parity.failures()} >= {"generation"}


@torch.no_grad()
def test_every_arm_sees_the_images_and_goes_back() -> None:
    hf, ours = pair(torch.float32, ("kv_cache",))
    shown = prompt(32, [2, 2])
    shape = Shape(shown, decode_steps=3)
    arms = {"candidate": Candidate(ours, "candidate", "ours"), **{n: PEERS[n](hf) for n in ("reference", "hf_static")}}
    found = {}
    for name, arm in arms.items():
        arm.open(shape)
        arm.prefill(shown)
        arm.rewind()
        arm.decode(last_tokens(shown.tokens), 3)
        prefill = arm.prefill(shown).clone()
        arm.rewind()
        found[name] = (prefill, arm.decode(last_tokens(shown.tokens), 3).logits.clone())
    for name in ("candidate", "hf_static"):
        for mine, theirs in zip(found[name], found["reference"], strict=True):
            assert relative_frobenius(mine, theirs) < 1e-5, name


def test_text_after_images_in_the_same_cache_stands_at_text_positions() -> None:
    _, ours = pair(torch.float32, ("kv_cache",))
    shown, text = prompt(24, [1]), prompt(24, [0])
    with torch.no_grad():
        cache = inputs.prepared(ours, shown, 24)
        ours(shown.tokens, cache)
        cache.rewind(0)
        assert torch.equal(ours(text.tokens, cache), ours(text.tokens, ours.new_cache(1, 24)))


def test_full_size_on_meta_has_the_published_parameter_count() -> None:
    model = SPEC.build(SPEC.sizes["full"], torch.bfloat16, torch.device("meta"))
    assert sum(p.numel() for p in model.parameters()) == 2_127_532_032
    assert sum(p.numel() for p in model.tower.parameters()) == 406_957_056


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
