"""One part of one case in one fresh process: a case in, a fragment of its record out.

python -m harness.execution.worker CASE.json prove|time|mutants OUT.json [--process N] [--kernels] [--world N]
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from harness.build import builder, ranks, registry
from harness.build.process_state import process_state
from harness.build.provenance import provenance
from harness.errors import UserError
from harness.execution.recipe_process import cores, has_core, judge_elsewhere
from harness.faults.fault_trials import Trial, judge_ranks, kill_matrix
from harness.machine.installation import ROOT
from harness.parity.diagnosis.capture import capture
from harness.parity.gate import Proof, prove, prove_recipe
from harness.parity.kernels.compile_ahead_process import compile_elsewhere
from harness.parity.kernels.kernel_checks import kernels_of
from harness.parity.kernels.precompile import precompile
from harness.parity.kernels.verdict_store import VerdictStore
from harness.parity.reference.attention_backends import exact_convolutions
from harness.records import check_log
from harness.records.case import Case
from harness.records.kill_matrix import KillMatrix
from harness.records.partial_record import REPRODUCER, PartialRecord
from harness.records.proof_size import proof_size_of
from harness.records.record import Failure, ReceiptNote
from harness.records.weight_recipe import WeightRecipe
from harness.spec.model import ModelSpec
from harness.spec.optimization import KernelMode, Target
from harness.timing.case_timing import Timing, time_case


def target_of(case: Case, part: str, rank: int, world: int) -> Target:
    """Where this part builds. On a CPU the proof interprets Triton and timing does without it."""
    if not case.on_cpu:
        return Target(torch.device("cuda", rank), getattr(torch, case.workload.dtype), "compiled", rank, world)
    mode: KernelMode = "none" if part == "time" else "interpreted"
    return Target(torch.device("cpu"), getattr(torch, case.workload.dtype), mode, rank, world)


def run_prove(
    case: Case, config: builder.BuildConfig, options: argparse.Namespace, started: Mapping[str, str]
) -> PartialRecord:
    """The proof; where it fails in one process, the smallest failing case is saved beside the fragment."""
    # Interpreted kernels prove the maths; that the bfloat16 ones compile is shown beside it, in a process without
    # the interpreter.
    target, out = config.target, options.out
    launched = target.kernels == "interpreted" and kernels_of(config.spec, config.stack)
    pending = compile_elsewhere(case) if launched and target.rank == 0 else None
    keep = partial(check_log.append, check_log.beside(out))
    elsewhere = judge_elsewhere(case, options.case, out, keep) if target.world == 1 and has_core(case) else None
    verdicts = _verdicts(case, config.spec, target, options)
    proof = prove(config, proof_size_of(case), say, started, keep, case.recipe, verdicts, elsewhere)
    compiled = pending() if pending else ()
    if not proof.parity.passed and target.world == 1:
        saved = capture(config, case.size, proof_size_of(case), proof.parity, case.parameters)
        if saved is not None:
            saved.save(out.with_name(f"{out.stem}{REPRODUCER}"))
    return PartialRecord(
        status="passed" if proof.parity.passed else "failed",
        provenance=provenance(config.spec, config.source, compiled),
        receipts=_receipts(config.spec, proof),
        parity=proof.parity,
    )


def run_recipe(
    case: Case, config: builder.BuildConfig, options: argparse.Namespace, started: Mapping[str, str]
) -> PartialRecord:
    """What the proof finds on weights of one recipe, asked for by the process that proves the rest."""
    keep = partial(check_log.append, check_log.beside(options.out))
    parity = prove_recipe(config, proof_size_of(case), options.recipe, say, started, keep)
    return PartialRecord(status="passed" if parity.passed else "failed", parity=parity)


def run_time(case: Case, config: builder.BuildConfig, process: int, kernels: bool) -> PartialRecord:
    timing: Timing = time_case(case, config, process, kernels, _blocks(case.timing.max_blocks))
    return PartialRecord(
        status="passed",
        arms=tuple(timing.arms),
        series=tuple(timing.series),
        blocks=tuple(timing.blocks),
        work=tuple(timing.work),
        dispatches=tuple(timing.dispatches),
        ceilings=timing.ceilings,
        kernels=tuple(timing.kernels),
        timing_notes=tuple(timing.notes),
    )


def run_mutants(case: Case, argv: list[str], world: int) -> PartialRecord:
    """The faults that one process can have; where ranks hold the model, then theirs."""
    alone = kill_matrix(_trial(case, target_of(case, "mutants", 0, 1)), say)
    if not world:
        return PartialRecord(status="passed", kill_matrix=alone)
    say(1.0, "faults of ranks")
    shared = ranks.run(argv, world)
    if shared.kill_matrix is None:
        return shared
    outcomes = (*alone.outcomes, *shared.kill_matrix.outcomes)
    whole = KillMatrix(outcomes=outcomes, wall_s=alone.wall_s + shared.kill_matrix.wall_s)
    return PartialRecord(status="passed", kill_matrix=whole)


def _trial(case: Case, target: Target) -> Trial:
    return Trial(
        case.model, case.size, case.seed, case.weights, case.optimizations, target, proof_size_of(case), case.parameters
    )


def _blocks(most: int) -> Callable[[int, float], None]:
    """Tell of every tenth block, and of none before an interval exists."""

    def tell(blocks: int, half_width: float) -> None:
        if blocks % 10 == 0:
            say(blocks / most, f"{blocks} blocks, interval ±{half_width:.2%}")

    return tell


def say(fraction: float, text: str) -> None:
    """A progress line for the engine that started this process."""
    print(f"::progress {fraction:.3f} {text}", flush=True)


def _receipts(spec: ModelSpec, proof: Proof) -> tuple[ReceiptNote, ...]:
    return tuple(
        ReceiptNote(
            optimization=receipt.optimization,
            touched=receipt.touched,
            notes=receipt.notes,
            provides=tuple(sorted(spec.menu[receipt.optimization].provides)),
        )
        for receipt in proof.receipts
    )


def _guarded(work: Callable[[], PartialRecord]) -> PartialRecord:
    """Whatever a case does, its record says what it was: hence the broad except."""
    try:
        return work()
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        return PartialRecord(status="out_of_memory", error=_failure(error))
    except Exception as error:  # noqa: BLE001
        return PartialRecord(status="crashed", error=_failure(error))


def _failure(error: BaseException) -> Failure:
    trace = "" if isinstance(error, UserError) else "".join(traceback.format_exception(error))[-4000:]
    root = f"{ROOT}/"
    return Failure(
        kind=type(error).__name__, message=str(error)[:2000].replace(root, ""), traceback=trace.replace(root, "")
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.execution.worker", description=__doc__)
    parser.add_argument("case", type=Path)
    parser.add_argument("part", choices=("prove", "time", "mutants"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--kernels", action="store_true", help="time kernels by themselves, too")
    parser.add_argument("--world", type=int, help="processes that hold the model; by default as the hardware says")
    parser.add_argument("--rank", type=int, help="set by the worker for the ranks that it starts")
    parser.add_argument("--meeting", type=Path, help="likewise: the file where they meet")
    parser.add_argument("--verdicts", type=Path, help="folder of op-level verdicts that may stand")
    parser.add_argument("--recipe", choices=get_args(WeightRecipe), help="prove with weights of one recipe alone")
    parser.add_argument("--run", help="the run that makes the record, which new verdicts are named after")
    options = parser.parse_args(argv)
    case = Case.model_validate_json(options.case.read_text())
    _guarded(lambda: _part(case, options, argv or sys.argv[1:])).write(options.out)
    if options.rank is not None:
        # Two timings on two H200s aborted while Python took down what the devices shared, their answers written.
        sys.stdout.flush()
        os._exit(0)
    return 0


def _part(case: Case, options: argparse.Namespace, argv: list[str]) -> PartialRecord:
    if options.part != "time":
        exact_convolutions()
    if options.part == "prove" and not options.recipe and has_core(case):
        torch.set_num_threads(cores() - 1)
    started = process_state()
    spec = registry.load(case.model).made_with(case.parameters)
    if options.part == "prove" and not case.on_cpu and options.rank is None:
        say(0.0, "compile kernels")
        held = _verdicts(case, spec, target_of(case, "prove", 0, 1), options)
        precompile(options.case, held.standing(spec) if held else ())
    world = options.world or ranks.world_of(case, spec)
    if options.part == "mutants" and options.rank is None:
        return run_mutants(case, argv, world)
    if world and options.rank is None:
        return ranks.run(argv, world)
    target = target_of(case, options.part, options.rank or 0, world or 1)
    if world:
        ranks.join(ranks.Rank(options.rank, world, options.meeting), target.device, case.deadline_s)
    source = builder.Source.of(spec, case.size, case.seed, case.weights)
    config = builder.BuildConfig(spec, source, case.optimizations, target)
    if options.part == "mutants":
        done = PartialRecord(status="passed", kill_matrix=judge_ranks(_trial(case, target)))
    elif options.part == "prove":
        does = run_recipe if options.recipe else run_prove
        done = does(case, config, options, started)
    else:
        done = run_time(case, config, options.process, options.kernels)
    if world:
        ranks.leave()
    return done


def _verdicts(case: Case, spec: ModelSpec, target: Target, options: argparse.Namespace) -> VerdictStore | None:
    if options.verdicts is None:
        return None
    return VerdictStore(options.verdicts, options.run, case, spec, target.device)


if __name__ == "__main__":
    sys.exit(main())
