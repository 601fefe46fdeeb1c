"""How much of a case its proof is fed."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records.case import Case

GPU_PROMPT_BUDGET = 4096
"""Prompt tokens of a proof over all rows: enough for several key blocks, small enough for logits in float32."""
GPU_PROMPT = 1024
"""Prompt tokens of a row, at most."""


@dataclass(frozen=True)
class ProofSize:
    """Rows, tokens of each row's prompt, and tokens generated behind it."""

    batch: int
    prompt_tokens: int
    new_tokens: int = 64

    def label(self) -> str:
        return f"{self.batch} x {self.prompt_tokens} prompt + {self.new_tokens} new tokens"


CPU_PROOF_SIZE = ProofSize(batch=2, prompt_tokens=16)


def proof_size_of(case: Case) -> ProofSize:
    """Interpreted kernels take little; on a GPU as many rows as the workload has, of its prompt what the budget
    holds."""
    if case.on_cpu:
        return CPU_PROOF_SIZE
    asked = case.workload
    room = max(32, GPU_PROMPT_BUDGET // asked.batch)
    return ProofSize(asked.batch, min(asked.prompt_tokens, room, GPU_PROMPT))
