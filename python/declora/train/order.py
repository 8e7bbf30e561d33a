"""Which samples a client trains on at which step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from declora import seeds
from declora.federation import Federation

__all__ = [
    "ClientOrder",
    "Order",
    "PoissonOrder",
    "length_slices",
    "orders_of",
    "steps_per_round",
    "take",
    "work_in_words",
]


class Order(ABC):
    """Which samples a client takes at each of its local steps: a function of the seed, the client and the step.

    Attributes:
        shard: The client's sample indices.
        mean: Samples of a step, on average.
        most: Samples of a step, at most.
    """

    shard: NDArray[np.int64]
    mean: float
    most: int

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Steps in which as many samples are taken as there are."""

    @abstractmethod
    def batch(self, step: int) -> NDArray[np.int64]:
        """Returns the sample indices of the client's local step `step` (0-based over the whole run)."""


class ClientOrder(Order):
    """A client's endless stream of samples: its shard shuffled anew each epoch.

    The order is a function of (seed, client, epoch), so a position in it is one integer: the step.

    Args:
        shard: The client's sample indices.
        batch_size: Samples of a step.
        seed: Of the run.
        client: Names the client's own stream.
        whole_epochs: Whether an epoch ends with a batch of what is left. Otherwise every batch is full, and one that
            reaches the end of an epoch goes on in the next.
    """

    def __init__(
        self, shard: NDArray[np.int64], *, batch_size: int, seed: int, client: int, whole_epochs: bool = False
    ) -> None:
        self.shard = shard
        self.batch_size = self.most = batch_size
        self.mean = float(batch_size)
        self._seed = seed
        self._client = client
        self._whole_epochs = whole_epochs
        self._shuffled: dict[int, NDArray[np.int64]] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every sample is seen: ceil(samples / batch_size)."""
        return -(-len(self.shard) // self.batch_size)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Returns the sample indices of the client's local step `step` (0-based over the whole run)."""
        for epoch in self.unshuffled(step):
            self.shuffle(epoch, seeds.generator(self._seed, "order", self._client, epoch))
        if self._whole_epochs:
            epoch, place = divmod(step, self.steps_per_epoch)
            return self._shuffled[epoch][place * self.batch_size :][: self.batch_size]
        parts: list[NDArray[np.int64]] = []
        position, missing = step * self.batch_size, self.batch_size
        while missing:
            epoch, offset = divmod(position, len(self.shard))
            part = self._shuffled[epoch][offset : offset + missing]
            parts.append(part)
            position += len(part)
            missing -= len(part)
        return np.concatenate(parts)

    def unshuffled(self, step: int) -> list[int]:
        """Returns the epochs of `batch(step)` whose orders are still to be made; forgets those that are over then."""
        if self._whole_epochs:
            first = last = step // self.steps_per_epoch
        else:
            position, samples = step * self.batch_size, len(self.shard)
            first, last = position // samples, (position + self.batch_size - 1) // samples
        found = [epoch for epoch in range(first, last + 1) if epoch not in self._shuffled]
        if found:
            self._shuffled = {epoch: order for epoch, order in self._shuffled.items() if first <= epoch <= last}
        return found

    def seed_of(self, epoch: int) -> int:
        """Returns the seed of an epoch's order."""
        return seeds.derive(self._seed, "order", self._client, epoch)

    def shuffle(self, epoch: int, generator: np.random.Generator) -> None:
        """Makes the order of an epoch, by a generator of its seed."""
        self._shuffled[epoch] = generator.permutation(self.shard)


class PoissonOrder(Order):
    """Poisson sampling: each of a client's samples is taken at each step with the same chance, whatever else is.

    So a step may have many samples, or none. An epoch has as many steps as it takes until each sample is expected once.

    Args:
        shard: The client's sample indices.
        rate: The chance q of each sample at each step.
        seed: Of the run.
        client: Names the client's own stream.
    """

    def __init__(self, shard: NDArray[np.int64], *, rate: float, seed: int, client: int) -> None:
        self.shard = shard
        self.rate = rate
        self.mean, self.most = rate * len(shard), len(shard)
        self._seed = seed
        self._client = client

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which each sample is expected to have been taken once: ceil(1 / q)."""
        return math.ceil(1 / self.rate - 1e-9)  # a rate of 4/12 may have been rounded down

    def batch(self, step: int) -> NDArray[np.int64]:
        """Returns the sample indices of the client's local step `step` (0-based over the whole run)."""
        draws = seeds.generator(self._seed, "poisson", self._client, step).random(len(self.shard))
        return self.shard[draws < self.rate]


def orders_of(
    federation: Federation, shards: Sequence[NDArray[np.int64]], *, seed: int, whole_epochs: bool
) -> list[Order]:
    """Returns each client's order, as the federation samples.

    Args:
        federation: Whose clients they are.
        shards: Each one's sample indices; of packed texts, rows.
        seed: Of the run.
        whole_epochs: As for `ClientOrder`.
    """
    if federation.sampling == "poisson":
        return [
            PoissonOrder(shard, rate=float(rate), seed=seed, client=client)
            for client, (shard, rate) in enumerate(zip(shards, federation.sampling_rates, strict=True))
        ]
    return [
        ClientOrder(shard, batch_size=federation.batch_size, seed=seed, client=client, whole_epochs=whole_epochs)
        for client, shard in enumerate(shards)
    ]


def take(orders: Sequence[Order], steps: NDArray[np.int64], active: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Returns the sample indices of many clients' local steps: what `batch` returns of each, made together.

    Args:
        orders: Of each client.
        steps: `[clients]`: the number over the whole run of each one's step.
        active: `[clients]`: who takes it; the others get none.
    """
    taking = list(zip(orders, steps.tolist(), active.tolist(), strict=True))
    # All that begin an epoch at once: a generator for each would take ten times as long as its shuffle.
    begun = [
        (order, epoch)
        for order, step, takes in taking
        if takes and isinstance(order, ClientOrder)
        for epoch in order.unshuffled(step)
    ]
    drawn = seeds.generators(order.seed_of(epoch) for order, epoch in begun)
    for (order, epoch), generator in zip(begun, drawn, strict=True):
        order.shuffle(epoch, generator)
    return [order.batch(step) if takes else _NOTHING for order, step, takes in taking]


_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


def steps_per_round(orders: Sequence[Order], *, steps: int | None, epochs: int | None) -> NDArray[np.int64]:
    """Returns each client's optimizer steps in a round (K), int64 `[clients]`: those of `epochs`, or `steps`."""
    if epochs is None:
        return np.full(len(orders), steps, dtype=np.int64)
    return np.array([epochs * order.steps_per_epoch for order in orders], dtype=np.int64)


def work_in_words(steps: NDArray[np.int64], epochs: int | None) -> str:
    """Returns what K means: `5 steps`, or `1 epoch (12 to 17 steps)` by the clients' shares of the data.

    Args:
        steps: Of each client in a round, int64 `[clients]`.
        epochs: Passes over its data, where these were asked for.
    """
    least, most = int(steps.min()), int(steps.max())
    words = f"{most} step{'s' if most != 1 else ''}" if least == most else f"{least} to {most} steps"
    return words if epochs is None else f"{epochs} epoch{'s' if epochs != 1 else ''} ({words})"


def length_slices(lengths: NDArray[np.int64], *, smallest: int = 8, most: int = 4) -> list[NDArray[np.int64]]:
    """Returns row indices in up to `most` slices of similar length, longest first, none under `smallest` rows.

    Real sentences are short and uneven: one batch padded to its longest row is mostly padding. Longest first, so
    that the largest allocation comes first and is reused.
    """
    order = np.argsort(-lengths, kind="stable")
    return np.array_split(order, max(1, min(most, len(lengths) // smallest)))
