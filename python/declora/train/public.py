"""Public texts through the model of a run: logits by evaluation's passes, gradients by those of local steps."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from declora.cuda import to_device
from declora.methods import PublicLoss, PublicTexts, Step
from declora.model.bank import AdapterBank
from declora.train.evaluate import class_logits
from declora.train.gradients import leave
from declora.train.passes import Passes, RowLoss, Texts
from declora.train.sharing import Sharing

__all__ = ["ModelTexts"]

_APART = 2**23
"""Beyond the places of a client's own samples in a round and the passes over them, whose dropout masks are others;
half of the places that the core can name."""


@dataclass(frozen=True)
class ModelTexts(PublicTexts):
    """What the clients of a run make of its public texts."""

    passes: Passes
    """How the model computes the texts, to learn from them."""
    bank: AdapterBank
    sharing: Sharing
    """How sequences share the passes of the model."""
    classes: int
    group_size: int
    """Clients that are computed together, with as many texts of their own as `batch_size`; fewer with more."""
    batch_size: int

    @property
    def count(self) -> int:
        """How many texts there are."""
        return len(self.passes.tokens)

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns what models make of the texts, as evaluated."""
        return class_logits(self.passes.model, self.bank, rows, self.passes.tokens, self.classes, self.sharing)

    def add_gradients(self, step: Step, texts: NDArray[np.int64], loss: PublicLoss) -> None:
        """Adds the gradient of each client's mean loss over `texts` to G, group by group."""
        size = max(1, min(self.group_size, self.group_size * self.batch_size // len(texts)))
        places = _APART + step.number * len(texts) + np.arange(len(texts))
        for start in range(0, self.bank.clients, size):
            stop = min(start + size, self.bank.clients)
            count = stop - start
            clients = np.repeat(np.arange(start, stop), len(texts))
            part = Texts(np.tile(texts, count), clients, np.tile(places, count))
            counts, own = np.full(count, len(texts)), self._of(part, loss)
            with self.bank.group(start, stop):
                self.passes.backward(part, clients - start, counts, step, (start, _APART), own)
        leave(self.bank.G, step.phase.trained)

    def _of(self, texts: Texts, loss: PublicLoss) -> RowLoss:
        """Returns the loss of some of `texts` as a pass takes it."""

        def found(logits: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
            clients, index = (to_device(values[rows], logits.device) for values in (texts.clients, texts.index))
            return loss(logits.float(), clients, index)

        return found
