"""Who takes part in a run, and how they talk: built and checked as a whole before data and model are loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from declora.attacks import Attack
from declora.clock import Clock
from declora.codec import PublicCopies, RunCodec, parse_codec
from declora.detection import CopyDetector
from declora.exchange import Exchange, LocalExchange, LyingExchange, SilentExchange, StarExchange
from declora.faults import Faults, Struck
from declora.mixer import Linear, Mixer
from declora.topology import Topology, server

__all__ = ["Federation"]


@dataclass(frozen=True)
class Federation:
    """Who trains, and how they talk. What each trains on is known later: `holding`."""

    clients: int
    """Number of clients that train."""
    batch_size: int
    """Samples of one local step of one client."""
    topology: Topology
    codec: RunCodec = field(default_factory=lambda: parse_codec("none"))
    exchange: Exchange = field(default_factory=LocalExchange)
    mixer: Mixer = field(default_factory=Linear)
    attack: Attack | None = None
    """What some clients send instead of what they have; None where all are honest."""
    faults: Faults = field(default_factory=Faults)
    """Who goes away, and what gets lost on its way."""
    detector: CopyDetector | None = None
    """What clients look for in what they hear; None: nobody looks."""
    clock: Clock | None = None
    """How long it would take clients on machines and links of their own; None: nobody asks, or there is but one."""
    weights: str | None = None
    """The rule of the mixing weights that was asked for; None: the method's own."""
    weighing: Callable[[NDArray[np.int64]], Topology] | None = field(default=None, repr=False)
    """Makes the topology of how many samples each client has, `[clients]`; None where that is no matter."""
    overlap: bool = False
    """Whether messages go while the local steps of their round are taken."""
    sampling: Literal["shuffled", "poisson"] = "shuffled"
    """How a client takes the samples of its steps: its shard shuffled anew each epoch, in batches of `batch_size`; or
    each sample by itself at each step, with a chance of which a batch has `batch_size` on average."""
    rounds: int = 0
    """Of the whole run."""
    choosing: bool = False
    """Whether each client chooses in each round what it sends, so that messages are of unlike sizes."""
    seed: int = 0
    """The run's, from which parts of a method draw what is random."""
    ranks: tuple[int, ...] = ()
    """Each client's rank of LoRA; empty where all have that of the settings."""
    spare_rank: int = 0
    """How many components each layer has beyond those that clients train, the last ones."""
    shards: tuple[NDArray[np.int64], ...] = ()
    """Each client's sample indices; empty until `holding`."""
    notes: tuple[str, ...] = ()
    """What was guessed or changed, in whole sentences."""

    @property
    def samples(self) -> NDArray[np.int64]:
        """`[clients]`, how many samples each client has."""
        return np.array([len(shard) for shard in self.shards], dtype=np.int64)

    @property
    def sampling_rates(self) -> NDArray[np.float64]:
        """`[clients]`: q, the chance of each sample of a client at each of its steps under Poisson sampling."""
        return np.minimum(1.0, self.batch_size / self.samples)

    @property
    def attackers(self) -> tuple[int, ...]:
        """Clients that lie; nobody does where nobody talks."""
        return () if self.attack is None or self.exchange.silent else self.attack.attackers

    @property
    def honest(self) -> list[int]:
        """The other clients, ascending: whose adapters count."""
        return [client for client in range(self.clients) if client not in self.attackers]

    @property
    def uneven(self) -> bool:
        """Whether messages may be of unlike sizes: by clients' ranks, by what they choose to send, or by the codec."""
        return len(set(self.ranks)) > 1 or self.choosing or self.codec.variable_length

    @property
    def tolerant(self) -> bool:
        """Whether a run goes on without a message that is refused: somebody lies, or is guarded against."""
        return self.attack is not None or self.mixer.robust

    @property
    def lying(self) -> Exchange:
        """The exchange with the attackers in it."""
        if self.attack is None or self.exchange.silent:
            return self.exchange
        return LyingExchange(self.exchange, self.attack, mixer=str(self.mixer))

    @property
    def cautions(self) -> tuple[str, ...]:
        """What may go wrong though each part is sound, in whole sentences.

        A rule that chooses among values does not keep the mean: what the codec did to the chosen ones moves all clients
        together, anew each round. Public copies come ever closer to what is sent, so little is left to add up.
        """
        exact = self.codec.exact or issubclass(self.codec.memory, PublicCopies)
        if self.exchange.silent or self.mixer.weighted or exact:
            return ()
        return (
            f"mixer={str(self.mixer)!r} does not keep the mean, so that what codec={self.codec.name!r} loses adds up "
            "over the rounds and may move all clients away from what they learned; with codec="
            f"{self.codec.plain + '+choco'!r} ever less is lost, and mixer='clipped' nearly keeps the mean.",
        )

    def timed(self, room: dict[str, Any], struck: Struck, bytes_sent: NDArray[np.int64]) -> dict[str, float]:
        """Returns how many seconds the run would have taken after a round, for its record; nothing without a clock.

        Args:
            room: What the clock keeps.
            struck: The round.
            bytes_sent: `[clients]`.
        """
        if self.clock is None:
            return {}
        if struck.plan.seconds is not None:
            return {"simulated_seconds": struck.plan.seconds}
        seconds = self.clock.round(
            room, struck.plan, bytes_sent, struck.away, served=self.exchange.served, overlap=self.overlap
        )
        return {"simulated_seconds": seconds}

    @property
    def pairwise(self) -> bool:
        """Whether something looks at each pair of clients that talk, even if all apply the same weights."""
        timed = self.clock is not None and not self.exchange.served
        looking = timed or self.attack is not None or self.detector is not None
        return not self.mixer.averages or bool(self.faults.kinds) or looking

    def check(self, *, pairwise: bool = False) -> None:
        """Checks that the mixer means something on the graph, and that what is needed of the graph fits memory.

        Args:
            pairwise: Whether the method looks at pairs of clients, too.

        Raises:
            ConfigError: It does not; names the graph, the client and the fix.
        """
        if not self.exchange.silent:
            self.mixer.check(self.topology)
            if pairwise or self.pairwise:
                self.topology.check_pairs()

    def alone(self) -> "Federation":
        """Returns the same clients, who never talk."""
        return replace(self, exchange=SilentExchange())

    def merged(self) -> "Federation":
        """Returns one client in the place of all: their data, and batches as large as all of theirs together."""
        return replace(
            self.alone(),
            clients=1,
            batch_size=self.batch_size * self.clients,
            topology=Topology.build("complete", 1),
            clock=None,
            weighing=None,
        )

    def served(self, *, by_samples: bool) -> "Federation":
        """Returns the same clients around one server, uncompressed, who count by their samples, or all the same."""
        return replace(
            self,
            topology=server(
                self.clients, np.ones(self.clients, dtype=np.int64) if by_samples else None, self.topology.nodes
            ),
            weighing=partial(server, self.clients, nodes=self.topology.nodes) if by_samples else None,
            codec=parse_codec("none"),
            exchange=StarExchange(),
        )

    def holding(self, shards: Sequence[NDArray[np.int64]]) -> "Federation":
        """Returns the federation whose clients have these samples; one that stands for all has all of them.

        Args:
            shards: Indices of each client's samples, int64.

        Raises:
            TopologyError: The weights of clients that count by their samples cannot be found.
            ConfigError: The mixer means nothing with these weights.
        """
        if self.clients == 1 and len(shards) > 1:
            shards = (np.concatenate(shards),)
        held = replace(self, shards=tuple(shards))
        topology = held.topology if held.weighing is None else held.weighing(held.samples)
        held = replace(held, topology=topology, weighing=None, notes=(*held.notes, *topology.notes))
        held.check()
        return held
