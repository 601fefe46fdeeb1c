"""What the error of a rule counts or measures, in words: a number alone does not tell tokens from elements."""

from __future__ import annotations

COUNTED = {
    "structure": "difference{s} of shape, type, device or name",
    "exact": "element{s} with other bits",
    "count": "wrong",
    "unchanged": "change{s} by the candidate",
    "mask": "element{s} NaN or infinite on one side alone",
    "finite": "logit{s} not finite",
    "top-1": "token{s} with another first choice and no near-tie",
    "tokens": "step{s} with another token and no near-tie",
    "routing": "token{s} with other experts and no near-tie",
    "never ran": "never run",
    "inputs": "element{s} of an input written without leave",
    "out-of-bounds write": "element{s} written beside a tensor",
    "out-of-bounds read": "element{s} changed by what lies beside an input",
    "halo write": "element{s} written beside a tensor",
    "halo read": "element{s} changed by what lies beside an input",
    "input kinds": "kind{s} of inputs not judged",
    "determinism": "element{s} changed between equal calls",
    "memory": "output{s} in memory of something else, or laid out in another way",
    "batch": "element{s} changed by other rows",
    "sensitivity": "change{s} without effect",
    "reference": "output{s} without a float64 reference",
}
"""Of rules that allow none: what they count, `{s}` where its plural has one. `count` counts what its check names.
Records made before December 2026 say `halo` for out of bounds."""
MEASURED = {
    "max": "largest error {}",
    "rms": "RMS error {}",
    "slices": "RMS error {} of a slice",
    "gain": "error of the scale {}",
    "bias": "mean error {} of the RMS",
    "rounding bias": "mean signed error {} of a unit in the last place",
    "budget": "{} times what sums in float32 leave",
    "worst token": "RMS error {} of a token",
    "mean KL": "mean KL {} nats",
    "top-1": "share {} of tokens with another first choice",
    "flip rate": "share {} of choices with another expert",
    "relative Frobenius": "relative error {}",
    "angle": "error {} in units of rounding",
    "nearest code": "{} times the distance to the nearest code",
}


def describe(rule: str, error: float, limit: float) -> str:
    """`16 elements with other bits`, `RMS error 0.0791`; `error 3` of a rule that is not known here."""
    if limit == 0 and rule in COUNTED:
        return f"{error:,.0f} {COUNTED[rule].format(s='' if error == 1 else 's')}"
    return MEASURED.get(rule, "error {}").format(f"{error:.3g}")
