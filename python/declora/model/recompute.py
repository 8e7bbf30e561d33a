"""Activation checkpointing: on the way back, blocks compute again what they did not keep (arXiv 1604.06174)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from declora.model.forwards import computing_by
from declora.model.owners import RowOwners
from declora.model.unpad import Unpadding, blocks_of

__all__ = ["Recomputation"]


class Recomputation:
    """What a step keeps until its gradient is there is what goes into each block, and not what is inside.

    Args:
        blocks: Of a model with batched layers in place.
        owners: What these read.
        unpadding: Of that model, where padding is left out.
        random: Whether blocks draw numbers: these are then drawn again alike.
    """

    def __init__(
        self, blocks: nn.ModuleList, owners: RowOwners, unpadding: Unpadding | None, *, random: bool = False
    ) -> None:
        self._blocks = blocks
        self._owners = owners
        self._unpadding = unpadding
        self._random = random

    @classmethod
    def of(
        cls, model: PreTrainedModel, owners: RowOwners, unpadding: Unpadding | None, *, random: bool = False
    ) -> "Recomputation | None":
        """Returns that of `model`, None where it has no equal blocks, or checkpoints them itself."""
        blocks = blocks_of(model)
        if blocks is None or any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            return None
        return cls(blocks, owners, unpadding, random=random)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Has the blocks compute so. What hooks do around a block happens once."""
        with computing_by(list(self._blocks), lambda block: partial(self._forward, block.forward)):
            yield

    def _forward(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        inside, calls = self._owners.inside, 0

        def compute(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1 or self._unpadding is None:
                return forward(*args, **kwargs)
            with self._unpadding.inside(inside):  # on the way back, hooks no longer say where the tokens are
                return forward(*args, **kwargs)

        return checkpoint(compute, *args, use_reentrant=False, preserve_rng_state=self._random, **kwargs)
