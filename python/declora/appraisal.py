"""What an adapter does on samples that each rank alone has: rank 0 asks, the others answer with sums."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from declora.cluster import Cluster, Kind
from declora.train.evaluate import Tally, Tallying

__all__ = ["answer", "ask"]


def ask(cluster: Cluster, event: int, row: torch.Tensor, average: Tallying) -> list[Tally]:
    """Returns what an adapter does on the samples of each client that is not lost, in their order.

    Args:
        cluster: Seen from rank 0.
        event: Of the round, from 0.
        row: The adapter, float32 `[D]`.
        average: Returns what it does on the samples here.
    """
    said = row.cpu().numpy().tobytes()
    for link in cluster.links.values():
        link.send(Kind.AVERAGE, event + 1, said)
    found = average(row)
    for rank in range(1, cluster.ranks):
        content = cluster.hear(rank, Kind.TALLIES, event + 1)
        if content is not None:
            found += [_tally(one) for one in json.loads(bytes(content))]
    return found


def answer(cluster: Cluster, event: int, average: Tallying) -> None:
    """Tells rank 0 what its adapter does on the samples here; nothing where rank 0 is lost.

    Args:
        cluster: Seen from another rank.
        event: Of the round, from 0.
        average: Returns what an adapter does on the samples here.
    """
    content = cluster.hear(0, Kind.AVERAGE, event + 1)
    if content is None:
        return
    row = torch.from_numpy(content.view(np.float32).copy())
    told = [
        {**asdict(tally), "confusion": None if tally.confusion is None else tally.confusion.tolist()}
        for tally in average(row)
    ]
    cluster.links[0].send(Kind.TALLIES, event + 1, json.dumps(told).encode())


def _tally(told: dict[str, Any]) -> Tally:
    confusion = told["confusion"]
    return Tally(**{**told, "confusion": None if confusion is None else np.array(confusion, dtype=np.int64)})
