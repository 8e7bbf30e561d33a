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
from declora.errors import ModelError, shown, translated
from declora.model import BaseModel
from declora.model.checkpoint import reason
from declora.model.limits import check_positions, check_vocabulary, filler, padding_of
from declora.model.tokenizer import check_words_known
from declora.train.loss import forward
from declora.train.tokens import Side, Tokens

__all__ = ["fit_causal", "fit_classifier"]

# What does not hold is off by thousandths of the scale and more (as in `train.packing.check_packing`).
_CLOSE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
_TRIED_TOKENS = 32
_SIDES: tuple[Side, ...] = ("right", "left")


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
    pad_id = padding_of(model, base.tokenizer.pad_token_id, ids)
    typed = _takes(model, "token_type_ids")
    splits = tuple(replace(part, pad_id=pad_id, types=part.types if typed else None) for part in splits)
    base = _noting(replace(base, pad_id=pad_id), note)
    with base.lent():
        for part in splits:
            _check_ends(model, part, base.device)
        _check_classifies(model, splits[0], classes, base.device)
        sides = (tuple(replace(part, padding_side=side) for part in splits) for side in _SIDES)
        fitting = next((side for side in sides if _ignores_padding(model, side[0], base.device)), None)
    if fitting is not None:
        return base, fitting
    note = (
        f"{type(model).__name__} reads padding, too: in training, what it makes of a text depends on the longest text "
        "of its batch. Texts are evaluated beside others of their length alone."
    )
    return _noting(base, note), tuple(replace(part, reads_padding=True) for part in splits)


def fit_causal(base: BaseModel, splits: Sequence[Tokens]) -> tuple[BaseModel, tuple[Tokens, ...]]:
    """Returns `base`, which scores the next token at each token of a text, and the tokens of its texts.

    Raises:
        ModelError: It does not; or its tokenizer knows nothing of the texts.
    """
    note = check_words_known(base.tokenizer, [tokens.ids for tokens in splits])
    with base.lent():
        _check_continues(base.model, splits[0], base.device)
    pad_id = filler(base.model, base.tokenizer.pad_token_id)
    return _noting(base, note), tuple(replace(part, pad_id=pad_id) for part in splits)


def _noting(base: BaseModel, note: str | None) -> BaseModel:
    return replace(base, notes=(*base.notes, note)) if note else base


def _takes(model: PreTrainedModel, name: str) -> bool:
    parameters = inspect.signature(model.forward).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_ends(model: PreTrainedModel, tokens: Tokens, device: torch.device) -> None:
    """Checks the ends of texts, at the last of which most classifiers with encoder and decoder look."""
    end = getattr(model.config, "eos_token_id", None)
    if not model.config.is_encoder_decoder or not isinstance(end, int):
        return
    before = np.concatenate([[0], np.cumsum(tokens.ids == end)])
    ends = np.diff(before[tokens.starts])
    few, many = int(ends.min()), int(ends.max())
    if few == many and few > 0:
        return
    try:
        _tried(model, tokens, np.array([ends.argmin(), ends.argmax()]), device)
    except ModelError as error:
        raise ModelError(
            f"model={type(model).__name__} classifies a text by its last end-of-text token ({end}), and wants as many "
            f"in each; the texts have {few} to {many}. Use the model's own tokenizer, and leave that token out of the "
            "texts themselves."
        ) from error


def _check_classifies(model: PreTrainedModel, tokens: Tokens, classes: int, device: torch.device) -> None:
    """Computes the longest and the shortest text: of each there must be a score of each class."""
    found = _tried(model, tokens, _extremes(tokens), device)
    if tuple(found.shape) != (2, classes):
        raise ModelError(
            f"model={type(model).__name__} gives {_shape(found)} for two texts, and a classifier of {classes} classes "
            f"2x{classes}. Load it with AutoModelForSequenceClassification.from_pretrained(..., num_labels={classes})."
        )


def _ignores_padding(model: PreTrainedModel, tokens: Tokens, device: torch.device) -> bool:
    """Returns whether the shortest text is to the model beside the longest one what it is alone."""
    extremes = _extremes(tokens)
    both, alone = (_tried(model, tokens, texts, device) for texts in (extremes, extremes[1:]))
    return _close(both[1], alone[0], both, model)


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

    def refusal(error: Exception) -> ModelError:
        if isinstance(error, AttributeError) and error.name == "logits":
            return ModelError(
                f"model={kind} has no head that scores classes or tokens. Load it with "
                "AutoModelForSequenceClassification, for text to continue with AutoModelForCausalLM."
            )
        return ModelError(
            f"model={kind} cannot compute texts of the data (of {shown(tokens.lengths[texts].tolist())} tokens): "
            f"{reason(error)} Use a model of text, with its own tokenizer."
        )

    # Not in inference mode: a 4-bit layer casts its bias in its first pass, for good.
    with torch.no_grad(), process.seeded(0, device), translated(refusal):
        found: Any = forward(model, tokens.batch(texts, device))
    if not isinstance(found, torch.Tensor):
        raise ModelError(f"model={kind} gives {type(found).__name__} as logits. Use a classifier or a decoder.")
    if found.isnan().any():
        raise ModelError(
            f"model={kind} makes no numbers (NaN) of a text of the data before anything is trained. Check its "
            "config.json and weights."
        )
    return found.float()


def _close(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, model: PreTrainedModel) -> bool:
    quantized = getattr(model, "is_quantized", False)
    close = 5e-2 if quantized else _CLOSE.get(model.dtype, 5e-2)
    return bool((a - b).abs().max() <= close * scale.abs().max()) if a.numel() else True


def _shape(found: torch.Tensor) -> str:
    return "x".join(str(size) for size in found.shape)
