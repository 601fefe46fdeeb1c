"""The levels of the gate above single kernels, on every faulty version of a model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch

from harness.build import builder
from harness.build.inputs import prepared
from harness.errors import HarnessError
from harness.faults.first_seen import Seen, first_seen
from harness.parity.levels.logits import FP32_LIMIT, FP32_NOISE_FACTOR
from harness.parity.parity_run import ParityRun
from harness.parity.tolerance.rules import relative_frobenius
from harness.records.kill_matrix import MODEL, End, MutantOutcome
from harness.records.proof_size import ProofSize
from harness.spec.model import ModelSpec
from harness.spec.mutant import Mutant
from harness.spec.runtime import CausalLM, module_of


def mutants_of(spec: ModelSpec, stack: Sequence[str]) -> tuple[Mutant, ...]:
    """What the model declares, then what the optimizations of its stack do."""
    return (*spec.mutants, *(mutant for name in stack for mutant in spec.menu[name].mutants))


class Suspects:
    """One model in float32 and in the target dtype, judged with one fault after another in it. What the reference says
    is computed once. `subject` is what the faults are said to be in."""

    def __init__(self, config: builder.BuildConfig, proof_size: ProofSize, subject: str = MODEL) -> None:
        self.subject = subject
        self.runs = (ParityRun.fp32(config, proof_size), ParityRun(config, proof_size))
        self.right = tuple(run.model for run in self.runs)

    @torch.no_grad()
    def check_right(self) -> None:
        """Raises HarnessError when the build fails without a fault: then what the gate refuses says nothing."""
        if seen := self._seen(None)[0]:
            raise HarnessError(f"the build fails without a fault: {seen.rule} at {seen.where} {seen.crash}")

    @torch.no_grad()
    def judge(self, mutant: Mutant) -> MutantOutcome:
        seen, dtype, touched = self._seen(mutant)
        if not touched:
            reason = "nothing in this build could have this fault"
            return self._outcome(mutant, "no place", reason)
        if seen is not None:
            return seen.outcome(self.subject, mutant, dtype)
        if mutant.equivalent is None:
            return self._outcome(mutant, "survived", "")
        return self._outcome(
            mutant, "equivalent", f"{mutant.equivalent}; logits {self._distance(mutant):.1e} away in fp32"
        )

    def _outcome(self, mutant: Mutant, end: End, reason: str) -> MutantOutcome:
        return MutantOutcome(subject=self.subject, name=mutant.name, kind=mutant.kind, end=end, reason=reason)

    def _seen(self, mutant: Mutant | None) -> tuple[Seen | None, torch.dtype, tuple[str, ...]]:
        touched: tuple[str, ...] = ("",)
        for run, right, levels in zip(self.runs, self.right, (ParityRun.in_fp32, ParityRun.in_target), strict=True):
            run.model, touched = (pristine(right), ("",)) if mutant is None else planted(right, mutant)
            if not touched:
                break
            if seen := first_seen(levels(run), run.target):
                return seen, run.target.dtype, touched
        return None, self.runs[-1].target.dtype, touched

    def _distance(self, mutant: Mutant) -> float:
        """How far an equivalent fault moves the logits in float32. HarnessError past the limit of two right builds."""
        run, right = self.runs[0], self.right[0]
        prompt = run.oracle.prompt("fp32")
        length = prompt.tokens.shape[1]
        mine, others = (
            model(prompt.tokens, prepared(model, prompt, length))
            for model in (pristine(right), planted(right, mutant).model)
        )
        noise = relative_frobenius(run.plain.logits(prompt), run.plain.wide_logits(prompt)[0])
        distance = relative_frobenius(others, mine)
        if distance > max(FP32_LIMIT, FP32_NOISE_FACTOR * noise):
            raise HarnessError(
                f"{mutant.name} is declared equivalent ({mutant.equivalent}) and moves logits {distance}"
            )
        return distance


def pristine(model: CausalLM) -> CausalLM:
    """A copy of the modules over the same parameters and buffers."""
    module = module_of(model)
    shared = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(model, shared)


class Planted(NamedTuple):
    """A copy of a model with a fault in it, and the paths that the fault touched."""

    model: CausalLM
    touched: tuple[str, ...]


def planted(model: CausalLM, mutant: Mutant) -> Planted:
    wrong = pristine(model)
    return Planted(wrong, tuple(mutant.apply(wrong)))


def judge_models(suspects: Suspects, mutants: Sequence[Mutant]) -> Iterator[MutantOutcome]:
    suspects.check_right()
    for mutant in mutants:
        yield suspects.judge(mutant)
