"""Where the clients of a run are: in one process, or divided over ranks."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from declora.agreement import check_spread
from declora.cluster import Cluster, Site, hosts
from declora.config import SimulationConfig
from declora.data.client_files import names_files
from declora.federation import Federation
from declora.measuring import RoundReport
from declora.methods import Stack
from declora.ranks import Beginning, Ranks
from declora.state import State
from declora.train.evaluate import Tally, Tallying

__all__ = ["Beginning", "Together", "gathering_of"]


class Together:
    """All clients in this process.

    Args:
        clients: How many.
        group_size: Clients that are computed together.
    """

    leads = True
    notes: tuple[str, ...] = ()

    def __init__(self, clients: int, group_size: int) -> None:
        self.site, self.group_size = Site.whole(clients), group_size

    def where(self) -> tuple[int, int]:
        """Returns which client is the first here, and how many are computed together."""
        return self.site.start, self.group_size

    def begin(self, beginning: Beginning, agreed: Callable[[], Mapping[str, object]]) -> Beginning:
        """Returns the beginning."""
        return beginning

    def spread(self, federation: Federation) -> Federation:
        """Returns the federation."""
        return federation

    def started(self, state: State) -> State:
        """Returns the state, which is that of all clients."""
        return state

    def telling(self) -> AbstractContextManager[None]:
        """Has nobody to tell that a run cannot go on."""
        return nullcontext()

    def gather(self, event: int, report: RoundReport, *, whole: bool) -> RoundReport:
        """Returns the report."""
        return report

    def appraise(self, event: int, row: torch.Tensor, average: Tallying) -> list[Tally]:
        """Returns what an adapter does on the samples, all of which are here."""
        return average(row)

    def answer(self, event: int, average: Tallying) -> None:
        """Has nobody to answer to."""


def gathering_of(
    cluster: Cluster | None,
    config: SimulationConfig,
    federation: Federation,
    method: Stack,
    group_size: int,
    evaluated: Sequence[int],
) -> Together | Ranks:
    """Returns the process or processes of a run.

    Args:
        cluster: The ranks; None: this process alone.
        config: The settings.
        federation: Who takes part.
        method: The method.
        group_size: Clients that this process would compute together.
        evaluated: Samples of each client's own to evaluate on; none where all have the same.

    Raises:
        ConfigError: The run cannot be spread over the ranks.
    """
    if cluster is None:
        return Together(federation.clients, group_size)
    check_spread(federation, method)
    own = names_files(config.data)
    return Ranks(
        cluster,
        federation,
        group_size,
        chosen=config.group_size is not None,
        patience=config.peer_timeout,
        rounds=config.rounds,
        sites=hosts(config.clients, cluster.ranks, group_size=config.group_size) if own else None,
        apart=bool(evaluated),
    )
