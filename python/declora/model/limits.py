"""What a model has room for: tokens, positions, and a token to fill short rows with."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from declora.errors import ModelError

__all__ = ["check_positions", "check_vocabulary", "filler", "padding_of", "positions"]

_POSITIONS = re.compile(r"(embed_positions?|position_embeddings?|positions_embed|wpe)$")


def vocabulary(model: PreTrainedModel) -> int | None:
    """Returns how many tokens `model` has embeddings for; None where it has no table of them."""
    try:
        table: Any = model.get_input_embeddings()
    except NotImplementedError:
        return None
    weight = getattr(table, "weight", None)
    return None if weight is None else int(getattr(table, "num_embeddings", weight.shape[0]))


def check_vocabulary(model: PreTrainedModel, ids: Sequence[NDArray[np.int64]]) -> None:
    """Raises ModelError where one of the token `ids` has no embedding."""
    embeddings = vocabulary(model)
    largest = max((int(part.max(initial=0)) for part in ids), default=0)
    if embeddings is not None and largest >= embeddings:
        raise ModelError(
            f"tokenizer gives token {largest}, but {type(model).__name__} has {embeddings} embeddings. Use the model's "
            "own tokenizer, or resize_token_embeddings before."
        )


def positions(model: PreTrainedModel) -> int | None:
    """Returns how many tokens a text may have; None where the model sets no limit.

    RoBERTa and its kin begin to count after the place of padding, so that two of 514 positions are never a token's.
    """
    tables: list[Any] = [m for name, m in model.named_modules() if _POSITIONS.search(name) and hasattr(m, "weight")]
    reserved = max((padding + 1 for m in tables if (padding := getattr(m, "padding_idx", None)) is not None), default=0)
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(stated, int) and stated > 0:
        return stated - reserved
    rows = [int(m.num_embeddings) - getattr(m, "offset", 0) for m in tables if isinstance(m, nn.Embedding)]
    return min(rows) - reserved if rows else None


def check_positions(model: PreTrainedModel, longest: int, max_length: int) -> None:
    """Raises ModelError where a text of `longest` tokens, which `max_length` lets through, has no position for each."""
    places = positions(model)
    if places is not None and longest > places:
        raise ModelError(
            f"max_length={max_length} lets a text of {longest} tokens through, but {type(model).__name__} has "
            f"{places} positions. Set max_length={places} or less."
        )


def filler(model: PreTrainedModel, pad_id: int | None) -> int:
    """Returns a token for places that nobody looks at: the tokenizer's `pad_id` if the model knows it, else the first.

    Padding tokens are often added to a tokenizer alone.
    """
    size = vocabulary(model)
    return pad_id if pad_id is not None and (size is None or pad_id < size) else 0


def padding_of(model: PreTrainedModel, pad_id: int | None, ids: Sequence[NDArray[np.int64]]) -> int:
    """Returns the token that fills short rows, for a model that must not take it for a text's last token.

    Decoders that classify take the last token that is not `config.pad_token_id`. Filled with that, they read of each
    text what they read of it alone. Where their configuration names no token of theirs, a text's last token counts,
    whatever it is; so they are filled with one that no text has.

    Args:
        model: Whose `config.pad_token_id` counts, if there is such a token.
        pad_id: The tokenizer's.
        ids: Token ids of all texts.

    Raises:
        ModelError: The texts have every token that the model knows.
    """
    size = vocabulary(model)
    own: Any = getattr(model.config.get_text_config(), "pad_token_id", None)
    # A model with encoder and decoder looks for the last end of a text.
    ends = model.config.is_encoder_decoder and own == getattr(model.config, "eos_token_id", None)
    if isinstance(own, int) and own >= 0 and (size is None or own < size) and not ends:
        return own
    used = np.unique(np.concatenate(ids))
    candidates: list[int] = [*([] if pad_id is None else [pad_id]), *range(len(used) + 1)]
    free = (token for token in candidates if (size is None or token < size) and token not in used)
    if (found := next(free, None)) is None:
        raise ModelError(
            f"{type(model).__name__} names no padding token, and the texts have every token that it knows. Set "
            "config.pad_token_id, and the tokenizer's pad_token to the same."
        )
    return found
