"""What a checkpoint's own tokenizer makes of text: prompts in its tokens, and what tokens say."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import WeightsError
from harness.spec.hf_config import HFConfig

FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
"""A directory that holds one of them has a tokenizer."""
PROSE = Path(__file__).with_name("prose.txt")
SHOWN = 60
"""Characters of what was generated that a report shows."""


class Text:
    """A tokenizer of Hugging Face, read from a local directory; no code of the directory is run."""

    def __init__(self, directory: Path, vocab: int) -> None:
        """Raises WeightsError where the tokenizer cannot be read or writes tokens that a model of `vocab` lacks."""
        from transformers import AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"the tokenizer of '{directory}' cannot be read: {error}") from None
        past = int(self.stream.max())
        if past >= vocab:
            raise WeightsError(
                f"the tokenizer of '{directory}' writes token {past}, past the vocabulary of {vocab}: "
                "it is another model's"
            )

    @classmethod
    def of(cls, directory: Path, config: HFConfig) -> Text | None:
        """The tokenizer of a checkpoint whose config this is; None for a directory without one."""
        if not any((directory / name).is_file() for name in FILES):
            return None
        return cls(directory, int((config.get("text_config") or config)["vocab_size"]))

    @cached_property
    def stream(self) -> Tensor:
        """[n] int64: the prose that comes with the harness, in several languages and kinds of code."""
        ids = self.tokenizer(PROSE.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
        if not ids:
            raise WeightsError("the tokenizer makes no token of plain text: nothing could be asked in it")
        return torch.tensor(ids, dtype=torch.int64)

    def rows(self, batch: int, tokens: int, generator: torch.Generator) -> Tensor:
        """[batch, tokens] int64: each row begins somewhere in the prose, which begins again where it ends."""
        starts = torch.randint(len(self.stream), (batch, 1), generator=generator)
        return self.stream[(starts + torch.arange(tokens)) % len(self.stream)]

    def says(self, tokens: Iterable[int]) -> str:
        """The beginning of what a row of tokens says, in one line."""
        said = " ".join(self.tokenizer.decode(list(tokens), skip_special_tokens=False).split())
        return said if len(said) <= SHOWN else f"{said[:SHOWN]} ..."
