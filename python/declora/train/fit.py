"""Whether base model, tokenizer and texts fit each other: what is known is checked, what is not is tried."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import process
from declora.errors import DecloraError, ModelError
from declora.model import BaseModel
from declora.model.checkpoint import reason
from declora.model.limits import check_positions, check_vocabulary, padding_of
from declora.model.tokenizer import check_words_known
from declora.train.loss import forward
from declora.train.tokens import Tokens

__all__ = ["fit_causal", "fit_classifier"]

_TRIED_TOKENS = 32


def fit_classifier(
    base: BaseModel, splits: Sequence[Tokens], *, classes: int, max_length: int
) -> tuple[BaseModel, tuple[Tokens, ...]]:
    """Returns `base` and the tokens of its texts, filling short rows alike.

    Args:
        base: With a head for sequences.
        splits: All texts.
        classes: Of the data.
        max_length: The setting, for messages.

    Raises:
        ModelError: A text has a token or a place that the model has not, or the model is no text classifier.
    """
    ids, model = [tokens.ids for tokens in splits], base.model
    note = check_words_known(base.tokenizer, ids)
    check_vocabulary(model, ids)
    check_positions(model, max(int(tokens.lengths.max(initial=0)) for tokens in splits), max_length)
    _check_ends(model, splits)
    pad_id = padding_of(model, base.tokenizer.pad_token_id, ids)
    typed = _takes(model, "token_type_ids")
    splits = tuple(replace(part, pad_id=pad_id, types=part.types if typed else None) for part in splits)
    base = _noting(replace(base, pad_id=pad_id), note)
    with base.lent():
        _check_classifies(model, splits[0], classes, base.device)
    return base, splits


def fit_causal(base: BaseModel, splits: Sequence[Tokens]) -> BaseModel:
    """Returns `base`, which scores the next token at each token of a text.

    Raises:
        ModelError: It does not; or its tokenizer knows nothing of the texts.
    """
    note = check_words_known(base.tokenizer, [tokens.ids for tokens in splits])
    with base.lent():
        _check_continues(base.model, splits[0], base.device)
    return _noting(base, note)


def _noting(base: BaseModel, note: str | None) -> BaseModel:
    return replace(base, notes=(*base.notes, note)) if note else base


def _takes(model: PreTrainedModel, name: str) -> bool:
    parameters = inspect.signature(model.forward).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_ends(model: PreTrainedModel, splits: Sequence[Tokens]) -> None:
    """Checks the ends of texts, at the last of which a classifier with encoder and decoder looks."""
    end = getattr(model.config, "eos_token_id", None)
    if not model.config.is_encoder_decoder or not isinstance(end, int):
        return
    before = [np.concatenate([[0], np.cumsum(part.ids == end)]) for part in splits]
    ends = np.unique(np.concatenate([np.diff(count[part.starts]) for count, part in zip(before, splits, strict=True)]))
    if len(ends) > 1 or not ends[0]:
        raise ModelError(
            f"model={type(model).__name__} classifies a text by its last end-of-text token ({end}), and wants as many "
            f"in each; the texts have {' or '.join(str(count) for count in ends[:4])}. Use the model's own tokenizer, "
            "and leave that token out of the texts themselves."
        )


def _check_classifies(model: PreTrainedModel, tokens: Tokens, classes: int, device: torch.device) -> None:
    """Computes the longest and the shortest text: of each there must be a score of each class."""
    found = _tried(model, tokens, _extremes(tokens), device)
    if tuple(found.shape) != (2, classes):
        raise ModelError(
            f"model={type(model).__name__} gives {_shape(found)} for two texts, and a classifier of {classes} classes "
            f"2x{classes}. Load it with AutoModelForSequenceClassification.from_pretrained(..., num_labels={classes})."
        )


def _extremes(tokens: Tokens) -> NDArray[np.int64]:
    """Returns the index of the longest text and of the shortest."""
    return np.argsort(tokens.lengths, kind="stable")[[-1, 0]]


def _check_continues(model: PreTrainedModel, tokens: Tokens, device: torch.device) -> None:
    """Computes the beginning of two texts: of each of their tokens there must be scores of the next."""
    texts = _extremes(tokens)
    length = min(int(tokens.lengths[texts].min()), _TRIED_TOKENS)
    ids = np.concatenate([tokens.ids[tokens.starts[text] :][:length] for text in texts])
    starts = np.array([0, length, 2 * length])
    found = _tried(
        model, replace(tokens, ids=ids, starts=starts, scored=np.ones(len(ids), np.bool_)), np.arange(2), device
    )
    if found.dim() != 3 or found.shape[:2] != (2, length):
        raise ModelError(
            f"model={type(model).__name__} gives {_shape(found)} for two texts of {length} tokens, and no scores of "
            "the next token at each. Load it with AutoModelForCausalLM."
        )


def _tried(model: PreTrainedModel, tokens: Tokens, texts: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Returns the logits of some texts, float32."""
    kind = type(model).__name__
    # Not in inference mode: a 4-bit layer casts its bias in its first pass, for good.
    with torch.no_grad(), process.seeded(0):
        try:
            found: Any = forward(model, tokens.batch(texts, device))
        except (DecloraError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, AttributeError) and error.name == "logits":
                raise ModelError(
                    f"model={kind} has no head that scores classes or tokens. Load it with "
                    "AutoModelForSequenceClassification, for text to continue with AutoModelForCausalLM."
                ) from error
            raise ModelError(
                f"model={kind} cannot compute a text of the data: {reason(error)} Use a model of text, with its own "
                "tokenizer."
            ) from error
    if not isinstance(found, torch.Tensor):
        raise ModelError(f"model={kind} gives {type(found).__name__} as logits. Use a classifier or a decoder.")
    if found.isnan().any():
        raise ModelError(
            f"model={kind} makes no numbers (NaN) of a text of the data before anything is trained. Check its "
            "config.json and weights."
        )
    return found.float()


def _shape(found: torch.Tensor) -> str:
    return "x".join(str(size) for size in found.shape)
