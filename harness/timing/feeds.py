"""What the arms of a case are fed: a prompt and a token to go on with, other ones in every round of a phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from harness.build import builder, inputs
from harness.records.case import Case
from harness.records.record import Phase
from harness.spec.model_inputs import ModelInputs

KEPT_PROMPT_TOKENS = 4096
"""A decode step begins behind a prompt that its arm has just computed off the clock. One of so many tokens, in all rows
together, is new in every round; a longer one stays for as many rounds as it is times longer, so that a round computes
off the clock what so many tokens cost. The token that is fed is new in every round."""


@dataclass(frozen=True)
class Feed:
    """What one arm is given in one round, on the device that is timed."""

    prompt: ModelInputs
    first: Tensor
    """Token ids [B, 1]: what the first decode step is fed. It does not follow from the prompt, so that nobody can have
    decoded ahead."""
    prompt_name: str
    """Equal where the prompt is the same."""


class Feeds:
    """Draws inputs that follow from the case's seed, the process, the phase, the round and the stream alone. Arms of
    one stream are fed alike."""

    def __init__(self, case: Case, config: builder.BuildConfig, process: int) -> None:
        self.case, self.config, self.process = case, config, process
        shape = case.workload
        self.prompt_rounds = -(-shape.batch * shape.prompt_tokens // KEPT_PROMPT_TOKENS)
        """Rounds of a decode phase for which a prompt stays."""
        self.phase: Phase = "prefill"
        self.round = -1
        self.prompts: dict[str, ModelInputs] = {}
        self.feeds: dict[str, Feed] = {}

    def begin(self, phase: Phase) -> None:
        """A round of `phase`: from here on every stream holds something new."""
        if phase != self.phase:
            self.phase, self.round = phase, -1
        self.round += 1
        self.feeds.clear()
        if self.round % self._stays() == 0:
            self.prompts.clear()

    def of(self, stream: str) -> Feed:
        """What the arms of `stream` are fed in this round; drawn once."""
        if stream not in self.feeds:
            name = f"{stream} {self.phase} {self.round // self._stays()}"
            if stream not in self.prompts:
                self.prompts[stream] = self.prompt(name)
            self.feeds[stream] = Feed(self.prompts[stream], self.first(f"{stream} {self.phase} {self.round}"), name)
        return self.feeds[stream]

    def prompt(self, purpose: str) -> ModelInputs:
        """Rows that begin alike where the workload says so, and with the same tokens whatever the purpose; their last
        token at least is another one."""
        shape = self.case.workload
        prompt = self._draw()(shape.prompt_tokens, [shape.images] * shape.batch, purpose=f"{purpose} {self.process}")
        shared = min(shape.shared_prefix_tokens, shape.prompt_tokens - 1)
        if shared:
            beginning = self._draw()(shared, [0], purpose=f"shared prefix {self.process}").tokens
            tokens = prompt.tokens[:, :shared]
            tokens.copy_(tokens.where(prompt.shows()[:, :shared], beginning))
        return prompt.to(self.config.target.device, self.config.target.dtype)

    def first(self, purpose: str) -> Tensor:
        """Token ids [B, 1] of text."""
        drawn = self._draw()(1, [0] * self.case.workload.batch, purpose=f"token {purpose} {self.process}")
        return drawn.tokens.to(self.config.target.device)

    def _draw(self) -> Callable[..., ModelInputs]:
        source = self.config.source
        return partial(
            inputs.draw,
            self.config.spec,
            source.config,
            seed=self.case.seed,
            text=source.text,
            pictures=source.pictures,
        )

    def _stays(self) -> int:
        return self.prompt_rounds if self.phase == "decode" else 1
