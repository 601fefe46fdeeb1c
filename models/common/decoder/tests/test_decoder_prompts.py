"""A prompt that no model can take is refused before anything is written."""

import pytest
import torch

from harness.errors import InputError
from models.common.decoder.frame import check_tokens


@pytest.mark.parametrize(("token", "vocab"), [(5, 5), (-1, 5), (151936, 151936)])
def test_a_token_past_the_vocabulary_is_named(token: int, vocab: int) -> None:
    with pytest.raises(InputError, match=f"token {token} is not in the vocabulary of {vocab}"):
        check_tokens(torch.tensor([[0, 1], [token, 2]]), vocab)


def test_every_token_of_the_vocabulary_passes_and_a_decode_step_is_not_read() -> None:
    check_tokens(torch.arange(5).view(1, 5), 5)
    check_tokens(torch.tensor([[7]]), 5)
