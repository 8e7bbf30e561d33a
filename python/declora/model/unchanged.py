"""Whether a loaded model still is what its checkpoint holds: else an adapter over it must not name that as its base."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from declora.model.checkpoint import loaded_again
from declora.model.targets import SAVED_HEADS

__all__ = ["changed_weight"]

_ROWS = 4
"""Of a matrix so many are compared: whatever trains or merges a layer changes all of them."""
_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# A weight may have been rounded to bfloat16 or float16 on its way: these are half a step of the coarser's, and below
# float16's normal numbers a step.
_RELATIVE, _ABSOLUTE = 2.0**-8, 6e-8


def changed_weight(model: PreTrainedModel, source: str) -> str | None:
    """Returns the name of a weight of `model` that is not what its checkpoint holds; None: none is known to be so.

    A few rows of each weight are read from the checkpoint's files, where they are on this machine. Where they differ,
    the checkpoint is loaded again, since loading itself may change weights (that of a tied head). Heads are not
    compared: they are trained and saved as a whole.

    Args:
        model: Loaded, and perhaps trained or merged since.
        source: The path or hub id that it names; empty where there is none.
    """
    weights = {name: weight for name, weight in _weights(model).items() if not set(name.split(".")) & {*SAVED_HEADS}}
    prefix = f"{model.base_model_prefix}."
    suspect = [
        here
        for name, there in _beginnings(source)
        for here in (name, prefix + name, name.removeprefix(prefix))
        if here in weights and not _alike(weights[here], there)
    ]
    again = _weights(loaded_again(model)) if suspect else {}
    return next((name for name in suspect if name in again and not _alike(weights[name], again[name])), None)


def _weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Returns the weights as they are held: `state_dict` would have layers in 4 bits write themselves down."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def _beginnings(source: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the first rows of each plain weight in a checkpoint's safetensors files; nothing where there are none."""
    try:
        for file in _files(source):
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  # no mapping
                    part = tensors.get_slice(name)
                    if part.get_shape():
                        yield name, part[:_ROWS]
    except Exception:  # moved, or not in this machine's cache, or of a format that has no such files
        return


def _files(source: str) -> list[str]:
    if not source:
        return []
    try:
        index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, local_files_only=True)
    except OSError:  # all weights are in one file
        names = [SAFE_WEIGHTS_NAME]
    else:
        names = sorted(set(json.loads(Path(str(index)).read_text(encoding="utf-8"))["weight_map"].values()))
    return [str(cached_file(source, name, local_files_only=True)) for name in names]


def _alike(weight: torch.Tensor, there: torch.Tensor) -> bool:
    """Returns whether the first rows of two weights are the same but for rounding, or cannot be compared."""
    if weight.dtype not in _PLAIN or there.dtype not in _PLAIN or weight.shape[1:] != there.shape[1:] or weight.is_meta:
        return True
    a, b = (x[:_ROWS].detach().cpu().double() for x in (weight, there))
    return a.shape != b.shape or bool(((a - b).abs() <= _RELATIVE * b.abs() + _ABSOLUTE).all())
