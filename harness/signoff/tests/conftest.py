"""The case that is decided on, and where it ran."""

from __future__ import annotations

import pytest

from harness.machine.environment import source_state
from harness.machine.installation import ROOT
from harness.signoff.tests.made import planned


@pytest.fixture
def environment(environment):
    """At a commit that exists, where there is a checkout."""
    commit, _ = source_state(ROOT)
    return environment.model_copy(update={"commit": commit or "0" * 40})


@pytest.fixture(scope="module")
def case():
    return planned()
