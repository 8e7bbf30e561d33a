"""How many clients a GPU has memory for at once: measured by a step of one client, and of two."""

import copy
import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora.errors import TrainingError, out_of_memory
from declora.model.bank import AdapterBank
from declora.train.sharing import Sharing
from declora.train.tokens import Tokens
from declora.train.trial import one_step

__all__ = ["CardMemory", "clients_that_fit"]

# Of the free memory so much is planned with: allocators leave gaps, and other steps have other shapes.
_SHARE = 0.85
# A client's row in float32: the values, their gradients, two moments, and in gossip what is sent and what arrives.
_BYTES_PER_PARAMETER = 24
# Tokens of a group vary from step to step: it is sized for so many standard deviations above their mean.
_DEVIATIONS = 4


class CardMemory:
    """The memory of a GPU.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free(self) -> int:
        """Returns how many bytes this process could still take."""
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self._device)[0])

    def taken(self, step: Callable[[], None]) -> int | None:
        """Returns how many bytes more `step` has taken at some time than are taken now, None where they ran out."""
        torch.cuda.synchronize(self._device)
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        try:
            step()
            torch.cuda.synchronize(self._device)
        except Exception as error:
            if out_of_memory(error):
                return None
            raise
        return int(torch.cuda.max_memory_allocated(self._device)) - before


def clients_that_fit(
    model: PreTrainedModel,
    bank: AdapterBank,
    tokens: Tokens,
    sharing: Sharing,
    *,
    clients: int,
    batch_size: int,
    base_dropout: bool,
    memory: CardMemory,
) -> int:
    """Returns how many clients can be computed at once; 0 where one alone may not fit.

    Args:
        model: With batched layers in place.
        bank: Of the run, before it has all its rows; its layers are left bound to others.
        tokens: What the run trains on.
        sharing: How sequences share the passes of `model`.
        clients: Of the run.
        batch_size: Texts of a client's step.
        base_dropout: Whether the base's own dropout is on in training.
        memory: Of the device.
    """
    longest = np.resize(np.argsort(-tokens.lengths, kind="stable")[:batch_size], batch_size)
    most = int(tokens.lengths[longest].sum())

    def step(count: int) -> Callable[[], None]:
        own = copy.copy(bank)
        own.fill(bank.P[0], count, bank.P.device)
        options = {**sharing.computing, "together": True, "base_dropout": base_dropout}

        def taken() -> None:
            # What is not finite before anything is learned is named by the first step, with its client.
            with suppress(TrainingError):
                one_step(model, own, tokens, [longest] * count, **options)

        return taken

    memory.taken(step(1))  # the first time, libraries take what they keep
    one = memory.taken(step(1))
    two = memory.taken(step(2)) if sharing.together else None
    if one is None:
        return 0
    rows = (clients - 1) * bank.layout.columns * _BYTES_PER_PARAMETER
    budget = int(_SHARE * memory.free()) - rows
    if one > budget:
        return 0
    if two is None or two > budget:
        return 1
    each = max(two - one, 1)
    return _most_clients(tokens.lengths, batch_size, most * (budget - one + each) / each, clients)


def _most_clients(lengths: NDArray[np.int64], batch_size: int, budget: float, clients: int) -> int:
    """Returns how many of `clients` draw texts of at most `budget` tokens in all, in nearly every step."""
    mean, deviation = float(lengths.mean()), float(lengths.std())

    def tokens(count: int) -> float:
        texts = count * batch_size
        return min(texts * mean + _DEVIATIONS * deviation * math.sqrt(texts), texts * float(lengths.max()))

    fitting = [count for count in range(1, clients + 1) if tokens(count) <= budget]
    return max(fitting, default=1)
