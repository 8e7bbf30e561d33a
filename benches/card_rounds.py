"""Rounds of declora, and of a PEFT loop, on a card: timed whole, once the card has done what it was given."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from declora.run import Run
from declora.train.order import ClientOrder
from peers.peft_loop import PeftLoop

__all__ = ["Figures", "Timing", "of_declora", "of_peft", "orders_of", "release"]


@dataclass(frozen=True)
class Figures:
    """What was measured of rounds."""

    sequences_per_s: float
    tokens_per_s: float
    seconds: float
    """Of a round, the median."""
    peak_gib: float | None
    """The most that the card held, with one base; None on a CPU."""
    losses: NDArray[np.float64]
    """Of each client in the first round."""
    gossip_percent: float | None = None
    """Share of a round in which messages are encoded, exchanged and mixed, as its record says."""
    rest_percent: float | None = None
    """Share of a round that is not training."""
    by: str = ""
    """Who computed them, and how."""


@dataclass(frozen=True)
class Timing:
    """How many rounds are timed, and where."""

    device: torch.device
    turns: int
    """Counted rounds, at most; one before them is not counted."""
    limit: float
    """Seconds after which no other round begins, but for the first that is counted."""

    def now(self) -> float:
        """Returns the time once the card has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def measure(self, one: Callable[[], NDArray[np.float64]], run: Run, orders: Sequence[ClientOrder]) -> Figures:
        """Returns figures of rounds.

        Args:
            one: Runs the next round; returns each client's loss.
            run: Whose texts they are of.
            orders: Of the clients that train in them.
        """
        on_card = self.device.type == "cuda"
        if on_card:
            torch.cuda.reset_peak_memory_stats(self.device)
        seconds, first, begin = list[float](), np.empty(0), self.now()
        while len(seconds) <= self.turns and (len(seconds) < 2 or self.now() - begin < self.limit):
            start = self.now()
            losses = one()
            seconds.append(self.now() - start)
            first = losses if len(seconds) == 1 else first
        total, steps = sum(seconds[1:]), run.config.local_steps
        numbers = range(steps, len(seconds) * steps)
        lengths = run.material.train.lengths
        tokens = sum(int(lengths[order.batch(step)].sum()) for step in numbers for order in orders)
        sequences = len(numbers) * sum(order.batch_size for order in orders)
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30 if on_card else None
        return Figures(sequences / total, tokens / total, statistics.median(seconds[1:]), peak, first)


def orders_of(run: Run) -> list[ClientOrder]:
    """Returns which texts each client trains on when."""
    config = run.config
    return [
        ClientOrder(shard, batch_size=config.batch_size, seed=config.seed, client=client)
        for client, shard in enumerate(run.federation.shards)
    ]


def of_declora(run: Run, timing: Timing) -> Figures:
    """Measures rounds of declora."""
    gossip, rest, rounds = list[float](), list[float](), run.rounds()

    def one() -> NDArray[np.float64]:
        start = timing.now()
        record = next(rounds)
        taken = timing.now() - start
        phases = {name: value for name, value in record.items() if name.startswith("seconds_")}
        training = phases.pop("seconds_train")
        gossip.append(sum(phases.values()) / taken)
        rest.append(1 - training / taken)
        return np.array([client["train_loss"] for client in record["clients"]])

    try:
        found = timing.measure(one, run, orders_of(run))
    finally:
        rounds.close()
    way = "apart" if not run.sharing.together else "padded" if run.sharing.unpadding is None else "packed"
    return replace(
        found,
        gossip_percent=100 * statistics.median(gossip[1:]),
        rest_percent=100 * statistics.median(rest[1:]),
        by=f"declora, {way}, {run.group_size:,} at once" + ", compiled" * (run.sharing.compilation is not None),
    )


def of_peft(run: Run, clients: int, timing: Timing) -> Figures:
    """Measures rounds of a PEFT loop over the first `clients`, from the adapter that they have in `run`."""
    base, orders, steps = run.material.base, orders_of(run)[:clients], run.config.local_steps
    start = run.layout.unflatten(run._surgery.initial)
    loop = PeftLoop(
        base.model, run._surgery.config, start, run.material.train, rate=run.config.learning_rate,
        clip=run.config.clip_norm,
    )  # fmt: skip
    numbers = iter(range(timing.turns + 1))

    def one() -> NDArray[np.float64]:
        first = next(numbers) * steps
        return loop.round(orders, range(first, first + steps))

    found = timing.measure(one, run, orders)
    # The loop has a base of its own, beside that of the run.
    peak = None if found.peak_gib is None else found.peak_gib - base.storage.size / 2**30
    return replace(found, peak_gib=peak, by="PEFT, one at a time")


def release(device: torch.device) -> None:
    """Gives back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
