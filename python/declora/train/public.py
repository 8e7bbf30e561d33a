"""Public texts through the model of a run: logits by evaluation's passes, gradients by those of local steps."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from declora.methods import PublicLoss, PublicTexts, Step
from declora.model.bank import AdapterBank
from declora.train.evaluate import summaries
from declora.train.gradients import leave
from declora.train.passes import Passes, Texts
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
    def places(self) -> NDArray[np.int64]:
        """Where each text has something to predict."""
        return self.passes.tokens.places

    def summaries(
        self, rows: torch.Tensor, summary: Callable[[torch.Tensor], torch.Tensor], width: int
    ) -> torch.Tensor:
        """Returns what is to be kept of what models make of the texts, as evaluated."""
        return summaries(self.passes.model, self.bank, rows, self.passes.tokens, summary, width, self.sharing)

    def add_gradients(self, step: Step, texts: NDArray[np.int64], loss: PublicLoss) -> None:
        """Adds the gradient of each client's mean loss over the places of `texts` to G, group by group."""
        size = max(1, min(self.group_size, self.group_size * self.batch_size // len(texts)))
        places = _APART + step.number * len(texts) + np.arange(len(texts))
        for start in range(0, self.bank.clients, size):
            stop = min(start + size, self.bank.clients)
            count = stop - start
            clients = np.repeat(np.arange(start, stop), len(texts))
            part = Texts(np.tile(texts, count), clients, np.tile(places, count))
            with self.bank.group(start, stop):
                self.passes.backward(part, clients - start, np.full(count, len(texts)), step, (start, _APART), loss)
        leave(self.bank.G, step.phase.trained)
