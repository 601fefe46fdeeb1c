"""The faults that every decoder-only model built of these mechanisms can have, and those of a dense or a sparse one."""

from __future__ import annotations

from models.common.attention.mutations import ATTENTION_MUTANTS
from models.common.cache.mutations import CACHE_MUTANTS
from models.common.decoder.residual_mutations import RESIDUAL_MUTANTS
from models.common.mlp.mutations import GATED_MUTANTS
from models.common.moe.mutations import expert_mutants

DECODER_MUTANTS = (*ATTENTION_MUTANTS, *CACHE_MUTANTS, *RESIDUAL_MUTANTS)
DENSE_MUTANTS = (*DECODER_MUTANTS, *GATED_MUTANTS)
SPARSE_MUTANTS = (*DECODER_MUTANTS, *expert_mutants("mlp"))
"""Of a model whose layers all hold router and experts at `mlp`."""
