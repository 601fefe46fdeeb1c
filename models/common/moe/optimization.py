"""Router and experts through kernels that fit the number of tokens."""

from __future__ import annotations

from torch import nn

from harness.spec.kernel import Kernel
from harness.spec.optimization import Edges, Optimization, Receipt, Target
from models.common.decoder.extension import Swaps, swap_all
from models.common.kernels.workspace import Workspaces
from models.common.moe.eager import Experts
from models.common.moe.fused_router import FusedRouter, Route
from models.common.moe.moe_cases import MOE
from models.common.moe.sparse import SparseExperts, token_limits


def streamed_experts(
    router: type[nn.Module], route: Route, kernel: Kernel, vector_max_tokens: int, tile_max_tokens: int
) -> Optimization:
    """Swap every `router` for one kernel, `route`, and every bank of experts for kernels that read the chosen ones'
    weights once. Up to `vector_max_tokens` tokens stream their own experts' rows; up to `tile_max_tokens` an expert
    looks for its own tokens, and the router's kernel serves as many."""

    limits = token_limits(vector_max_tokens, tile_max_tokens)

    def apply(
        model: nn.Module,
        target: Target,
        vector_max_tokens: int = vector_max_tokens,
        tile_max_tokens: int = tile_max_tokens,
    ) -> Receipt:
        workspaces = Workspaces()
        swaps: Swaps = {
            router: lambda m: FusedRouter(m, route, tile_max_tokens, workspaces),
            Experts: lambda m: SparseExperts(m, vector_max_tokens, tile_max_tokens),
        }
        note = f"vectors up to {vector_max_tokens} tokens, tiles up to {tile_max_tokens}, sorted beyond"
        return Receipt("experts", swap_all(model, swaps), (note,))

    def edges(vector_max_tokens: int = vector_max_tokens, tile_max_tokens: int = tile_max_tokens) -> Edges:
        return {"rows": (vector_max_tokens, tile_max_tokens)}

    return Optimization(
        name="experts",
        summary="router in one kernel; experts streamed, tiled or grouped by the number of tokens",
        numerics="reordered",
        apply=apply,
        kernels=(kernel, *MOE),
        needs=("triton",),
        parameters=limits,
        edges=edges,
    )
