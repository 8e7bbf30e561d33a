"""A pass of the model over some texts of a step, there and back: losses, and gradients of the rows that are bound."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import process, seeds
from declora.cuda import to_device
from declora.methods import PublicLoss, Step
from declora.model.compilation import Compilation
from declora.model.owners import RowOwners
from declora.model.recompute import Recomputation
from declora.model.unpad import Unpadding
from declora.train.loss import batch_losses, place_losses
from declora.train.order import length_slices
from declora.train.packing import unpadded_batch
from declora.train.scored import PlaceLoss, ScoredHead
from declora.train.tokens import Tokens

__all__ = ["Passes", "Texts"]


@dataclass(frozen=True)
class Texts:
    """What clients that follow each other compute in a step, client by client."""

    index: NDArray[np.int64]
    """`[R]`: which texts."""
    clients: NDArray[np.int64]
    """`[R]`: whose each is, as counted in the run."""
    places: NDArray[np.int64]
    """`[R]`: each one's place among its client's samples of the round."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "Texts":
        return Texts(self.index[rows], self.clients[rows], self.places[rows])


@dataclass(frozen=True)
class Passes:
    """How a model computes texts."""

    model: PreTrainedModel
    owners: RowOwners
    """What its batched layers read."""
    tokens: Tokens
    """All texts."""
    device: torch.device
    """Where it computes."""
    sort_by_length: bool = True
    """Whether texts that keep their padding are computed in a few slices of like length."""
    base_dropout: bool = False
    """Whether the base's own dropout is on in training."""
    unpadding: Unpadding | None = None
    head: ScoredHead | None = None
    recomputation: Recomputation | None = None
    compilation: Compilation | None = None
    seed: int = 0
    """Of the base's own dropout."""

    @contextmanager
    def training(self) -> Iterator[None]:
        """Has the model ready for passes there and back."""
        self.model.train(self.base_dropout)
        try:
            with ExitStack() as installed:
                for way in (self.unpadding, self.compilation, self.recomputation):
                    if way is not None:
                        installed.enter_context(way.installed())
                yield
        finally:
            self.model.eval()

    def backward(
        self,
        texts: Texts,
        owner: NDArray[np.int64],
        counts: NDArray[np.int64],
        step: Step,
        stream: tuple[int, int],
        loss: "PublicLoss | None" = None,
        *,
        scales: NDArray[np.float32] | None = None,
    ) -> torch.Tensor:
        """Accumulates the gradient of each bound row's mean loss.

        The mean is over targets (texts; tokens of a causal LM), not over texts: a long answer counts more than a short
        one, as in the model's own loss of a batch.

        Args:
            texts: What is computed.
            owner: `[R]`: which of the rows that are bound each text is computed with, rising.
            counts: `[rows]`: how many texts each of these has.
            step: Of which this is a part.
            stream: Names the pass among those of the step: the base's own dropout is drawn by it.
            loss: What is learned of logits; None: the cross-entropy of the texts' own labels, or next tokens.
            scales: `[rows]`: what the gradient of each is multiplied with; None: nothing.

        Returns:
            What each text adds to its row's mean loss, float32 `[R]`.
        """
        losses = torch.zeros(len(texts), dtype=torch.float32, device=self.device)
        if not len(texts):
            return losses
        weights = self._weights(texts, owner, len(counts))
        lengths = self.tokens.lengths[texts.index]
        whole = self.unpadding is not None or not self.sort_by_length
        for part, rows in enumerate([np.arange(len(texts))] if whole else length_slices(lengths)):
            batch = self.tokens.batch(texts.index[rows], self.device)
            computing = self.owners.computing(
                len(rows),
                owner=None if len(counts) == 1 else to_device(owner[rows], self.device),
                unpadded=None if self.unpadding is None else unpadded_batch(lengths, counts, self.device),
                clients=texts.clients[rows].astype(np.uint32),
                samples=texts.places[rows].astype(np.uint32),
                round=step.plan.event,
                training=True,
            )
            with computing, self._dropout_stream(step, stream[0], stream[1] + part):
                if loss is None:
                    found = batch_losses(self.model, batch, self.head)
                else:
                    found = place_losses(self.model, batch, self.head, self._of_places(texts[rows], loss))
                weighted = found * to_device(weights[rows], self.device)
                scaled = weighted if scales is None else weighted * to_device(scales[owner[rows]], self.device)
                scaled.sum().backward()
            losses.index_copy_(0, to_device(rows, self.device), weighted.detach())
        return losses

    def _of_places(self, texts: Texts, loss: "PublicLoss") -> PlaceLoss:
        """Returns a loss as the passes of some texts take it, whose places follow each other."""
        clients = to_device(np.repeat(texts.clients, self.tokens.targets(texts.index)), self.device)
        places = to_device(self.tokens.places_of(texts.index), self.device)
        return lambda logits, part: loss(logits, clients[part], places[part])

    def _weights(self, texts: Texts, owner: NDArray[np.int64], rows: int) -> NDArray[np.float32]:
        """Returns what each text's summed loss counts, float32 `[R]`."""
        targets = np.bincount(owner, weights=self.tokens.targets(texts.index), minlength=rows)
        return (1.0 / np.maximum(targets, 1.0))[owner].astype(np.float32)

    @contextmanager
    def _dropout_stream(self, step: Step, start: int, part: int) -> Iterator[None]:
        """Seeds the base's own dropout, where it is on, by (round, step, pass, slice).

        The way back draws, too, where activations are computed anew for it.
        """
        if not self.base_dropout:
            yield
            return
        seed = seeds.derive(self.seed, "base-dropout", step.plan.event, step.number, start, part)
        with process.seeded(seed, self.device):
            yield
