"""The tokenizer of a run: the model's own or another, and whether it knows the words of the texts."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from declora.errors import ModelError
from declora.model.checkpoint import load_tokenizer

__all__ = ["check_words_known", "find_tokenizer"]


def find_tokenizer(
    given: PreTrainedTokenizerBase | str | Path | None, place: str, name: str, *, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    """Returns the tokenizer that was given, as an object or as the place where it is; else the one at `place`.

    Args:
        given: The setting `tokenizer`.
        place: Where the model's own is; empty where the model is from nowhere.
        name: What the user called the model.
        trust_remote_code: Whether code that lies beside it may run.

    Raises:
        ModelError: It cannot be loaded, is none, or knows no words: transformers makes an empty one where the files
            are missing.
    """
    if isinstance(given, str | Path):
        place = name = str(given)
    if given is None and not place:
        raise ModelError(
            f"tokenizer of {name!r} could not be loaded: the model names no place. Pass tokenizer=..., an object, path "
            "or hub id."
        )
    if given is not None and not isinstance(given, str | Path):
        if not isinstance(given, PreTrainedTokenizerBase):
            raise ModelError(
                f"tokenizer is a {type(given).__name__}. Give a path, a hub id, or a tokenizer of transformers (a bare "
                "`tokenizers.Tokenizer` as PreTrainedTokenizerFast(tokenizer_object=...))."
            )
        tokenizer = given
    else:
        tokenizer = load_tokenizer(place, name, trust_remote_code=trust_remote_code)
    if not _knows_words(tokenizer):
        raise ModelError(
            f"tokenizer of {name!r} knows no words, only {len(tokenizer.all_special_ids)} special tokens: its files "
            "are missing there. Save it beside the model (`tokenizer.save_pretrained(path)`), or pass tokenizer=..., "
            "an object, path or hub id."
        )
    return tokenizer


def _knows_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    try:
        return not set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids)
    except NotImplementedError:  # it computes its tokens, of bytes or characters
        return True


def check_words_known(tokenizer: PreTrainedTokenizerBase, ids: Sequence[NDArray[np.int64]]) -> str | None:
    """Looks how much of the texts their tokenizer knows.

    Args:
        tokenizer: Which made the `ids`.
        ids: Token ids of all texts.

    Returns:
        What the run should say where it knows less than half of them (also a warning), else None.

    Raises:
        ModelError: It knows none.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        return None
    special = np.array([token for token in tokenizer.all_special_ids if token != unknown], dtype=np.int64)
    words = sum(int((~np.isin(part, special)).sum()) for part in ids)
    lost = sum(int((part == unknown).sum()) for part in ids)
    if 2 * lost <= words:
        return None
    what = f"{lost} of {words} words of the texts are unknown to the tokenizer ({tokenizer.unk_token!r})"
    if lost == words:
        raise ModelError(f"{what}: nothing could be learned. Use the tokenizer that the model was trained with.")
    warnings.warn(f"{what}: little can be learned of them.", stacklevel=2)
    return f"{what}."
