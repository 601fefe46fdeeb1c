"""How much of a case its proof is fed."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records.case import Case

GPU_PROMPT_BUDGET = 4096
"""Prompt tokens of a proof over all rows: enough for several key blocks, small enough for logits in float32."""
GPU_PROMPT = 1024
"""Prompt tokens of a row, at most."""


CPU_STEPS, GPU_STEPS = 8, 4
"""Decode steps of a sample: long enough to time, short enough that the context stays what the case says."""


@dataclass(frozen=True)
class TimedSize:
    """What the timed calls are given: a prompt, and tokens decoded behind it on a cache that holds no more."""

    batch: int
    prompt_tokens: int
    steps: int
    images: int = 0
    shared: int = 0
    """Tokens of the prompt that an earlier one shares."""

    @property
    def capacity(self) -> int:
        """Slots of a row's cache."""
        return self.prompt_tokens + self.steps

    @classmethod
    def of(cls, case: Case) -> TimedSize:
        asked = case.workload
        steps = min(CPU_STEPS if case.on_cpu else GPU_STEPS, asked.new_tokens)
        return cls(asked.batch, asked.prompt_tokens, steps, asked.images, asked.shared_prefix_tokens)


@dataclass(frozen=True)
class ProofSize:
    """Rows, tokens of each row's prompt, and tokens generated behind it."""

    batch: int
    prompt_tokens: int
    new_tokens: int = 64
    timed: TimedSize | None = None
    """The size at which the stack is to be timed with the launches that are proven; None where it is timed without
    them."""

    def label(self) -> str:
        return f"{self.batch} x {self.prompt_tokens} prompt + {self.new_tokens} new tokens"


CPU_PROOF_SIZE = ProofSize(batch=2, prompt_tokens=16)


def proof_size_of(case: Case) -> ProofSize:
    """Interpreted kernels take little; on a GPU as many rows as the workload has, of its prompt what the budget
    holds, and the ends of prompts of the timed size."""
    if case.on_cpu:
        return CPU_PROOF_SIZE
    asked = case.workload
    room = max(32, GPU_PROMPT_BUDGET // asked.batch)
    return ProofSize(asked.batch, min(asked.prompt_tokens, room, GPU_PROMPT), timed=TimedSize.of(case))
