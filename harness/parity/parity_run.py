"""The reference and the candidate side by side in one dtype, judged level by level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harness.build import builder, inputs
from harness.build.dtypes import dtype_name
from harness.build.quantized_reference import lossy
from harness.build.ranks import earliest
from harness.build.reference_integrity import ReferenceIntegrity
from harness.parity.kernels.launch_counts import watched
from harness.parity.levels.checkpoint_roundtrip import check_reading
from harness.parity.levels.ends import Streams, check_ends
from harness.parity.levels.free_running import free_running
from harness.parity.levels.generation import Generated, ReferenceText, check_generation, forced
from harness.parity.levels.layer import check_layer, check_layers, localize
from harness.parity.levels.logits import Reference, close, judge_logits
from harness.parity.levels.quantization_loss import check_rounding, judge_loss
from harness.parity.levels.reference import check_unchanged
from harness.parity.levels.rotary import check_rotary
from harness.parity.levels.vision_tower import check_language, check_vision
from harness.parity.paths.call_orders import STREAM_TOKENS, WALKS, check_orders
from harness.parity.paths.execution_paths import check_paths
from harness.parity.paths.graph_replay import check_again
from harness.parity.paths.prefix_cache import check_prefixes
from harness.parity.reference.oracle import Known, Oracle
from harness.parity.reference.routing import Routes, check_router, judge_flips, our_choices
from harness.parity.tolerance.rules import worst
from harness.records.checks import Check, Divergence, Drift
from harness.records.proof_size import ProofSize
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import prefix_lm, vision_lm

ONE_TOKEN = "one token a row"
"""In the name of a check of layers that are judged on the last tokens of a prompt."""
FP32_ROWS = 2
"""A fault that mixes rows needs another one to show."""
FP32_STEPS = 4
"""Tokens at the end of the fp32 prompt, at most, that are also decoded one by one."""


class ParityRun:
    """The reference and the candidate side by side, in one dtype. The oracle answers once, so that another `model` may
    take the candidate's place and be judged alike. Levels come one at a time, cheapest first. Where several ranks hold
    the model each must go through all of them: one that stopped early would be waited for."""

    def __init__(
        self, config: builder.BuildConfig, proof_size: ProofSize, started: Mapping[str, str] | None = None
    ) -> None:
        self.config, self.proof_size = config, proof_size
        self.spec, self.source, self.stack, self.target = config.spec, config.source, config.stack, config.target
        self.oracle = Oracle(config, proof_size)
        self.plain = self.oracle.plain
        self.integrity = ReferenceIntegrity(self.oracle.unrounded.module, self.plain.module, started)
        built = builder.candidate(config, self.oracle.unrounded.module, self.integrity.look)
        self.model, self.receipts = built.model, built.receipts
        self.divergence: Divergence | None = None
        self.lonely = False
        """Whether the other run has one row, whose neighbors' pages it could not mistake for its own."""

    @classmethod
    def fp32(
        cls, config: builder.BuildConfig, proof_size: ProofSize, started: Mapping[str, str] | None = None
    ) -> ParityRun:
        """The run that proves the maths, on few tokens of rows that have company."""
        small = ProofSize(FP32_ROWS, min(64, proof_size.prompt_tokens))
        run = cls(replace(config, target=replace(config.target, dtype=torch.float32)), small, started)
        run.lonely = proof_size.batch == 1
        return run

    def in_fp32(self) -> Iterator[list[Check]]:
        """The maths itself: layers teacher-forced, and logits to 1e-5 (deep models: 3 times their own fp32 noise), of
        whole prompts and of single steps."""
        known = self.oracle.single
        yield self._held()
        yield self._seen(known.inputs)
        yield self._turns(known.inputs)
        yield self._layers(known.inputs)
        yield self._ends(known.inputs)
        yield [*self._language(known.inputs), self._logits(known), self._moves(known.inputs, known.plain)]
        end = self._end(known)
        with our_choices(self.model, self.spec.routing, known.routes):
            yield [self._steps(end)]
            if self.lonely and "prefix_cache" in self.config.provides:
                yield check_prefixes(prefix_lm(self.model), end)
        yield check_unchanged(self.integrity)

    def in_target(self) -> Iterator[list[Check]]:
        """Layers, logits, generation, paths; then that everything which the stack put in place has run, what a lossy
        stack costs, and that a checkpoint is read as it was written."""
        launched = self.target.kernels != "none"
        counted = {name: self.spec.menu[name].kernels for name in self.stack if launched}
        with watched(self.model, self.receipts, counted, self.target.dtype) as ran:
            prompt = self.oracle.prompt("target")
            yield self._held()
            yield self._seen(prompt)
            yield self._turns(prompt)
            yield from self._whole(prompt)
            yield self._again()
            yield self._orders()
            known = self.oracle.whole
            yield [*self._flips(known.inputs, known.routes), *ran.checks()]
        yield self._loss()
        yield self._read()
        yield check_unchanged(self.integrity)

    def _whole(self, prompt: ModelInputs) -> Iterator[list[Check]]:
        """Layers, also on one token a row and on the longest text, both ends, logits, generation, paths."""
        yield self._layers(prompt)
        yield self._layers(prompt.last_tokens())
        yield self._ends(prompt)
        known, generated = self.oracle.whole, self.oracle.generated
        yield self._longest(known.inputs)
        with our_choices(self.model, self.spec.routing, known.routes):
            yield from self._free(known, generated)

    def drift(self) -> Drift | None:
        """The free-running trace; of one process, for others would have to be asked for it together."""
        return None if self.target.world > 1 else free_running(self.model, self.plain, self.oracle.prompt("target"))

    def _logits(self, known: Known) -> Check:
        with our_choices(self.model, self.spec.routing, known.routes):
            ours = self._ours(known.inputs)
        batch, tokens = known.inputs.tokens.shape
        return close(ours, known.plain, known.upcast, "logits", "logits float32", f"{batch} x {tokens} tokens")

    @staticmethod
    def _end(known: Known) -> ReferenceText:
        start = _end_of_text(known.inputs, FP32_STEPS)
        last = known.plain[:, start - 1 : -1]
        return ReferenceText(Generated(known.inputs, last, start), known.upcast, known.plain, last)

    def _steps(self, end: ReferenceText) -> Check:
        """Decoded one by one, the end of the prompt has the logits that it has as a whole."""
        ours = forced(self.model, end.generated, self.model.decode)
        name = f"{len(ours)} x {end.generated.new_tokens} tokens, one by one"
        return close(ours, end.decoded.plain, end.decoded.upcast, "logits", "logits float32", name)

    def _free(self, known: Known, generated: Generated) -> Iterator[list[Check]]:
        # While it generated, a model with experts went its own way; what is replayed is compared with what is replayed.
        replayed = known.plain[:, generated.prompt_tokens - 1 : -1]
        stepwise = replayed if self.spec.routing else generated.logits
        text = ReferenceText(generated, known.upcast, known.plain, stepwise)
        ours = self._ours(known.inputs)
        checks = judge_logits(ours, text.whole, "logits", f"logits {dtype_name(self.target.dtype)}")
        yield [*checks, _rejects(ours, text.whole)]
        yield check_generation(forced(self.model, generated, self.model.decode), text, self.source.text)
        yield self._paths(text)

    def _paths(self, text: ReferenceText) -> list[Check]:
        return check_paths(self.model, self.config, text)

    def _again(self) -> list[Check]:
        """Of a build that keeps something of a prompt for its like."""
        if "captured_prompt" not in self.config.provides:
            return []
        known = self.oracle.words
        with our_choices(self.model, self.spec.routing, known.routes):
            return check_again(
                self.model, self.config.provides, known.inputs.tokens, Reference(known.upcast, known.plain)
            )

    def _orders(self) -> list[Check]:
        """Calls in orders that no single path has."""
        streams = self.oracle.streams(STREAM_TOKENS[self.target.device.type])
        asked = (self.model, self.config.provides, streams, self.oracle.answers, self.spec.routing)
        return check_orders(*asked, self.source.seed, WALKS[self.target.kernels])

    def _loss(self) -> list[Check]:
        """What a lossy stack costs, on text that the unrounded model says itself."""
        if self.source.directory is None or not lossy(self.spec, self.stack):
            return []
        text, theirs = self.oracle.text
        start = self.proof_size.prompt_tokens
        ours, said = self._ours(text)[:, start - 1 : -1], text.tokens[:, start:]
        return judge_loss(self.spec, self.stack, ours, theirs, said, self.source.seed)

    def _read(self) -> list[Check]:
        """Ranks read by the same code: one judges it."""
        return [] if self.target.rank else [check_reading(self.spec, self.source.seed, self.target.dtype)]

    def _ours(self, prompt: ModelInputs) -> Tensor:
        return self.model(prompt.tokens, inputs.prepared(self.model, prompt, prompt.tokens.shape[1]))

    def _seen(self, prompt: ModelInputs) -> list[Check]:
        """The stages before the decoder layers; none for a model of text alone."""
        vision = self.spec.vision
        if vision is None:
            return []
        parts = vision.parts(self.source.config)
        checks = check_vision(vision_lm(self.model), self.plain, vision, parts, prompt, self.oracle.sights())
        self.divergence = self.divergence or first_broken(checks)
        return checks

    def _held(self) -> list[Check]:
        """Where the stack rounds weights: those that it is judged with."""
        checks = check_rounding(self.spec, self.oracle.unrounded.module, self.plain.module, self.stack)
        self.divergence = self.divergence or first_broken(checks)
        return checks

    def _turns(self, prompt: ModelInputs) -> list[Check]:
        checks = [check_rotary(self.model, self.plain, prompt, self.source.seed)]
        self.divergence = self.divergence or first_broken(checks)
        return checks

    def _language(self, prompt: ModelInputs) -> list[Check]:
        """The language model by itself, where there is more to the model."""
        if self.spec.vision is None:
            return []
        checks = [check_language(vision_lm(self.model), self.plain, prompt)]
        self.divergence = self.divergence or first_broken(checks)
        return checks

    def _flips(self, prompt: ModelInputs, upcast: Routes) -> list[Check]:
        if self.spec.routing is None:
            return []
        ours, plain = Routes(), Routes()
        self.plain.logits(prompt, made=plain)
        with our_choices(self.model, self.spec.routing, None, ours.layers.__setitem__):
            self._ours(prompt)
        return [judge_flips(ours, plain, upcast)]

    def _layers(self, prompt: ModelInputs) -> list[Check]:
        """One token a row goes the way of a decode step: what is wrong there is named by its layer, too."""
        hidden = self.oracle.layer_inputs(prompt)
        name = f"residual delta {dtype_name(self.target.dtype)}"
        if prompt.tokens.shape[1] == 1:
            name = f"{name}, {ONE_TOKEN}"
        layers = check_layers(self.model, self.plain, prompt, hidden, name)
        checks = [check for layer in layers for check in layer]
        broken = next((i for i, layer in enumerate(layers) for c in layer if not c.passed), None)
        index = earliest(self.target, broken)
        if index is None:
            return checks
        found = localize(self.model, self.plain, self.spec, index, prompt, hidden[index])
        check = next((c for c in layers[index] if not c.passed), None)
        if found is not None or check is None:
            self.divergence = self.divergence or found
            return checks
        whole = check is layers[index][-1]
        stage, op = ("layer output", "residual add") if whole else ("router", "router")
        self.divergence = self.divergence or Divergence.of(check, index, stage, op)
        return checks

    def _ends(self, prompt: ModelInputs) -> list[Check]:
        hidden = self.oracle.layer_inputs(prompt)
        checks = check_ends(self.model, self.plain, prompt, Streams(hidden[0], hidden[-1]), self.config.provides)
        self.divergence = self.divergence or first_broken(checks)
        return checks

    def _longest(self, prompt: ModelInputs) -> list[Check]:
        """The last layer alone on the longest sequence, and its router by itself: so many tokens may take another way
        through them."""
        index, tokens = len(self.plain) - 1, prompt.tokens.numel()
        hidden = self.oracle.layer_inputs(prompt)[index]
        name = f"residual delta {dtype_name(self.target.dtype)}, {tokens} tokens"
        checks = check_layer(self.model, self.plain, index, prompt, hidden, name)
        routed = self.oracle.router_input(index, prompt, hidden)
        if routed is not None and self.spec.routing is not None:
            checks += check_router(self.model, routed[0], self.spec.routing, index, routed[1])
        return checks

    def _moves(self, prompt: ModelInputs, theirs: Tensor) -> Check:
        """The reference must react to its input, or agreeing with it says nothing. Images keep their places."""
        text = ~prompt.shows()
        tokens = prompt.tokens.clone()
        tokens[text] = tokens[text].flip(0)
        other = self.plain.logits(prompt.continued(tokens))
        return _sensitivity("reference", "reversed prompt", int(torch.equal(other, theirs)), "")


def _rejects(ours: Tensor, reference: Reference) -> Check:
    """An all-zeros and a shuffled answer must be refused by the very rules that passed the candidate."""
    fakes = {"zeros": torch.zeros_like(ours), "shuffled": ours.roll(1, dims=-1)}
    accepted = [n for n, fake in fakes.items() if worst(judge_logits(fake, reference, "logits", n)).passed]
    return _sensitivity("gate", "zeros and shuffled logits", len(accepted), ", ".join(accepted))


def _sensitivity(subject: str, name: str, unmoved: int, where: str) -> Check:
    return Check(
        level="logits", subject=subject, name=name, rule="sensitivity", error=unmoved, noise=0, limit=0, where=where
    )


def first_broken(checks: Sequence[Check]) -> Divergence | None:
    """The divergence that the first failing check stands for; None where all pass."""
    broken = next((check for check in checks if not check.passed), None)
    return Divergence.of(broken) if broken else None


def _end_of_text(inputs: ModelInputs, most: int) -> int:
    """Where the last tokens of all rows begin, at most `most` and behind every image: a cache is told of whole ones."""
    images = inputs.shows().any(0).nonzero()
    behind = int(images[-1]) + 1 if len(images) else 0
    return max(behind, inputs.tokens.shape[1] - most)
