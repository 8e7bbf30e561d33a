"""The gradients of a step: of all clients, group by group, or of their examples one by one."""

import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from declora.errors import out_of_memory
from declora.methods import Step
from declora.model.bank import AdapterBank
from declora.model.unpadded import ByClient
from declora.plan import Columns
from declora.train.order import Order
from declora.train.passes import Passes, Texts

__all__ = ["Change", "Gradients", "leave"]

Change: TypeAlias = Callable[[torch.Tensor], None]
"""Changes gradients of examples, float32 `[examples, D]`, in place."""
_HALVING = {"cuda"}
"""Kinds of devices on which fewer clients are computed together where memory runs out."""


class Gradients:
    """What computes the gradients of all clients of this process.

    A *group* is a fixed run of clients whose step is computed together: their tokens follow each other, or where the
    model needs its padding, their sequences are sorted by length across clients and computed in a few slices, each with
    its own client's adapter. Padding, sorting and masks depend on the group alone, so the same config gives the same
    adapters however groups are spread over processes.

    An example has a gradient of its own where it is computed as if it were a client with one text: those of a group
    are computed together, in as few passes as there is memory for.

    Args:
        passes: How the model computes texts.
        bank: P and G.
        orders: Of each client.
        group_size: Clients that are computed together.
        examples: Examples that are, where each has a gradient of its own.
        first: The number in the run of the first client here.
    """

    def __init__(
        self,
        passes: Passes,
        bank: AdapterBank,
        orders: Sequence[Order],
        *,
        group_size: int,
        examples: int,
        first: int = 0,
    ) -> None:
        self._passes = passes
        self._bank = bank
        self._most = np.array([order.most for order in orders])
        self._mean = torch.tensor([order.mean for order in orders], dtype=torch.float32, device=bank.P.device)
        self.group_size = group_size
        self._first = first
        self._examples = examples
        self._halved = False

    def compute(
        self,
        step: Step,
        done: NDArray[np.int64],
        batches: Sequence[NDArray[np.int64]],
        change: Change | None = None,
    ) -> torch.Tensor:
        """Computes the gradients of a step into G: of each client's mean loss, zero where nothing is trained.

        Args:
            step: Which.
            done: `[clients]`: steps of the round that each has taken before.
            batches: Of each client, the texts; none of those that wait.
            change: What is done to the gradient of each example's own mean loss, in the columns that are trained; then
                G has the sum of a client's over the mean size of its batches, whatever that of this one is. None: G is
                computed without them.

        Returns:
            Each client's loss, float32 `[clients]`: the mean over its batch; with `change`, the sum over its examples
            by the mean size of its batches.
        """
        scaling = self._bank.loss_scale
        if scaling is None:
            return self._computed(step, done, batches, change)
        return scaling.settled(self._bank.G, lambda: self._computed(step, done, batches, change))

    def _computed(
        self, step: Step, done: NDArray[np.int64], batches: Sequence[NDArray[np.int64]], change: Change | None
    ) -> torch.Tensor:
        """Computes the gradients, in smaller groups where memory runs out."""
        losses = None
        try:
            losses = self._all_groups(step, done, batches, change)
        except Exception as error:
            if not self._halve(error):
                raise
        if losses is None:  # here what was computed is no longer held by the error
            if self._bank.P.is_cuda:
                torch.cuda.empty_cache()
            losses = self._all_groups(step, done, batches, change)
        return losses

    def _all_groups(
        self, step: Step, done: NDArray[np.int64], batches: Sequence[NDArray[np.int64]], change: Change | None
    ) -> torch.Tensor:
        self._bank.G.zero_()  # it must stay the matrix that the leaves' `.grad` are views of
        losses = []
        for start, stop in self._groups():
            own = batches[start:stop]
            counts = np.array([len(batch) for batch in own])
            before = done[start:stop] * self._most[start:stop]
            places = [first + np.arange(count) for first, count in zip(before, counts, strict=True)]
            clients = np.repeat(np.arange(start, stop), counts) + self._first
            texts = Texts(np.concatenate(own), clients, np.concatenate(places))
            if change is None:
                found = self._of_clients(start, texts, counts, step)
            else:
                found = self._of_examples(start, texts, step, change)
            losses.append(_by_client(found, counts))
        if change is None:
            leave(self._bank.G, step.phase.trained)
            return torch.cat(losses)
        self._bank.G.div_(self._mean.unsqueeze(1))
        return torch.cat(losses) / self._mean

    def _of_clients(self, start: int, texts: Texts, counts: NDArray[np.int64], step: Step) -> torch.Tensor:
        """Accumulates the gradients of the clients from `start` on into G; returns the losses of `texts`."""
        with self._bank.group(start, start + len(counts)) as scales:
            owner, stream = texts.clients - self._first - start, (self._first + start, 0)
            return self._passes.backward(texts, owner, counts, step, stream, scales=scales)

    def _of_examples(self, start: int, texts: Texts, step: Step, change: Change) -> torch.Tensor:
        """Adds the gradients of `texts`, changed, to their clients' rows of G; returns their losses."""
        losses = [torch.zeros(0, dtype=torch.float32, device=self._bank.P.device)]
        for at in range(0, len(texts), self._examples):
            part = texts[at : at + self._examples]
            rows, owner = np.arange(len(part)), part.clients - self._first
            with self._bank.examples(owner) as (gradients, scales):
                stream = (self._first + start, at)
                losses.append(self._passes.backward(part, rows, np.ones_like(rows), step, stream, scales=scales))
            leave(gradients, step.phase.trained)
            change(gradients)
            for row, gradient in zip(owner.tolist(), gradients, strict=True):
                self._bank.G[row].add_(gradient)  # one by one, so in one order on every device
        return torch.cat(losses)

    def _groups(self) -> list[tuple[int, int]]:
        clients, size = self._bank.clients, self.group_size
        return [(i, min(i + size, clients)) for i in range(0, clients, size)]

    def _halve(self, error: Exception) -> bool:
        """Halves the groups, once in a run, where a GPU's memory ran out of a step; returns whether it did.

        Results change by rounding alone there. On a CPU they may not change with the memory that happens to be free.
        """
        if self._halved or self.group_size < 2 or self._bank.P.device.type not in _HALVING or not out_of_memory(error):
            return False
        self._halved = True
        before, self.group_size = self.group_size, self.group_size // 2
        self._examples = max(1, self._examples // 2)
        warnings.warn(
            f"The memory of {self._bank.P.device} ran out, so clients are computed in groups of {self.group_size} from "
            f"now on, in place of {before}. Set group_size={self.group_size} to begin with these.",
            stacklevel=2,
        )
        return True


def _by_client(losses: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
    """Returns the sums of what follows each other client by client, in one order on every device."""
    rows = ByClient(counts, losses.device)
    places = losses.new_zeros(len(counts) * rows.most).index_copy(0, rows.place, losses)
    return places.view(len(counts), rows.most).sum(dim=1)


def leave(gradients: torch.Tensor, trained: Columns) -> None:
    """Leaves nothing in the columns of `gradients [n, D]` but in those that are trained."""
    for start, stop in trained.rest.spans:
        gradients[:, start:stop] = 0.0
