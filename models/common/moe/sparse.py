"""The bank of experts through kernels that fit the number of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.spec.parameter import Parameter
from models.common.moe import moe_tiles, moe_vector
from models.common.moe.eager import Experts, group, grouped_product
from models.common.moe.moe_combine import combine


def token_limits(vector: int, tile: int) -> tuple[Parameter, Parameter]:
    """Declare which kernels serve how many tokens; beyond the tiles, tokens are sorted for torch's grouped products."""
    return (
        Parameter("vector_max_tokens", vector, range(1, 9), "Most tokens that stream their own experts' rows."),
        Parameter(
            "tile_max_tokens",
            tile,
            range(16, 65),
            "Most tokens among which an expert looks for its own.",
        ),
    )


class SparseExperts(nn.Module):
    """As the Experts it is made from, whose weights it shares under the same names. Up to `few` tokens stream their own
    experts' rows; up to `dozens` each expert looks for its tokens; more are sorted for torch's grouped products."""

    def __init__(self, eager: Experts, few: int, dozens: int) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj, self.gate = eager.gate_up_proj, eager.down_proj, eager.gate
        self.few, self.dozens = few, dozens
        self.pairs: Tensor
        pairs = torch.arange(moe_tiles.MAX_PAIRS, device=eager.down_proj.device)
        self.register_buffer("pairs", pairs, persistent=False)

    def forward(self, x: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        """x [N, H], ids [N, k] int64, weights [N, k] -> [N, H]."""
        if x.shape[0] <= self.few:
            gated = moe_vector.gate_up(x, ids, self.gate_up_proj)["out"]
            return moe_vector.down(gated, ids, weights, self.down_proj)["out"]
        if x.shape[0] <= self.dozens and ids.numel() <= moe_tiles.MAX_PAIRS:
            gated = moe_tiles.gate_up(x, ids, self.gate_up_proj)["out"]
            projected = moe_tiles.project(gated, ids, self.down_proj)["out"]
            return combine(projected, self.pairs[: ids.numel()], weights)["out"]
        groups = group(ids, self.gate_up_proj.shape[0])
        gate, up = grouped_product(x[groups.order // ids.shape[1]], self.gate_up_proj, groups.ends).chunk(2, -1)
        projected = grouped_product(self.gate(gate, up), self.down_proj, groups.ends)
        return combine(projected, groups.places, weights)["out"]
