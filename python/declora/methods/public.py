"""Public texts, as a part of a method sees them: what clients' models make of them, and how these learn from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from declora.methods.part import Step

__all__ = ["PublicLoss", "PublicTexts"]

PublicLoss: TypeAlias = "Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]"
"""Of logits float32 `[R, classes]`, of whom each is and on which text, int64 `[R]` both: the losses, `[R]`."""


class PublicTexts(ABC):
    """Texts without labels that all clients have."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many texts there are."""

    classes: int
    """How many logits a model gives each."""

    @abstractmethod
    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns what models make of the texts, float32 `[rows, count, classes]`.

        Args:
            rows: Their adapters, float32 `[rows, D]`.
        """

    @abstractmethod
    def add_gradients(self, step: Step, texts: NDArray[np.int64], loss: PublicLoss) -> None:
        """Adds the gradient of each client's mean loss over `texts [n]` to `step.gradients`, where it is trained."""
