"""When each client is done with a round."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import seeds
from declora.clock.speeds import Speeds
from declora.plan import Mask, Plan

__all__ = ["Clock"]


@dataclass(frozen=True)
class Clock:
    """Seconds that a round would take on machines and links of given speeds, while all is simulated in one process.

    Nobody waits for all: a client begins its next round once it has done its steps and heard from its neighbours, or
    waited `wait` seconds for what is lost; nobody waits for what comes rounds late. A message goes along its link once
    its sender has done its steps, and takes the latency and its bytes by the bandwidth; the links of a client do not
    slow each other down. Over a server there are two such ways, and it begins the second once it has heard from all.

    Attributes:
        speeds: How fast clients and links are.
        name: As settings write it.
        seed: The run's.
        stragglers: Share of a client's rounds that take `slower` times as long.
        slower: How many times.
        wait: Seconds after which a client goes on without what it has not heard.
    """

    speeds: Speeds
    name: str
    seed: int = 0
    stragglers: float = 0.0
    slower: float = 10.0
    wait: float = 1.0

    def round(
        self,
        room: dict[str, Any],
        plan: Plan,
        bytes_sent: NDArray[np.int64],
        away: Mask | None,
        *,
        served: bool,
        overlap: bool = False,
    ) -> float:
        """Counts a round; returns the seconds after which all that were there are done with it.

        Args:
            room: Keeps when each client was done, float64 `[clients]`; empty before the first round.
            plan: Of the round.
            bytes_sent: `[clients]`: bytes on each client's links.
            away: Which clients are not there, `[clients]`; None: all are. Time goes on for them, too.
            served: Whether messages go to a server and back.
            overlap: Whether they go while the steps are taken.
        """
        clients = len(bytes_sent)
        began: NDArray[np.float64] = room.setdefault("done", np.zeros(clients))
        trained = began + plan.steps * self.speeds.steps(clients) * self._slowed(plan.event, clients)
        if not bytes_sent.any():
            done = trained
        else:
            ready = began if overlap else trained
            heard = self._served(ready, bytes_sent) if served else self._heard(ready, plan, bytes_sent)
            done = np.maximum(trained, heard)
        if away is not None and away.any():
            done[away] = done[~away].max(initial=began.max())
        room["done"] = done
        return float(done.max())

    def slowed(self, client: int, turn: int) -> float:
        """Returns how many times as long a client takes for its steps of this turn, where it waits for nobody."""
        slow = seeds.generator(self.seed, "clock", "stragglers", client, turn).random() < self.stragglers
        return self.slower if slow else 1.0

    def _slowed(self, t: int, clients: int) -> NDArray[np.float64]:
        slow = seeds.generator(self.seed, "clock", "stragglers", t).random(clients) < self.stragglers
        return np.where(slow, self.slower, 1.0)

    def _heard(self, ready: NDArray[np.float64], plan: Plan, bytes_sent: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns when each client has heard from its neighbours, or given up on one, `[clients]`.

        Messages go when their senders are `ready`.
        """
        senders, receivers = plan.edges.T
        size = bytes_sent / np.maximum(1, np.bincount(senders, minlength=len(ready)))
        arrives = ready[senders] + self._on_its_way(plan.edges, size[senders])
        arrives = np.where(_among(plan.edges, plan.lost), ready[receivers] + self.wait, arrives)
        arrives = np.where(_among(plan.edges, plan.delayed), 0.0, arrives)
        heard = ready.copy()
        np.maximum.at(heard, receivers, arrives)
        return heard

    def _served(self, ready: NDArray[np.float64], bytes_sent: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns when each client has heard from the server, which has heard from all, `[clients]`."""
        way = self._on_its_way(np.stack([np.arange(len(ready), dtype=np.int32)] * 2, axis=1), bytes_sent / 2)
        heard: NDArray[np.float64] = (ready + way).max() + way
        return heard

    def _on_its_way(self, edges: NDArray[np.int32], size: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.speeds.latency(edges) + size / self.speeds.bandwidth(edges)

    def __str__(self) -> str:
        """The clock, as settings write it."""
        return self.name


def _among(edges: NDArray[np.int32], some: NDArray[np.int32] | None) -> Mask:
    """Returns which of `edges [E, 2]` are among others, bool `[E]`."""
    if some is None or not len(some):
        return np.zeros(len(edges), dtype=np.bool_)
    numbers, wanted = (pairs[:, 0].astype(np.int64) << 32 | pairs[:, 1] for pairs in (edges, some))
    return np.isin(numbers, wanted)
