"""A reused prefix gives what computing it gives, and the gate sees every way in which it might not."""

from collections.abc import Callable

import pytest
import torch

from harness.build import builder, inputs
from harness.parity.levels.generation import Generated, ReferenceText, generate
from harness.parity.paths.prefix_cache import check_prefixes
from harness.parity.reference.reference_model import ReferenceModel
from harness.spec.optimization import Target
from models.common.cache import prefixes
from models.common.cache.prefix_tree import PrefixTree
from models.common.cache.prefixes import Prefixes, SharedCache
from models.qwen3_4b_instruct_2507 import SPEC

CPU = torch.device("cpu")
SOURCE = builder.Source.of(SPEC, "tiny", seed=3, weights=None)


@pytest.fixture(scope="module")
def judged() -> Callable[[], list[str]]:
    """What the prefix paths find wrong."""
    with torch.no_grad():
        hf = builder.reference(SPEC, SOURCE, torch.bfloat16, CPU)
        plain = ReferenceModel(hf)
        prompt = inputs.draw(SPEC, SOURCE.config, 24, [0, 0], seed=3, purpose="prefix")
        generated: Generated = generate(plain, prompt, 16)
        (upcast, _), theirs = plain.wide_logits(generated.inputs), plain.logits(generated.inputs)
        stack = ("kv_cache", "prefix_caching", "linear")
        model, _ = builder.candidate(builder.BuildConfig(SPEC, SOURCE, stack, Target(CPU, torch.bfloat16, "none")), hf)

    @torch.no_grad()
    def run() -> list[str]:
        checks = check_prefixes(model, ReferenceText(generated, upcast, theirs, generated.logits))
        return [f"{c.subject}: {c.rule} {c.where}" for c in checks if not c.passed]

    return run


def test_every_path_through_prefixes_holds(judged: Callable[[], list[str]]) -> None:
    assert judged() == []


def unguarded_collision(monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of one depth have the same key, and keys are believed."""

    def believed(self: PrefixTree, parent: object, symbols: object) -> object:
        return next(iter(parent.children), None)  # type: ignore[attr-defined]

    monkeypatch.setattr(PrefixTree, "_child", believed)


def offset_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slot more is believed to be filled than is; its token is never computed."""
    lease = PrefixTree.open

    def longer(self: PrefixTree, rows: list[list[int]], columns: int) -> object:
        leases, matched = lease(self, rows, columns)
        return leases, min(matched + 1, len(rows[0]) - 1) if matched else 0

    monkeypatch.setattr(PrefixTree, "open", longer)


def positions_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the prompt goes to the first slots, as if nothing had been reused."""
    begin = SharedCache.begin

    def forgetful(self: SharedCache, *state: object) -> None:
        begin(self, *state)  # type: ignore[arg-type]
        self.matched = 0
        self.rewind(0)

    monkeypatch.setattr(SharedCache, "begin", forgetful)


def tail_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prefixes, "_copy_tails", lambda self, leases: None)


def tail_written_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row goes on in the page that others read."""
    begin = SharedCache.begin

    def greedy(self: SharedCache, leases: list, symbols: object, matched: int, left_padding: object) -> None:
        begin(self, leases, symbols, matched, left_padding)  # type: ignore[arg-type]
        for row, lease in enumerate(leases):
            if lease.copied is not None:
                self.block_table[row, len(lease.shared)] = lease.copied

    monkeypatch.setattr(SharedCache, "begin", greedy)


def held_pages_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """References are not counted: a page may be taken while it is read."""
    monkeypatch.setattr(PrefixTree, "_hold", lambda self, nodes: None)
    monkeypatch.setattr(PrefixTree, "_release", lambda self, nodes: None)


MUTANTS = (
    unguarded_collision,
    offset_by_one,
    positions_from_zero,
    tail_not_copied,
    tail_written_in_place,
    held_pages_evicted,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_gate_kills(
    mutant: Callable[[pytest.MonkeyPatch], None], judged: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    assert judged() != []


def padding_unmasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing says that slots before a row's beginning are to be hidden."""
    monkeypatch.setattr(SharedCache, "padded", property(lambda self: False, lambda self, value: None), raising=False)


def padding_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache keeps the padding that it was first opened with."""
    begin = SharedCache.begin

    def faulty(self: SharedCache, *state: object) -> None:
        first = self.left_padding.clone() if self.symbols else None
        begin(self, *state)  # type: ignore[arg-type]
        if first is not None:
            self.left_padding.copy_(first)

    monkeypatch.setattr(SharedCache, "begin", faulty)


def padding_taken_for_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "PADDING", 0)


PADDING = {
    padding_unmasked: {"left-padded prompt", "left-padded prefix hit"},
    padding_of_those_before: {"prompt where a padded one was"},
    padding_taken_for_text: {"text like padding"},
}


@pytest.mark.parametrize("mutant", PADDING, ids=lambda mutant: mutant.__name__)
def test_padding_that_is_mistaken_is_refused_by_name(
    mutant: Callable[[pytest.MonkeyPatch], None], judged: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    assert {found.partition(":")[0] for found in judged()} == PADDING[mutant]
