"""All faults of one case: the model's in one process, those of each kernel and each rounding scheme in another, as many
at once as there are cores; those of ranks in as many as hold a model together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from harness.build import builder, registry
from harness.build.quantized_reference import schemes
from harness.faults.kernel_faults import judge_kernel
from harness.faults.model_faults import Suspects, judge_models, mutants_of
from harness.faults.scheme_faults import judge_scheme
from harness.parity.kernels.kernel_checks import judged_dtypes, kernels_of, seed_after_code
from harness.parity.levels.quantization_schemes import subject_of
from harness.parity.worker_pool import side_by_side
from harness.records.kill_matrix import MODEL, RANKS, KillMatrix, MutantOutcome
from harness.records.proof_size import ProofSize
from harness.spec.model import ModelSpec
from harness.spec.optimization import Scheme, Target
from harness.spec.parameter import Values
from harness.spec.runtime import module_of

Progress = Callable[[float, str], None]
SHARED = frozenset({"ranks"})
"""What an optimization may need that one process cannot give."""
FOREIGN = frozenset({"triton", "cuda"})
"""What an interpreting process gives only at great cost, or not at all."""
PROCESSES = 8


@dataclass(frozen=True)
class Trial:
    """What is judged, in words that another process understands."""

    model: str
    size: str
    seed: int
    weights: str | None
    stack: tuple[str, ...]
    target: Target
    proof_size: ProofSize
    parameters: Values = field(default_factory=dict)

    def spec(self) -> ModelSpec:
        """Load the model with its optimizations made as the case asks."""
        return registry.load(self.model).made_with(self.parameters)


def kill_matrix(trial: Trial, progress: Progress) -> KillMatrix:
    """Every fault of the trial's kernels, rounding schemes and model. Where Triton is interpreted, model faults are
    planted in the part of the stack that runs without it: they wrap the same modules' forward, and the kernels have
    faults of their own.

    Raises HarnessError when anything fails without a fault.
    """
    began = time.perf_counter()
    spec = trial.spec()
    subjects = [MODEL] if mutants_of(spec, trial.stack) else []
    subjects += _schemes(spec, trial.stack)
    if trial.target.kernels != "none":
        subjects += [kernel.name for kernel in kernels_of(spec, trial.stack)]
    found: dict[str, list[MutantOutcome]] = {}
    for subject, outcomes in side_by_side(partial(judge, trial), subjects, PROCESSES):
        found[subject] = outcomes
        seen = sum(item.end in ("killed", "crash") for item in outcomes)
        progress(len(found) / len(subjects), f"{subject}: {seen} of {len(outcomes)} faults seen")
    ordered = tuple(item for subject in subjects for item in found[subject])
    return KillMatrix(outcomes=ordered, wall_s=time.perf_counter() - began)


def judge(trial: Trial, subject: str) -> list[MutantOutcome]:
    """The faults of one kernel or scheme by name, or of the model."""
    spec = trial.spec()
    target = trial.target
    if scheme := _schemes(spec, trial.stack).get(subject):
        return list(judge_scheme(scheme, tuple(dict.fromkeys((torch.float32, target.dtype))), target.device))
    if subject != MODEL:
        kernel = next(kernel for kernel in kernels_of(spec, trial.stack) if kernel.name == subject)
        dtypes = judged_dtypes(kernel, target.dtype)
        return list(judge_kernel(kernel, dtypes, target.device, seed_after_code(spec, trial.seed)))
    stack = without(spec, trial.stack, SHARED)
    return list(judge_models(_suspects(trial, stack), mutants_of(spec, stack)))


def judge_ranks(trial: Trial) -> KillMatrix:
    """The faults that only a model cut over ranks can have, judged by all ranks together: each calls this."""
    began = time.perf_counter()
    spec = trial.spec()
    cut = [name for name in trial.stack if "ranks" in spec.menu[name].provides]
    mutants = [mutant for name in cut for mutant in spec.menu[name].mutants]
    outcomes = tuple(judge_models(_suspects(trial, trial.stack, RANKS), mutants))
    return KillMatrix(outcomes=outcomes, wall_s=time.perf_counter() - began)


def _suspects(trial: Trial, stack: Sequence[str], subject: str = MODEL) -> Suspects:
    spec, target = trial.spec(), trial.target
    if target.kernels == "interpreted":
        stack, target = without(spec, stack, FOREIGN), replace(target, kernels="none")
    source = builder.Source.of(spec, trial.size, trial.seed, trial.weights)
    config = builder.BuildConfig(spec, source, tuple(stack), target)
    return Suspects(config, trial.proof_size, subject)


def _schemes(spec: ModelSpec, stack: Sequence[str]) -> dict[str, Scheme]:
    """What the stack rounds to, by the subjects of the checks; a size has no say in it."""
    model = module_of(spec.build(spec.sizes["tiny"], torch.float32, torch.device("meta")))
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    return {subject_of(scheme): scheme for scheme in schemes(spec, names, stack)}


def without(spec: ModelSpec, stack: Sequence[str], needs: frozenset[str]) -> tuple[str, ...]:
    """The optimizations of the stack that need none of these."""
    return tuple(name for name in stack if not needs & set(spec.menu[name].needs))
