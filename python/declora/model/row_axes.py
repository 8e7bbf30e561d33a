"""Which axis of each per-client layer's input counts the sequences of a pass."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from declora.model.batched import PerClient

__all__ = ["learning_row_axes", "per_client", "row_axis"]


def row_axis(shape: torch.Size, rows: int) -> int | None:
    """Returns which axis of an input of `shape` counts `rows` sequences, None where none seems to.

    It is told by sizes: no other axis may have that many by chance. Of a pass of R sequences of T tokens, `[R, T, I]`,
    `[R, I]` and `[R*T, I]` have it first, `[T, R, I]` (XLNet, Longformer) second.
    """
    if shape[0] == rows:
        return 0
    if len(shape) > 2 and shape[1] == rows:
        return 1
    return 0 if shape[0] % rows == 0 else None


def per_client(model: nn.Module) -> list[PerClient]:
    """Returns the layers of `model` that have parameters of each client."""
    return [module for module in model.modules() if isinstance(module, PerClient)]


@contextmanager
def learning_row_axes(model: nn.Module, rows: int) -> Iterator[None]:
    """Sets `row_axis` of each per-client layer of `model` by what a pass of `rows` sequences inside gives it.

    A layer that gets inputs of several kinds, as DeBERTa's query projection does (tokens, and relative positions that
    belong to no sequence), has none.
    """
    found: dict[PerClient, set[int | None]] = {layer: set() for layer in per_client(model)}

    def look(layer: PerClient, args: tuple[torch.Tensor, ...]) -> None:
        found[layer].add(row_axis(args[0].shape, rows))

    with ExitStack() as hooks:
        for layer in found:
            hooks.callback(layer.register_forward_pre_hook(look).remove)
        yield
    for layer, axes in found.items():
        if axes:
            layer.row_axis = axes.pop() if len(axes) == 1 else None
