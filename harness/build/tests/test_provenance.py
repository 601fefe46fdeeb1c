"""What a record says of its caches and of the versions that its sources are judged with."""

import hashlib
from types import SimpleNamespace

import pytest

from harness.build import provenance
from harness.build.provenance import FRESH, LOCK


@pytest.fixture
def made():
    return lambda: provenance.provenance(SimpleNamespace(name="toy"), SimpleNamespace(config={"layers": 2}))


def test_caches_are_fresh_only_by_the_word_of_the_engine(made, monkeypatch):
    monkeypatch.setenv(FRESH, "1")
    assert made().fresh_caches
    monkeypatch.delenv(FRESH)
    assert not made().fresh_caches, "and a sign-off refuses it: harness/signoff/tests/refusals.md"


def test_the_lock_file_is_named_by_its_hash(made, monkeypatch, tmp_path):
    assert made().lock == hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    monkeypatch.setattr(provenance, "LOCK", tmp_path / "absent")
    assert made().lock == ""
