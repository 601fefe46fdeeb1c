"""The two builds side by side on trained-like weights, where faults show that flat random ones hide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from harness.build import builder
from harness.parity.levels.generation import ReferenceText
from harness.parity.levels.reference import check_unchanged
from harness.parity.parity_run import ParityRun
from harness.parity.paths.execution_paths import base_paths
from harness.parity.reference.routing import our_choices
from harness.records.checks import Check
from harness.records.proof_size import ProofSize
from harness.records.weight_recipe import WeightRecipe

PROMPT_TOKENS, NEW_TOKENS = 48, 16
"""Prompt tokens of a row, at least: few keys leave nothing to ignore. New tokens, at most: all of them are decoded with
random weights."""


class TrainedLikeRun(ParityRun):
    """On the levels where weights matter: layers, logits, generation, and the paths that every build has."""

    def __init__(
        self, config: builder.BuildConfig, proof_size: ProofSize, started: Mapping[str, str] | None = None
    ) -> None:
        source = replace(config.source, recipe="trained_like")
        prompt, new = max(PROMPT_TOKENS, proof_size.prompt_tokens), min(NEW_TOKENS, proof_size.new_tokens)
        super().__init__(replace(config, source=source), ProofSize(proof_size.batch, prompt, new), started)

    def in_fp32(self) -> Iterator[list[Check]]:
        """Layers teacher-forced, and logits, of whole prompts and of single steps."""
        known = self.oracle.single
        yield self._layers(known.inputs)
        yield self._ends(known.inputs)
        yield [self._logits(known)]
        with our_choices(self.model, self.spec.routing, known.routes):
            yield [self._steps(self._end(known))]
        yield check_unchanged(self.integrity)

    def in_target(self) -> Iterator[list[Check]]:
        """What `_whole` goes through, and whether the reference is what it was."""
        yield from self._whole(self.oracle.prompt("target"))
        yield check_unchanged(self.integrity)

    def _paths(self, text: ReferenceText) -> list[Check]:
        return base_paths(self.model, text, NEW_TOKENS)


RUNS: Mapping[WeightRecipe, type[ParityRun]] = {"random": ParityRun, "trained_like": TrainedLikeRun}
"""What judges a build with weights of each recipe."""
