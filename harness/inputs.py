"""The same inputs from the same seed, every time and on every device."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from harness.spec import HFConfig


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each purpose, so that adding one draw moves no other."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def prompt(config: HFConfig, batch: int, tokens: int, seed: int, purpose: str, device: torch.device) -> Tensor:
    """Token ids [batch, tokens] int64, drawn from the vocabulary without its special ids at the top end."""
    special = [config.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")]
    ids = [i for entry in special if entry is not None for i in (entry if isinstance(entry, list) else [entry])]
    ordinary = min([int(config["vocab_size"]), *ids])
    return torch.randint(ordinary, (batch, tokens), generator=generator(seed, purpose)).to(device)
