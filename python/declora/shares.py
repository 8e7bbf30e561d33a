"""What each client trains on, whether its samples are here or on another host, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora.agreement import check_spread
from declora.config import SimulationConfig
from declora.data import Partition
from declora.data.partitions import kept_apart
from declora.federation import Federation
from declora.hosts import Host
from declora.methods import Stack
from declora.prepare import Material, check_nodes, divide
from declora.train.order import Order, orders_of, steps_per_round
from declora.train.packing import pack_blocks, pack_examples
from declora.train.split import split_bytes
from declora.train.tokens import Tokens

__all__ = ["Shares", "share_out"]

_Rows = tuple[NDArray[np.int64], ...]


@dataclass(frozen=True)
class Shares:
    """What clients train on."""

    federation: Federation
    """With each client's samples."""
    partition: Partition
    tokens: Tokens
    """What is here: rows of texts, or of several where these are packed."""
    orders: Sequence[Order]
    """Of each client; those of clients elsewhere say only how much there is."""
    local_steps: NDArray[np.int64]
    """`[clients]`: steps of each client in a round."""
    longest: int
    """Tokens of the longest row of any client."""
    evaluated: tuple[int, ...] = ()
    """Samples of each client's own, wherever they are, that it can be evaluated on; none where all have the same."""
    whole: bool = True
    """Whether what all clients train on is here."""

    def split_bytes(self, model: PreTrainedModel, steps: NDArray[np.int64]) -> int | None:
        """Returns what split training would send in a round, see `train.split`; None where not all texts are here.

        Args:
            model: Its config says how wide it is.
            steps: `[clients]`, of the first round.
        """
        return split_bytes(model, self.tokens, self.orders, steps) if self.whole else None


def share_out(
    config: SimulationConfig, material: Material, federation: Federation, method: Stack, host: Host | None
) -> Shares:
    """Returns what clients train on.

    Args:
        config: The settings.
        material: Data and model.
        federation: Who takes part.
        method: The method.
        host: Where this rank has the data of its clients alone.

    Raises:
        DataError: The data cannot be divided or packed like that, or another rank has failed.
        TopologyError: As `divide`.
        ConfigError: A run with data on several hosts needs them in one place.
    """
    epochs = config.local_epochs
    if host is None:
        federation, partition = divide(config, material.text, federation, method)
        tokens, rows = _packed(config, material, federation.shards)
        orders = orders_of(federation, rows, seed=config.seed, whole_epochs=epochs is not None)
        steps = steps_per_round(orders, steps=config.local_steps, epochs=epochs)
        evaluated = tuple(_sizes(material.text.evaluation_shards or ()))
        return Shares(federation, partition, tokens, orders, steps, int(tokens.lengths.max()), evaluated)
    check_spread(federation, method)
    first = host.site.start
    with host.telling():
        shards = material.text.shards or ()
        tokens, rows = _packed(config, material, shards, first=first)
        fact = {
            "samples": _sizes(shards),
            "rows": _sizes(rows),
            "longest": int(tokens.lengths.max()),
            "evaluated": _sizes(material.text.evaluation_shards or ()),
        }
    told = host.tell(fact)
    partition = kept_apart(shards, [count for one in told for count in one["samples"]], first=first)
    check_nodes(federation.topology, partition.name)
    federation = federation.holding(partition.shards)
    all_rows = kept_apart(rows, [count for one in told for count in one["rows"]], first=first).shards
    orders = orders_of(federation, all_rows, seed=config.seed, whole_epochs=epochs is not None)
    steps = steps_per_round(orders, steps=config.local_steps, epochs=epochs)
    evaluated = tuple(count for one in told for count in one["evaluated"])
    longest = max(one["longest"] for one in told)
    return Shares(federation, partition, tokens, orders, steps, longest, evaluated, whole=False)


def _packed(config: SimulationConfig, material: Material, shards: _Rows, *, first: int = 0) -> tuple[Tokens, _Rows]:
    """Returns what clients train on, the first of whom has the number `first`, and which rows of it each has."""
    if not config.packing:
        return material.train, shards
    if material.text.has_prompts:
        return pack_examples(material.train, shards, max_length=config.max_length)
    return pack_blocks(material.train, shards, max_length=config.max_length, first=first)


def _sizes(shards: _Rows) -> list[int]:
    return [len(shard) for shard in shards]
