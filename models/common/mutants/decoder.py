"""The faults that every decoder-only model built of these mechanisms can have, and those of a dense or a sparse one."""

from __future__ import annotations

from models.common.mutants.cache import CACHE_MUTANTS
from models.common.mutants.experts import expert_mutants
from models.common.mutants.gated import GATED_MUTANTS
from models.common.mutants.heads import ATTENTION_MUTANTS
from models.common.mutants.residual import RESIDUAL_MUTANTS

DECODER_MUTANTS = (*ATTENTION_MUTANTS, *CACHE_MUTANTS, *RESIDUAL_MUTANTS)
DENSE_MUTANTS = (*DECODER_MUTANTS, *GATED_MUTANTS)
SPARSE_MUTANTS = (*DECODER_MUTANTS, *expert_mutants("mlp"))
"""Of a model whose layers all hold router and experts at `mlp`."""
