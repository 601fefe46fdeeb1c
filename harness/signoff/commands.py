"""The commands that supply what a sign-off lacks."""

from __future__ import annotations

import shlex

from harness.records.case import Case
from harness.signoff.policy import Policy


def command(case: Case) -> str:
    """Runs the case."""
    parts = [f"+model={case.model}", f"size={case.size}", *case.asked()]
    parts += [f"hardware={case.hardware}", f"workload={case.workload.name}"]
    parts += [f"weights={case.weights}"] if case.weights else []
    parts += ["recipe=random"] if case.recipe == "random" else []
    return shlex.join(("python", "-m", "harness", *parts))


def measuring(case: Case, policy: Policy) -> str:
    """Times the case as a sign-off asks for it."""
    return f"{command(case)} timing=signoff 'arm=[{','.join(policy.arms)}]'"


def planting(case: Case, in_stack: bool = False) -> str:
    """Plants faults in the model, or in what the case's own stack makes of it."""
    words = ["python", "-m", "harness", "faults", f"+model={case.model}", f"hardware={case.hardware}"]
    return shlex.join([*words, *(case.asked() if in_stack else ())])
