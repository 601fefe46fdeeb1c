"""Settings to plan: every `auto` resolved, every skip stated, every contradiction refused. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from harness.errors import UnknownName, UserError
from harness.planning import stack
from harness.planning.hardware_target import HardwareTarget, Machines
from harness.planning.settings import AutoWorkload, Settings
from harness.planning.stack_parameters import StackParameters, idle_notes, stack_parameters
from harness.records.case import Case, DType, Plan, Skip
from harness.spec.optimization import Menu


class Offer(Protocol):
    """What the plan reads of a model; a ModelSpec is one."""

    @property
    def sizes(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def menu(self) -> Menu: ...
    @property
    def checkpoint(self) -> str: ...


WeightsBytes = Callable[[str, str, DType, str | None], int]
"""Model, size, dtype, checkpoint directory or None -> bytes of one copy of the weights."""


@dataclass(frozen=True)
class Shares:
    """What would be shared out: a model that `ranks` processes hold together, cut by the optimizations `cuts`."""

    model: str
    size: str
    weights: str | None
    cuts: tuple[str, ...]
    ranks: int


Indivisible = Callable[[Shares], str | None]
"""Why the shares cannot be even; None where they can."""


@dataclass(frozen=True)
class _Expanded:
    case: Case
    reason: str | None
    notes: tuple[str, ...]
    told: StackParameters


def expand(
    settings: Sequence[Settings],
    specs: Mapping[str, Offer],
    site: Machines,
    weights_bytes: WeightsBytes,
    indivisible: Indivisible,
    sweep: bool,
) -> Plan:
    """All cases of the jobs, duplicates merged, in the order asked.

    A case that this machine cannot run is skipped with its reason. A stack that contradicts itself is skipped in a
    `sweep`, where it was not asked for alone, and a UserError otherwise. So is a plan that would run nothing: a run
    that measured nothing must not look like one that passed.
    """
    weighed, tried = cache(weights_bytes), cache(indivisible)
    places = cache(site.place)
    expanded = [
        item for job in settings for item in _expand_job(job, specs, places(job.hardware), weighed, tried, sweep)
    ]
    cases = {item.case.key: item.case for item in expanded if item.reason is None}
    skips = {item.case.key: Skip(case=item.case, reason=item.reason) for item in expanded if item.reason is not None}
    notes = dict.fromkeys(note for item in expanded for note in item.notes)
    notes |= dict.fromkeys(idle_notes([(item.case, item.told) for item in expanded]))
    plan = Plan(cases=tuple(cases.values()), skipped=tuple(skips.values()), notes=tuple(notes))
    if not plan.cases:
        reason = plan.skipped[0].reason if plan.skipped else "no job was asked for"
        raise UserError(f"nothing would run: {reason}")
    return plan


def _expand_job(
    job: Settings,
    specs: Mapping[str, Offer],
    place: HardwareTarget,
    weights_bytes: WeightsBytes,
    indivisible: Indivisible,
    sweep: bool,
) -> Iterator[_Expanded]:
    name = job.model.name
    if name not in specs:
        raise UnknownName("model", name, specs)
    spec = specs[name]
    if job.weights is not None and job.recipe == "random":
        raise UserError("recipe=random with weights=: a checkpoint is judged as it is, and no recipe would be applied")
    workload = getattr(job.workload, place.kind) if isinstance(job.workload, AutoWorkload) else job.workload
    shape = workload.shape(place.kind)
    elsewhere = {item for other in specs.values() for item in other.menu.names()}
    for asked in _stacks(job.stack(), spec.menu, place):
        chosen = stack.resolve(name, spec.menu, asked, place.capabilities, elsewhere)
        if chosen.wrong and not sweep:
            raise UserError(chosen.wrong)
        told = stack_parameters(name, spec.menu, chosen, job.parameters(), elsewhere)
        cuts = tuple(item.name for item in spec.menu.items if item.shard and item.name in chosen.names)
        ranks = place.ranks if cuts else 0
        case = Case(
            model=name,
            size=_size(job, spec, place, shape.dtype, weights_bytes, ranks),
            optimizations=chosen.names,
            hardware=place.name,
            workload=shape,
            arms=_arms(job, place),
            timing=job.timing.resolve(place.kind),
            seed=job.seed,
            weights=job.weights,
            deadline_s=job.deadline_s,
            parameters=told.values,
            recipe=job.recipe,
        )
        unable = place.absent or chosen.wrong or chosen.unable
        reason = unable or _unseen(case, spec) or _too_large(case, place, weights_bytes)
        if reason is None and ranks:
            reason = indivisible(Shares(name, case.size, job.weights, cuts, ranks))
        yield _Expanded(case, reason, _notes(case, place, chosen), told)


def _stacks(asked: tuple[str, ...], menu: Menu, place: HardwareTarget) -> tuple[tuple[str, ...], ...]:
    """The stacks that a choice stands for; a family cannot be a part of a stack."""
    families = [name for name in asked if stack.is_family(name)]
    if families and len(asked) > 1:
        raise UserError(f"optimization '{families[0]}' stands for several stacks and cannot be a part of one")
    if stack.NONE in asked:
        raise UserError(f"optimization '{stack.NONE}' is the empty stack and cannot be a part of another")
    return stack.family(families[0], menu, place.capabilities) if families else (asked,)


def _size(
    job: Settings, spec: Offer, place: HardwareTarget, dtype: DType, weights_bytes: WeightsBytes, ranks: int
) -> str:
    """Resolve `auto`: real weights are the full model; a CPU takes tiny; a GPU takes full where two copies of the
    weights, ours and the reference's, leave a tenth of its memory free, and the slice elsewhere. Where `ranks` hold a
    model together, each has the whole reference and a share of its own beside it, in the proof's float32."""
    model, size = job.model.name, job.size.name
    if size == "auto" and job.weights is not None:
        size = "full"
    elif size == "auto" and place.kind == "cpu":
        size = "tiny"
    elif size == "auto":
        room = 0.9 * place.memory_bytes if place.memory_bytes else 0.0
        held = 2.0 * weights_bytes(model, "full", dtype, None)
        if ranks:
            held = max(held, (1 + 1 / ranks) * weights_bytes(model, "full", "float32", None))
        size = "full" if held <= room else "slice"
    if size not in spec.sizes:
        raise UnknownName(f"size of {model}", size, spec.sizes)
    return size


def _arms(job: Settings, place: HardwareTarget) -> tuple[str, ...]:
    peers: list[str] = []
    for name, arm in job.arm.items():
        per_kind: tuple[str, ...] | None = getattr(arm, place.kind)
        peers += [name] if per_kind is None else per_kind
    return tuple(dict.fromkeys(["reference", *peers]))


def _unseen(case: Case, spec: Offer) -> str | None:
    if case.workload.images and "vision_config" not in spec.sizes[case.size]:
        return f"workload '{case.workload.name}' shows images and {case.model} reads text only"
    return None


def needed_bytes(case: Case, weights_bytes: WeightsBytes) -> int:
    """The least that a device must hold for a case: one copy of its weights; tiny ones count for none."""
    return 0 if case.size == "tiny" else weights_bytes(case.model, case.size, case.workload.dtype, case.weights)


def proof_bytes(case: Case, weights_bytes: WeightsBytes) -> int:
    """The most of weights that a proof holds: the reference's and ours where the two share none, in the float32 that
    shows the maths; tiny ones count for none."""
    return 0 if case.size == "tiny" else 2 * weights_bytes(case.model, case.size, "float32", case.weights)


def _too_large(case: Case, place: HardwareTarget, weights_bytes: WeightsBytes) -> str | None:
    needed = needed_bytes(case, weights_bytes)
    if place.memory_bytes is None or needed <= place.memory_bytes:
        return None
    return (
        f"{case.model}/{case.size} holds {needed / 2**30:.0f} GiB of weights and one device of {place.name} has "
        f"{place.memory_bytes / 2**30:.0f} GiB"
    )


def _notes(case: Case, place: HardwareTarget, chosen: stack.Stack) -> tuple[str, ...]:
    notes = [place.note] if place.note else []
    if chosen.left_out:
        notes.append(f"{case.model} on {place.name}: `full` leaves out {', '.join(chosen.left_out)}")
    return tuple(notes)
