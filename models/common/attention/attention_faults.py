"""Faults that prefill and decode attention share, as changes of what the kernel reads; and a layout both must take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from harness.spec.kernel import OpCase
from harness.spec.mutant import Mutant
from models.common.kernels import values
from models.common.kernels.menu_items import items, together
from models.common.kernels.mutation import Inputs, given, scaled


def attention_items(case: dict[str, Any], generator: torch.Generator) -> Iterator[OpCase]:
    """What else queries and pages can be. Values near the largest leave room for the sum over the keys before it is
    divided."""
    pages = ("k_pages", "v_pages")
    yield together(case, generator, {"small": ("q",), "offset": ("v_pages",)})
    yield together(case, generator, {"nan row": ("q",), "outliers": ("v_pages",)})
    yield together(case, generator, {"ties": ("q", "k_pages"), "subnormal": ("v_pages",)})
    yield together(case, generator, {"constant": ("q", "k_pages"), "near-max": ("v_pages",)}, most=0.05)
    swapped = {name: values.swapped(case[name], 1, 2) for name in pages}
    yield OpCase("expanded, transposed", {**case, **swapped, "q": case["q"][:1].expand_as(case["q"])})
    yield from items(case, ("q", *pages), generator, "misaligned")


LATE = 8
"""Powers of two by which the later keys' scores outweigh the earlier ones'."""


def canceling(
    keys: tuple[int, ...], heads: int, slots: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Keys and values [.., D] of the shape `keys`, whose axis `heads` holds two heads and whose axis `slots` a multiple
    of 16: values that cancel over the slots, under a score of 0 each or, in the second head, one that is LATE from the
    middle on, where the values before it are as much larger. A query of 1 and zeros and a scale of log(2) make all
    shares powers of two, so that nothing but sums is left to round."""
    k, v = torch.zeros(keys, dtype=dtype, device=device), values.canceling(keys, dtype, device, generator, slots, -1)
    middle = keys[slots] // 2
    k.select(heads, 1).narrow(slots - (slots > heads), middle, keys[slots] - middle)[..., 0] = LATE
    v.select(heads, 1).narrow(slots - (slots > heads), 0, middle).mul_(2**LATE)
    return k, v


def one_channel(q: Tensor) -> Tensor:
    """Queries like `q` that read the first channel of a key."""
    made = torch.zeros_like(q)
    made[..., 0] = 1
    return made


def canceling_pages(case: dict[str, Any], generator: torch.Generator) -> OpCase:
    """`case` has two key-value heads and one page a row, as long as the row."""
    pages = case["k_pages"]
    k, v = canceling(tuple(pages.shape), 1, 2, pages.dtype, pages.device, generator)
    changed = {"q": one_channel(case["q"]), "k_pages": k, "v_pages": v, "scale": math.log(2)}
    return OpCase("canceling over keys, the largest scores last", {**case, **changed})


def absolute_values(inputs: Inputs) -> dict[str, Tensor]:
    return {"v_pages": inputs["v_pages"].abs()}


def far_pages(case: dict[str, Any]) -> OpCase:
    return OpCase("far pages", {**case, **{name: values.past_int32(case[name]) for name in ("k_pages", "v_pages")}})


def packed_query(case: dict[str, Any]) -> dict[str, Any]:
    """The same with q as a view of a wider projection."""
    q = case["q"]
    upcast = torch.cat((q, torch.zeros_like(q)), dim=2)
    return {**case, "q": upcast[:, :, : q.shape[2]]}


def _groups_interleaved(inputs: Inputs) -> Tensor:
    """q with its heads dealt to the key-value heads in turn."""
    q, kv_heads = inputs["q"], inputs["k_pages"].shape[1]
    return q.unflatten(2, (kv_heads, -1)).transpose(2, 3).flatten(2, 3)


def _last_unread(inputs: Inputs) -> Tensor:
    """The values with the last slot in use of every row at zero."""
    pages, block_table = inputs["v_pages"].clone(), inputs["block_table"].long()
    last = inputs["seq_lens"].long() - 1
    rows = torch.arange(block_table.shape[0], device=block_table.device)
    size = pages.shape[2]
    pages[block_table[rows, last // size], :, last % size] = 0
    return pages


BLOCK = 16
"""Keys that an online softmax meets at once."""


def unrescaled(twin: Callable[..., Mapping[str, Tensor]]) -> Mutant:
    """An online softmax whose sums keep the scale of the largest score so far when a larger one comes."""

    def faulty(**inputs: Any) -> Mapping[str, Tensor]:
        with _Online():
            return twin(**inputs)

    return Mutant("sums not rescaled", "rescale", lambda launch: faulty)


class _Online(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replaced = _attend_online if func is F.scaled_dot_product_attention else func
        return replaced(*args, **(kwargs or {}))


def _attend_online(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float = 1.0,
    enable_gqa: bool = False,
) -> Tensor:
    """q [..., T, D] against k, v [..., S, D] under a mask, as torch's."""
    scores = q.float() @ k.float().mT * scale
    scores = scores if attn_mask is None else scores.masked_fill(~attn_mask, -torch.inf)
    padded = F.pad(scores, (0, -scores.shape[-1] % BLOCK), value=-torch.inf).unflatten(-1, (-1, BLOCK))
    largest = padded.amax(-1).cummax(-1).values.unsqueeze(-1)
    shares = (padded - largest.masked_fill(largest.isneginf(), 0)).exp().flatten(-2)[..., : scores.shape[-1]]
    out = (shares @ v.float() / shares.sum(-1, keepdim=True)).to(q.dtype)
    return out.transpose(-3, -2).contiguous().transpose(-3, -2)


ATTENTION_FAULTS = (
    scaled("scale", 1.01, "scale off by 1 %", "scale"),
    given("heads in reverse", "heads", lambda i: {"q": i["q"].flip(2)}),
    given("groups dealt in turn", "heads", lambda i: {"q": _groups_interleaved(i)}),
    given("pages exchanged", "cache", lambda i: {"block_table": i["block_table"].roll(1, 1)}),
    given("rows exchanged", "cache", lambda i: {"block_table": i["block_table"].flip(0)}),
    given(
        "first key unseen", "mask", lambda i: {"left_padding": torch.minimum(i["left_padding"] + 1, i["seq_lens"] - 1)}
    ),
    given("padding seen", "mask", lambda i: {"left_padding": torch.zeros_like(i["left_padding"])}),
    given("last value unread", "cache", lambda i: {"v_pages": _last_unread(i)}),
    given("keys and values exchanged", "cache", lambda i: {"k_pages": i["v_pages"], "v_pages": i["k_pages"]}),
)
