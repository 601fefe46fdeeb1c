"""What the reference says, computed once for every build that is judged by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from harness.build import builder, inputs
from harness.build.quantized_reference import rounded
from harness.build.ranks import shared
from harness.build.recipes.weight_recipes import begun
from harness.parity.levels.generation import Generated, generate
from harness.parity.levels.quantization_loss import LOSS_ROWS, LOSS_TOKENS
from harness.parity.paths.call_orders import STREAMS, Answers
from harness.parity.paths.call_plan import common_length
from harness.parity.reference.reference_model import ReferenceModel
from harness.parity.reference.routing import Routes
from harness.records.proof_size import ProofSize
from harness.spec.model_inputs import ModelInputs

IMAGES = {"fp32": 1, "target": 2, "again": 0, "loss": 0}
"""Most images that a row of a prompt shows, by what the prompt is for."""
TOWER_TOKENS, TOWER_IMAGES = 104, 3
"""Of what the tower is judged on, at least: the largest image fills more than a kernel's largest block of patches, and
stands between others."""


@dataclass(frozen=True)
class Known:
    """What the reference says to tokens [B, T]: logits [B, T, vocab] in the wide type, the experts it chose then, and
    the plain model's logits with those experts."""

    inputs: ModelInputs
    upcast: Tensor
    routes: Routes
    plain: Tensor


class Oracle:
    """The Hugging Face model in one dtype, with the weights that the stack holds (`plain`) and with those it came with
    (`unrounded`). Where several ranks hold the candidate all are told what rank 0 found."""

    def __init__(self, config: builder.BuildConfig, proof_size: ProofSize) -> None:
        spec, source, stack, target = config.spec, config.source, config.stack, config.target
        self.spec, self.source, self.target, self.proof_size = spec, source, target, proof_size
        hf = builder.reference(spec, source, target.dtype, target.device)
        self.unrounded, self.plain = (
            ReferenceModel(model, spec.routing, spec.decoder, spec.vision) for model in (hf, rounded(spec, hf, stack))
        )

    def prompt(self, purpose: str, rows: int | None = None) -> ModelInputs:
        """Prompts of as many images as `purpose` allows, one less in each next row, down to none and from there
        again."""
        most, batch = IMAGES[purpose], self.proof_size.batch if rows is None else rows
        shown = [(most - row) % (most + 1) for row in range(batch)]
        tokens, source = self.proof_size.prompt_tokens, self.source
        drawn = inputs.draw(self.spec, source.config, tokens, shown, source.seed, purpose, source.text, source.pictures)
        return begun(drawn, source.recipe).to(self.target.device, self.target.dtype)

    def sights(self) -> ModelInputs:
        """One row whose images the tower is judged on."""
        tokens = max(TOWER_TOKENS, self.proof_size.prompt_tokens)
        seed, pictures = self.source.seed, self.source.pictures
        drawn = inputs.draw(self.spec, self.source.config, tokens, [TOWER_IMAGES], seed, "tower", pictures=pictures)
        return drawn.to(self.target.device, self.target.dtype)

    def layer_inputs(self, prompt: ModelInputs) -> list[Tensor]:
        """The plain model's own input [B, T, H] to every layer, and to the final norm."""
        return [self._told(stream) for stream in self.plain.layer_inputs(prompt)]

    def router_input(self, index: int, prompt: ModelInputs, hidden: Tensor) -> tuple[torch.nn.Module, Tensor] | None:
        """As Plain.router_input."""
        routed = self.plain.router_input(index, prompt, hidden)
        return None if routed is None else (routed[0], self._told(routed[1]))

    @cached_property
    def single(self) -> Known:
        """Of the prompt that proves the maths."""
        return self._know(self.prompt("fp32"))

    @cached_property
    def generated(self) -> Generated:
        """What the plain model goes on with."""
        return self._generate(self.plain, self.prompt("target"), self.proof_size.new_tokens)

    @cached_property
    def whole(self) -> Known:
        """Of a prompt and what was generated behind it."""
        return self._know(self.generated.inputs)

    @cached_property
    def words(self) -> Known:
        """Of a prompt without images: what a model sees is never replayed."""
        return self.whole if self.spec.vision is None else self._know(self.prompt("again"))

    @cached_property
    def text(self) -> tuple[ModelInputs, Tensor]:
        """What the unrounded model says itself, and its logits [rows, LOSS_TOKENS, vocab] before each new token."""
        text = self._generate(self.unrounded, self.prompt("loss", min(LOSS_ROWS, self.proof_size.batch)), LOSS_TOKENS)
        return text.inputs, self.unrounded.logits(text.inputs)[:, text.prompt_tokens - 1 : -1]

    def streams(self, tokens: int) -> Tensor:
        """Token ids [STREAMS, tokens] that begin alike, each longer than the one before it."""
        drawn = inputs.draw(self.spec, self.source.config, tokens, [0] * STREAMS, self.source.seed, "orders")
        streams = drawn.tokens.to(self.target.device)
        for number in range(1, STREAMS):
            alike = tokens * number // (STREAMS + 1)
            streams[number, :alike] = streams[0, :alike]
        return streams

    def answers(self, texts: Sequence[Sequence[int]]) -> Answers:
        """What is said to texts of different lengths, each from scratch. Where two begin alike their tokens visit the
        same experts, also where one of them is so near a tie that the other's company decides otherwise."""
        width = max(map(len, texts))
        tokens = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=self.target.device)
        prompt = self.prompt("again", len(texts)).continued(tokens)
        known = self._know(prompt)
        routes = _alike(known.routes, texts)
        if routes is not known.routes:
            upcast, plain = self.plain.wide_logits(prompt, replay=routes)[0], self.plain.logits(prompt, routes)
            known = Known(prompt, self._told(upcast), routes, self._told(plain))
        return Answers(tuple(map(tuple, texts)), known.upcast, known.plain, known.routes)

    def end(self, prompt: ModelInputs, tokens: int) -> Known:
        """Of any prompt, with the logits of its last `tokens` tokens alone."""
        return self._know(prompt, tokens)

    def _know(self, prompt: ModelInputs, keep: int = 0) -> Known:
        upcast, routes = self.plain.wide_logits(prompt, keep=keep)
        routes = routes.mapped(self._told)
        return Known(prompt, self._told(upcast), routes, self._told(self.plain.logits(prompt, routes, keep=keep)))

    def _generate(self, plain: ReferenceModel, prompt: ModelInputs, new_tokens: int) -> Generated:
        made = generate(plain, prompt, new_tokens)
        told = made.inputs.continued(self._told(made.tokens))
        return replace(made, inputs=told, logits=self._told(made.logits))

    def _told(self, found: Tensor) -> Tensor:
        return shared(self.target, found)


def _alike(routes: Routes, texts: Sequence[Sequence[int]]) -> Routes:
    """The same routes [texts, T, k], each text with those of the first one for as long as both are alike; `routes`
    itself where that changes nothing."""
    rows = torch.arange(len(texts)).unsqueeze(1).repeat(1, max(map(len, texts)))
    for row, text in enumerate(texts):
        done = 0
        for earlier, other in enumerate(texts[:row]):
            alike = common_length(text, other)
            rows[row, done:alike] = rows[earlier, done:alike]
            done = max(done, alike)
    at = torch.arange(rows.shape[1])
    made = routes.mapped(lambda tensor: tensor[rows.to(tensor.device), at.to(tensor.device)])
    same = all(torch.equal(made.layers[index].ids, route.ids) for index, route in routes.layers.items())
    return routes if same else made
