"""What mail is, wherever the rows are held meanwhile."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from declora.inbox import Inbox
from declora.plan import Columns, Plan

__all__ = ["Held", "Mail", "give_back", "taken", "timed"]

Held = TypeVar("Held")
"""What rows are held as from the time they are taken until they are put back."""


class Mail(ABC, Generic[Held]):
    """Sends what clients have, and brings what the others sent: `take`, `swap`, and after mixing `put`."""

    @abstractmethod
    def take(self, lifted: torch.Tensor, columns: Columns) -> Held:
        """Returns these columns of what is combined, `lifted [clients, width]`, as `[clients, columns]`."""

    @abstractmethod
    def swap(self, plan: Plan, rows: Held, carried: NDArray[np.uint8] | None = None) -> Inbox:
        """Sends `rows [clients, sent columns]` in messages, and returns what arrived of them.

        Args:
            plan: Of the round.
            rows: What `take` returned.
            carried: Which columns each client's message carries, uint8 `[clients, sent columns]`, as
                `MaskedCodec.encode_frames` takes it; None: all.

        Raises:
            CodecError: A number cannot be encoded.
            FrameError: A message is not what it should be, and nobody was said to lie or guarded against.
        """

    @abstractmethod
    def put(self, lifted: torch.Tensor, columns: Columns, rows: Held) -> None:
        """Writes `rows`, mixed, to the columns of `lifted` that they were taken from."""


def taken(lifted: torch.Tensor, columns: Columns) -> torch.Tensor:
    """Returns these columns of `lifted [clients, width]`: itself for all of them, else a copy."""
    return lifted if columns.whole else torch.cat(_spans(lifted, columns), dim=1)


def give_back(lifted: torch.Tensor, columns: Columns, rows: torch.Tensor) -> None:
    """Writes `rows [clients, columns]` to these columns of `lifted`; nothing where they are `lifted` itself."""
    if rows is not lifted:
        spans = _spans(lifted, columns)
        for span, values in zip(spans, rows.split([span.shape[1] for span in spans], dim=1), strict=True):
            span.copy_(values, non_blocking=True)


def _spans(lifted: torch.Tensor, columns: Columns) -> list[torch.Tensor]:
    return [lifted[:, start:stop] for start, stop in columns.spans or ((0, 0),)]


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the wall time of what is done meanwhile to that of `name`."""
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
