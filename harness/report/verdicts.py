"""The banner: one word and one sentence for a case, and for a run the worst of its cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.analysis.compare.agreement import PROCESSES
from harness.records.checks import Parity
from harness.records.record import FAILURES, Record
from harness.report import formats
from harness.report.cells import Banner, Tone

if TYPE_CHECKING:
    from harness.analysis.compare.arms import ArmComparison, PhaseComparison
    from harness.analysis.compare.verdict import Verdict

WORST_FIRST = ("REFUSED", "INVALID", "SLOWER", "INCONCLUSIVE", "PASSED", "PARITY ONLY")
TONES: dict[str, Tone] = {
    "REFUSED": "bad",
    "INVALID": "bad",
    "SLOWER": "bad",
    "INCONCLUSIVE": "open",
    "PASSED": "good",
    "PARITY ONLY": "quiet",
    "SKIPPED": "quiet",
}
VERDICT_WORDS: dict[Verdict, str] = {
    "invalid": "INVALID",
    "slower": "SLOWER",
    "inconclusive": "INCONCLUSIVE",
    "same": "PASSED",
    "faster": "PASSED",
}
ENDS = {
    "crashed": "crashed before a verdict",
    "out_of_memory": "ran out of memory",
    "killed": "was killed",
    "timed_out": "ran out of time",
}


def of_case(record: Record, phases: Sequence[PhaseComparison]) -> Banner:
    """The verdict on one record. Speed is judged against the strongest baseline that ran."""
    if record.status == "skipped":
        return _banner("SKIPPED", record.reason or "")
    if record.status == "lost":
        return _banner("REFUSED", f"lost: {record.reason}")
    if record.status == "failed" and record.parity:
        return _banner("REFUSED", f"parity fails at {_place(record.parity)}", *_remarks(record))
    if record.status in FAILURES and record.error:
        first_line = record.error.message.strip().split("\n")[0]
        return _banner("REFUSED", f"{ENDS[record.status]}: {record.error.kind}: {first_line}", *_remarks(record))
    if not phases:
        return _banner("PARITY ONLY", "parity proven; speed was not timed here", *_remarks(record))
    return _of_speed(record, phases)


def lost(reason: str) -> Banner:
    """Of a planned case without a record."""
    return _banner("REFUSED", f"lost: {reason}")


def of_run(cases: Sequence[tuple[str, Banner]], remarks: Sequence[str], best: str) -> Banner:
    """The worst word of all cases that were to run, each given as (label, banner).

    `best` tells the speed-ups of those that were timed; empty when none was.
    """
    if not cases:
        return _banner("REFUSED", "nothing was measured: every planned case was skipped", *remarks)
    if len(cases) == 1:
        banner = cases[0][1]
        return _banner(banner.word, banner.sentence, *banner.remarks, *remarks)
    word = min((banner.word for _, banner in cases), key=WORST_FIRST.index)
    shared = [(label, banner) for label, banner in cases if banner.word == word]
    label, first = shared[0]
    if word == "REFUSED":
        sentence = f"{len(shared)} of {len(cases)} cases did not pass. First {label}: {first.sentence}"
        return _banner(word, sentence, *remarks)
    proven = f"parity proven in {len(cases)} of {len(cases)} cases"
    if word == "PASSED":
        return _banner(word, f"{proven}, {best}", *remarks)
    if word == "PARITY ONLY":
        return _banner(word, f"{proven}; speed was not timed here", *remarks)
    return _banner(word, f"{proven}; {word.lower()} in {len(shared)}, first {label}: {first.sentence}", *remarks)


def strongest(phase: PhaseComparison) -> ArmComparison | None:
    return next((arm for arm in phase.against if arm.arm == phase.strongest), None)


def _banner(word: str, sentence: str, *remarks: str) -> Banner:
    return Banner(TONES[word], word, sentence, remarks)


def _of_speed(record: Record, phases: Sequence[PhaseComparison]) -> Banner:
    pairs = [(phase, arm) for phase in phases if (arm := strongest(phase)) is not None]
    alone = [phase.phase for phase in phases if strongest(phase) is None]
    words = [VERDICT_WORDS[arm.estimate.verdict] for _, arm in pairs] + ["INCONCLUSIVE"] * len(alone)
    sentences = [f"{' and '.join(alone)} had no baseline to be compared with"] if alone else []
    for verdict in VERDICT_WORDS:
        judged = [(phase, arm) for phase, arm in pairs if arm.estimate.verdict == verdict]
        if judged:
            sentences.insert(0, _speed_sentence(verdict, judged))
    remarks = [_baselines(pairs)] if pairs else []
    processes = len({series.process for series in record.series})
    if processes < PROCESSES:
        remarks.append(f"Timed in {formats.number_of(processes, 'process', 'processes')}: a first look, not a verdict.")
    word = min(words, key=WORST_FIRST.index)
    return _banner(word, f"parity proven, {'; '.join(sentences)}", *remarks, *_remarks(record))


def _baselines(pairs: Sequence[tuple[PhaseComparison, ArmComparison]]) -> str:
    labels = dict.fromkeys(arm.label for _, arm in pairs)
    if len(labels) == 1:
        return f"Strongest baseline: {', '.join(labels)}."
    return f"Strongest baseline: {'; '.join(f'{arm.label} in {phase.phase}' for phase, arm in pairs)}."


def _speed_sentence(verdict: Verdict, judged: Sequence[tuple[PhaseComparison, ArmComparison]]) -> str:
    ratios = " and ".join(f"{phase.phase} {formats.ratio(arm.estimate.speedup)}" for phase, arm in judged)
    names = " and ".join(phase.phase for phase, _ in judged)
    reasons = dict.fromkeys(reason for _, arm in judged for reason in arm.estimate.reasons)
    because = f" ({'; '.join(reasons)})" if reasons else ""
    return {
        "faster": f"{ratios} faster than the strongest baseline",
        "same": f"{ratios}, the same speed as the strongest baseline",
        "inconclusive": f"{ratios} against the strongest baseline is inconclusive{because}",
        "slower": f"{ratios} the speed of the strongest baseline",
        "invalid": f"{names} timing is invalid{because}",
    }[verdict]


def _place(parity: Parity) -> str:
    first = parity.first()
    return first.place() if first else "no check: nothing was judged"


def _remarks(record: Record) -> list[str]:
    remarks = []
    if record.parity and record.parity.not_judged:
        remarks.append(f"{formats.number_of(len(record.parity.not_judged), 'check')} could not be judged here.")
    if record.parity and record.parity.standing:
        kernels = formats.number_of(len({verdict.kernel for verdict in record.parity.standing}), "kernel")
        runs = ", ".join(dict.fromkeys(verdict.run for verdict in record.parity.standing))
        remarks.append(f"The verdict of {kernels} stands from {runs}: same sources, versions and device.")
    if record.provisional:
        remarks.append("Provisional: the source was not a clean commit, so this cannot be reproduced or signed off.")
    return remarks
