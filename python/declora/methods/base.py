"""What a method is."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from declora.attacks import Attack
from declora.codec import PublicCopies, RunCodec
from declora.exchange import Exchange
from declora.mixer import Linear, Mixer
from declora.topology import Topology

__all__ = ["Federation", "Method"]


@dataclass(frozen=True)
class Federation:
    """Who trains on what, and how they talk."""

    shards: tuple[NDArray[np.int64], ...]
    """Each client's sample indices."""
    batch_size: int
    """Samples of one local step of one client."""
    topology: Topology
    codec: RunCodec
    exchange: Exchange | None
    """None where clients never talk."""
    mixer: Mixer = field(default_factory=Linear)
    attack: Attack | None = None
    """What some clients send instead of what they have; None where all are honest."""
    weights: str | None = None
    """The rule of the mixing weights that was asked for; None: the method's own."""
    notes: tuple[str, ...] = ()
    """What was guessed or changed, in whole sentences."""

    @property
    def clients(self) -> int:
        """Number of clients that train."""
        return len(self.shards)

    @property
    def samples(self) -> NDArray[np.int64]:
        """`[clients]`, how many samples each client has."""
        return np.array([len(shard) for shard in self.shards], dtype=np.int64)

    @property
    def attackers(self) -> tuple[int, ...]:
        """Clients that lie; nobody does where nobody talks."""
        return () if self.attack is None or self.exchange is None else self.attack.attackers

    @property
    def cautions(self) -> tuple[str, ...]:
        """What may go wrong though each part is sound, in whole sentences.

        A rule that chooses among values does not keep the mean: what the codec did to the chosen ones moves all clients
        together, anew each round. Public copies come ever closer to what is sent, so little is left to add up.
        """
        exact = self.codec.exact or issubclass(self.codec.memory, PublicCopies)
        if self.exchange is None or self.mixer.weighted or exact:
            return ()
        return (
            f"mixer={str(self.mixer)!r} does not keep the mean, so that what codec={self.codec.name!r} loses adds up "
            "over the rounds and may move all clients away from what they learned; with codec="
            f"{self.codec.plain + '+choco'!r} ever less is lost, and mixer='clipped' nearly keeps the mean.",
        )


class Method:
    """A way to fine-tune together. Every hook defaults to doing nothing, which is Dec-LoRA."""

    name: ClassVar[str]
    over_graph: ClassVar[bool] = True
    """Whether clients talk over the graph of the settings, so that the rule of the weights is one for its edges."""

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation as this method runs it; called once, before the run starts."""
        return federation
