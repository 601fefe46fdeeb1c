"""Prompts in a checkpoint's own tokens: real text where it has a tokenizer, and what was generated, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from harness.build import builder, inputs, registry
from harness.build.tokenizer import PROSE, SHOWN, Text
from harness.errors import WeightsError
from harness.parity.gate import prove
from harness.records.proof_size import ProofSize
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target
from models.qwen3_4b_instruct_2507 import SPEC as TEXT
from models.qwen3_vl_2b import SPEC as SEES

CPU = torch.device("cpu")
VOCAB = 600


def save_tokenizer(directory: Path, vocab: int = VOCAB) -> None:
    """A byte-level tokenizer learned from the prose, as Hugging Face saves it."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet, show_progress=False)
    learned.train_from_iterator(PROSE.read_text(encoding="utf-8").splitlines(keepends=True), trainer)
    PreTrainedTokenizerFast(tokenizer_object=learned).save_pretrained(directory)


def checkpoint(directory: Path, spec: ModelSpec) -> builder.Source:
    """A tiny checkpoint with a tokenizer beside it."""
    tiny = builder.Source.of(spec, "tiny", seed=3, weights=None)
    builder.reference(spec, tiny, torch.float32, CPU).save_pretrained(directory)
    save_tokenizer(directory)
    return builder.Source.of(spec, "full", seed=3, weights=str(directory))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> builder.Source:
    return checkpoint(tmp_path_factory.mktemp("text"), TEXT)


def text_of(source: builder.Source) -> Text:
    assert source.text is not None
    return source.text


def draw(source: builder.Source, seed: int = 0) -> torch.Tensor:
    return inputs.draw(TEXT, source.config, 40, [0, 0], seed, "tests", source.text).tokens


def test_prompts_are_prose_in_the_checkpoints_tokens(source: builder.Source) -> None:
    tokens, prose = draw(source), PROSE.read_text(encoding="utf-8")
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(source.directory)
    said = [tokenizer.decode(row) for row in tokens]
    assert all(len(row) > 40 and row.strip("�") in prose + prose for row in said)
    assert said[0] != said[1]
    assert torch.equal(tokens, draw(source))
    assert not torch.equal(tokens, draw(source, 1))


def test_a_prompt_longer_than_the_prose_begins_again(source: builder.Source) -> None:
    stream = text_of(source).stream
    (row,) = text_of(source).rows(1, 2 * len(stream), torch.Generator().manual_seed(0))
    assert torch.equal(row[: len(stream)], row[len(stream) :])
    assert sorted(row[: len(stream)].tolist()) == sorted(stream.tolist())


def test_images_keep_their_places_and_marks(tmp_path: Path) -> None:
    sees = checkpoint(tmp_path, SEES)
    builder.check_weights(SEES, tmp_path)
    plain = inputs.draw(SEES, sees.config, 40, [2, 0], 0, "tests")
    text = inputs.draw(SEES, sees.config, 40, [2, 0], 0, "tests", sees.text)
    marks = torch.isin(plain.tokens, torch.tensor([sees.config[f"vision_{end}_token_id"] for end in ("start", "end")]))
    special = plain.shows() | marks
    assert int(marks.sum()) == 4
    assert torch.equal(text.tokens[special], plain.tokens[special])
    assert int(text.tokens[~special].max()) < VOCAB < int(plain.tokens[~special].max())
    assert (text.grids, text.pixels is not None) == (plain.grids, True)


@pytest.mark.parametrize("name", registry.names())
def test_the_proof_asks_in_prose_and_tells_what_was_said(name: str, tmp_path: Path) -> None:
    spec, target = registry.load(name), Target(CPU, torch.float32, "none")
    source = checkpoint(tmp_path, spec)
    parity = prove(
        builder.BuildConfig(spec, source, ("kv_cache",), target), ProofSize(1, 24, 20), lambda _, __: None
    ).parity
    assert parity.passed
    (tokens,) = [check for check in parity.checks if check.rule == "tokens" and check.level == "generation"]
    assert "identical, says '" in tokens.where
    assert len(tokens.where) < SHOWN + 40


def test_a_checkpoint_without_a_tokenizer_is_asked_in_any_tokens(tmp_path: Path, source: builder.Source) -> None:
    assert Text.of(tmp_path, source.config) is None
    assert builder.Source.of(TEXT, "tiny", seed=3, weights=None).text is None


def test_a_tokenizer_of_another_model_is_refused(source: builder.Source) -> None:
    assert source.directory is not None
    with pytest.raises(WeightsError, match="past the vocabulary of 300: it is another model's"):
        Text.of(source.directory, {"vocab_size": 300})


@pytest.mark.parametrize("damage", ["broken", "code"])
def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path: Path, damage: str) -> None:
    save_tokenizer(tmp_path)
    if damage == "broken":
        (tmp_path / "tokenizer.json").write_text('{"model": ')
    else:
        (tmp_path / "tokenizer.json").unlink()
        classes = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}, "tokenizer_class": "Evil"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(classes))
        (tmp_path / "evil.py").write_text("raise SystemExit('code of the checkpoint ran')\n")
    with pytest.raises(WeightsError, match=r"the tokenizer of .* cannot be read"):
        Text.of(tmp_path, {"vocab_size": 2048})
