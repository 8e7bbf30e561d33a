"""Tokenizing texts to classify: what max_length must leave room for, and texts of which nothing is left."""

from typing import Any

import datasets
import pytest

from declora.errors import ConfigError, DataError
from declora.train.tokens import Tokens, tokenize


def tokens_of(texts: list[tuple[str, ...]], tokenizer: Any, *, max_length: int, task: Any = "classification") -> Tokens:
    names = [f"text{i}" for i in range(len(texts[0]))]
    columns = {name: [row[i] for row in texts] for i, name in enumerate(names)}
    data = datasets.Dataset.from_dict({**columns, "label": [0] * len(texts)})
    return tokenize(data, tokenizer, task=task, text_columns=names, label_column="label", max_length=max_length)


ONE, PAIR = [("w1 w2 w3",)], [("w1 w2 w3", "w4 w5 w6")]


@pytest.mark.parametrize(
    ("texts", "task", "least", "ids"),
    [
        # [CLS] a [SEP], and [CLS] a [SEP] b [SEP]: room for one token of each text.
        (ONE, "classification", 3, "[CLS] w1 [SEP]"),
        (PAIR, "classification", 5, "[CLS] w1 [SEP] w4 [SEP]"),
        (PAIR, "causal-lm", 3, "[CLS] w1 [SEP]"),
    ],
)
def test_max_length_must_leave_room_for_a_token_of_each_text(texts, task, least, ids, tokenizer):
    tokens = tokens_of(texts, tokenizer, max_length=least, task=task)
    assert " ".join(tokenizer.convert_ids_to_tokens(tokens.ids.tolist())) == ids
    for max_length in range(1, least):
        with pytest.raises(ConfigError, match=rf"max_length={max_length} leaves no room.*Set at least {least}"):
            tokens_of(texts, tokenizer, max_length=max_length, task=task)


def test_without_tokens_of_its_own_a_tokenizer_needs_no_room_for_them(tokenizer):
    tokenizer.backend_tokenizer.post_processor = None
    assert tokens_of(ONE, tokenizer, max_length=1).lengths.tolist() == [1]


@pytest.mark.parametrize("own", [True, False])
def test_a_text_of_which_the_tokenizer_makes_nothing_is_an_error_that_shows_it(own, tokenizer):
    if not own:
        tokenizer.backend_tokenizer.post_processor = None
    blank = "\u2003\u3000" * 60  # spaces that are none to a check for white space in ASCII
    with pytest.raises(DataError, match=r"makes no token of the text '.*, nor of 1 others") as caught:
        tokens_of([("w1",), (blank,), (blank,)], tokenizer, max_length=32)
    assert len(str(caught.value)) < 300
    with pytest.raises(DataError, match=r"makes no token of the text ' '\. Drop what is empty"):
        tokens_of([("w1",), (" ",)], tokenizer, max_length=32)
