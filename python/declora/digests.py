"""Digests of data, models and graphs, by which two that should be one are told apart."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["digest_of"]


def digest_of(*values: Any) -> str:
    """Returns 32 hex digits that values share iff they are equal: arrays, tensors, and what holds these."""
    found = hashlib.blake2b(digest_size=16)
    for value in values:
        _feed(found.update, value)
    return found.hexdigest()


def _feed(feed: Callable[[Any], None], value: Any) -> None:
    """Feeds a value to a digest: arrays by dtype, shape and bytes, what holds values by these, the rest as text."""
    if isinstance(value, torch.Tensor):
        feed(f"{value.dtype}{tuple(value.shape)}".encode())
        feed(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray):
        feed(f"{value.dtype.str}{value.shape}".encode())
        feed(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            _feed(feed, getattr(value, item.name))
    elif isinstance(value, Mapping):
        for name in sorted(value):
            feed(f"\n{name}:".encode())
            _feed(feed, value[name])
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(feed, item)
    else:
        feed(f"\n{value!r}".encode())
