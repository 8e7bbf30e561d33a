"""Loaded models that runs of this process hold: each by one run at a time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from declora import process
from declora.errors import ModelError

__all__ = ["held"]

_held: set[nn.Module] = set()


@contextmanager
def held(values: Iterable[object]) -> Iterator[None]:
    """Holds those of `values` that are loaded models, with all their modules, for a run that changes their layers.

    Raises:
        ModelError: Another run, in another thread, holds one of them or a part of one.
    """
    models = {value for value in values if isinstance(value, nn.Module)}
    modules = {module for model in models for module in model.modules()}
    with process.alone():
        for model in models:
            if not _held.isdisjoint(model.modules()):
                raise ModelError(
                    f"model={type(model).__name__} is in use by another run of this process. Give each run a model of "
                    "its own (copy.deepcopy(model)), or start this one when that has ended."
                )
        _held.update(modules)
    try:
        yield
    finally:
        with process.alone():
            _held.difference_update(modules)
