"""What the error of a rule is an error of."""

from __future__ import annotations

import pytest

from harness.records.error_units import describe


@pytest.mark.parametrize(
    ("rule", "error", "limit", "said"),
    [
        ("exact", 4093.0, 0.0, "4,093 elements with other bits"),
        ("exact", 1.0, 0.0, "1 element with other bits"),
        ("top-1", 26.0, 0.0, "26 tokens with another first choice and no near-tie"),
        ("top-1", 0.02, 0.01, "share 0.02 of tokens with another first choice"),
        ("count", 16.0, 0.0, "16 wrong"),
        ("rms", 0.07908, 4.96e-7, "RMS error 0.0791"),
        ("rms", 1e-9, 0.0, "RMS error 1e-09"),
        ("of a plugin", 3.0, 2.0, "error 3"),
    ],
)
def test_an_error_is_told_with_its_unit(rule: str, error: float, limit: float, said: str) -> None:
    assert describe(rule, error, limit) == said
