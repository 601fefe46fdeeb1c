"""What explains a number: what each arm cost to get ready, how the machine behaved, and what it was."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from statistics import median
from typing import get_args

from harness.records.record import ArmReport, Block, Environment, Phase, Record
from harness.report import formats
from harness.report.cells import Cell, Fact, Table, columns, row
from harness.report.speed import arm_labels


def arms_table(record: Record) -> Table:
    """Getting ready, apart from running: medians over the processes, memory the largest of them.

    `Peak memory` is the allocator's, `On the device` what NVML saw the whole GPU take more.
    """
    names = columns(
        "Arm",
        "Load#",
        "Compile#",
        "Capture#",
        "Peak memory#",
        "On the device#",
        "Energy per token#",
        "Kernels per layer#",
        "Checked again after timing",
    )
    by_name = {name: [arm for arm in record.arms if arm.name == name] for name in arm_labels(record)}
    labels = arm_labels(record)
    rows = tuple(_arm_row(labels[name], reports) for name, reports in by_name.items() if reports)
    return Table("What each arm cost", names, rows)


def telemetry_table(record: Record) -> Table:
    """The machine around the blocks of each phase and process."""
    names = columns(
        "Phase",
        "Process#",
        "Blocks#",
        "Dropped#",
        "SM clock#",
        "Temperature#",
        "Power#",
        "Sentinel#",
        "Events against wall clock#",
    )
    rows = tuple(
        _telemetry_row(phase, process, blocks)
        for phase in get_args(Phase)
        for process in sorted({block.process for block in record.blocks})
        if (blocks := [block for block in record.blocks if (block.phase, block.process) == (phase, process)])
    )
    return Table("The machine while timing", names, rows)


def disturbances(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Why blocks were dropped and what else ran on the GPU; empty when nothing disturbed."""
    reasons = dict.fromkeys(reason for block in blocks for reason in block.throttle)
    found = [
        f"{formats.number_of(sum(reason in block.throttle for block in blocks), 'block')} dropped: {reason}"
        for reason in reasons
    ]
    foreign = max((block.foreign_processes for block in blocks), default=0)
    if foreign:
        found.append(f"{formats.number_of(foreign, 'foreign process', 'foreign processes')} on the GPU")
    return tuple(found)


def environment_facts(environment: Environment) -> tuple[Fact, ...]:
    """Everything that could explain a difference; what the machine did not tell is left out."""
    tree = f"modified, diff {environment.diff_hash or 'unknown'}" if environment.dirty else "clean"
    known = [
        Fact("Commit", environment.commit, code=True),
        Fact("Source tree", tree),
        Fact("Fingerprint", environment.fingerprint(), code=True),
        Fact("CPU", f"{environment.cpu}, {formats.number_of(environment.cpu_cores, 'core')}"),
        Fact("Memory", formats.memory(environment.memory_bytes)),
        Fact("GPU", _gpu(environment)),
        Fact("Platform", environment.platform),
        Fact("Python", environment.python),
    ]
    return (*known, *(Fact(name, version) for name, version in sorted(environment.packages.items())))


def command(environment: Environment) -> str:
    """As it would be typed into a shell."""
    return shlex.join(environment.command)


def _gpu(environment: Environment) -> str:
    if environment.gpu is None:
        return "none"
    parts = [f"{environment.gpu_count} × {environment.gpu}"]
    if environment.gpu_memory_bytes:
        parts.append(formats.memory(environment.gpu_memory_bytes))
    if environment.driver:
        parts.append(f"driver {environment.driver}")
    if environment.cuda:
        parts.append(f"CUDA {environment.cuda}")
    if environment.power_limit_w:
        parts.append(f"power limit {formats.significant(environment.power_limit_w)} W")
    switches = (("ECC", environment.ecc), ("MIG", environment.mig))
    parts += [f"{name} {'on' if state else 'off'}" for name, state in switches if state is not None]
    return ", ".join(parts)


def _arm_row(label: str, reports: Sequence[ArmReport]) -> tuple[Cell, ...]:
    ran = [report for report in reports if report.absent is None]
    if not ran:
        return row(label, *[formats.NONE] * 7, Cell("absent", reports[0].absent or "", "quiet"))
    energy = [report.energy_j_per_token for report in ran if report.energy_j_per_token is not None]
    peak_bytes = max(report.peak_memory_bytes for report in ran)
    device_bytes = [report.device_memory_bytes for report in ran if report.device_memory_bytes is not None]
    kernels = [report.decode_kernels_per_layer for report in ran if report.decode_kernels_per_layer is not None]
    checked = sum(report.rechecked for report in ran)
    return row(
        Cell(label, f"{formats.number_of(len(ran), 'process', 'processes')}"),
        formats.seconds(median(report.load_s for report in ran)),
        formats.seconds(median(report.compile_s for report in ran)),
        formats.seconds(median(report.capture_s for report in ran)),
        formats.memory(peak_bytes) if peak_bytes else formats.NONE,
        formats.memory(max(device_bytes)) if device_bytes else formats.NONE,
        f"{formats.significant(median(energy))} J" if energy else formats.NONE,
        formats.significant(max(kernels)) if kernels else formats.NONE,
        Cell(f"{checked} of {len(ran)}", tone="good" if checked == len(ran) else "open"),
    )


def _telemetry_row(phase: str, process: int, blocks: Sequence[Block]) -> tuple[Cell, ...]:
    dropped = sum(block.dropped for block in blocks)
    sentinel = [block.sentinel_ms for block in blocks if block.sentinel_ms is not None]
    return row(
        phase,
        str(process),
        f"{len(blocks):,}",
        f"{dropped:,}",
        formats.span([block.sm_clock_mhz for block in blocks if block.sm_clock_mhz is not None], "MHz"),
        formats.span([block.temperature_c for block in blocks if block.temperature_c is not None], "°C"),
        formats.span([block.power_w for block in blocks if block.power_w is not None], "W"),
        _sentinel(sentinel),
        formats.percent(max(block.wall_disagreement for block in blocks)),
    )


def _sentinel(samples: Sequence[float]) -> str:
    """Its median and its whole spread: a fixed piece of work, so what moves it is the machine."""
    if not samples:
        return formats.NONE
    middle = median(samples)
    return f"{formats.milliseconds(middle)} ± {formats.percent((max(samples) - min(samples)) / 2 / middle)}"
