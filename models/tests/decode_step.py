"""A decode step that can be taken again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

PROMPT = 64


def repeated(model: Any, device: torch.device) -> Callable[[], Tensor]:
    """One decode step of two rows at position PROMPT."""
    cache = model.new_cache(2, PROMPT + 1)
    tokens = torch.randint(2000, (2, PROMPT + 1), generator=torch.Generator().manual_seed(0)).to(device)
    model(tokens[:, :PROMPT], cache)

    def run() -> Tensor:
        cache.rewind(PROMPT)
        return model.decode(tokens[:, PROMPT:], cache)

    return run
