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
"""Of logits float32 `[R, classes]`, of whom each is and at which place, int64 `[R]` both: the losses, `[R]`."""


class PublicTexts(ABC):
    """Texts without labels that all clients have.

    Models make something of them at *places*: of a text to classify there is one, of a text to continue one for each
    token whose next is to be predicted.
    """

    classes: int
    """How many logits a model gives each place: classes, or words of its vocabulary."""

    @property
    @abstractmethod
    def places(self) -> NDArray[np.int64]:
        """int64 `[texts + 1]`: text i has the places from `places[i]` to `places[i + 1]`."""

    @property
    def count(self) -> int:
        """How many texts there are."""
        return len(self.places) - 1

    @abstractmethod
    def summaries(
        self, rows: torch.Tensor, summary: Callable[[torch.Tensor], torch.Tensor], width: int
    ) -> torch.Tensor:
        """Returns what is to be kept of what models make of the texts, float32 `[rows, places, width]`.

        Args:
            rows: Their adapters, float32 `[rows, D]`.
            summary: Of the logits of some places, float32 `[n, classes]`, what is kept, float32 `[n, width]`.
            width: Of a place.
        """

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns what models make of the texts, float32 `[rows, places, classes]`.

        Args:
            rows: Their adapters, float32 `[rows, D]`.
        """
        return self.summaries(rows, lambda logits: logits, self.classes)

    @abstractmethod
    def add_gradients(self, step: Step, texts: NDArray[np.int64], loss: PublicLoss) -> None:
        """Adds the gradient of each client's mean loss over the places of `texts [n]` to `step.gradients`.

        Of columns that are not trained there is none.
        """
