"""Faults that prefill and decode attention share, as changes of what the kernel reads; and a layout both must take."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.common.faults import Inputs, given, scaled


def packed_query(case: dict[str, Any]) -> dict[str, Any]:
    """The same with q as a view of a wider projection."""
    q = case["q"]
    wide = torch.cat((q, torch.zeros_like(q)), dim=2)
    return {**case, "q": wide[:, :, : q.shape[2]]}


def _groups_interleaved(inputs: Inputs) -> Tensor:
    """q with its heads dealt to the key-value heads in turn."""
    q, kv_heads = inputs["q"], inputs["k_pages"].shape[1]
    return q.unflatten(2, (kv_heads, -1)).transpose(2, 3).flatten(2, 3)


def _last_unread(inputs: Inputs) -> Tensor:
    """The values with the last slot in use of every row at zero."""
    pages, table = inputs["v_pages"].clone(), inputs["table"].long()
    last = inputs["lengths"].long() - 1
    rows = torch.arange(table.shape[0], device=table.device)
    size = pages.shape[2]
    pages[table[rows, last // size], :, last % size] = 0
    return pages


ATTENTION_FAULTS = (
    scaled("scale", 1.01, "scale off by 1 %", "scale"),
    given("heads in reverse", "heads", lambda i: {"q": i["q"].flip(2)}),
    given("groups dealt in turn", "heads", lambda i: {"q": _groups_interleaved(i)}),
    given("pages exchanged", "cache", lambda i: {"table": i["table"].roll(1, 1)}),
    given("rows exchanged", "cache", lambda i: {"table": i["table"].flip(0)}),
    given("first key unseen", "mask", lambda i: {"starts": torch.minimum(i["starts"] + 1, i["lengths"] - 1)}),
    given("padding seen", "mask", lambda i: {"starts": torch.zeros_like(i["starts"])}),
    given("last value unread", "cache", lambda i: {"v_pages": _last_unread(i)}),
    given("keys and values exchanged", "cache", lambda i: {"k_pages": i["v_pages"], "v_pages": i["k_pages"]}),
)
