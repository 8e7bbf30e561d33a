"""Public texts through the model of a run: logits by evaluation's passes, gradients by those of local steps."""

from collections.abc import Callable, Iterator
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
    where: Callable[[], tuple[int, int]]
    """Returns which client of the run is the first here, and how many are computed together, with as many texts of
    their own as `batch_size`; fewer with more. Whole groups, so that they are computed alike wherever they are."""
    batch_size: int

    @property
    def places(self) -> NDArray[np.int64]:
        """Where each text has something to predict."""
        return self.passes.tokens.places

    def summaries(
        self, rows: torch.Tensor, summary: Callable[[torch.Tensor], torch.Tensor], width: int
    ) -> torch.Tensor:
        """Returns what is to be kept of what models make of the texts, as evaluated, group by group."""
        model, tokens = self.passes.model, self.passes.tokens
        _, group_size = self.where()
        groups = [
            summaries(model, self.bank, some, tokens, summary, width, self.sharing) for some in rows.split(group_size)
        ]
        return torch.cat(groups)

    def add_gradients(self, step: Step, texts: NDArray[np.int64], loss: PublicLoss) -> None:
        """Adds the gradient of each client's mean loss over the places of `texts` to G, group by group."""
        scaling, gradients = self.bank.loss_scale, self.bank.G
        if scaling is None:
            self._add(step, texts, loss)
            return
        before = gradients.clone()

        def anew() -> None:
            gradients.copy_(before)
            self._add(step, texts, loss)

        scaling.settled(gradients, anew)

    def _add(self, step: Step, texts: NDArray[np.int64], loss: PublicLoss) -> None:
        first, group_size = self.where()
        size = max(1, min(group_size, group_size * self.batch_size // len(texts)))
        places = _APART + step.number * len(texts) + np.arange(len(texts))

        def of_here(logits: torch.Tensor, clients: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            return loss(logits, clients - first, places)

        for start, stop in self._parts(group_size, size):
            count = stop - start
            owner = np.repeat(np.arange(count), len(texts))
            part = Texts(np.tile(texts, count), first + start + owner, np.tile(places, count))
            with self.bank.group(start, stop) as scales:
                counts, stream = np.full(count, len(texts)), (first + start, _APART)
                self.passes.backward(part, owner, counts, step, stream, of_here, scales=scales)
        leave(self.bank.G, step.phase.trained)

    def _parts(self, group_size: int, size: int) -> Iterator[tuple[int, int]]:
        """Yields the first client and the one after the last of each part of each group, `size` or fewer."""
        for group in range(0, self.bank.clients, group_size):
            end = min(group + group_size, self.bank.clients)
            for start in range(group, end, size):
                yield start, min(start + size, end)
