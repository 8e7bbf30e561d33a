"""What arrived in a round of gossip, and what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.mixer import Mixer
from declora.mixer.refusals import sit_out
from declora.plan import Columns, Mask, Rows
from declora.round_graph import CompleteGraph, RoundGraph
from declora.wire import CheckedRound

__all__ = ["Inbox"]


@dataclass
class Inbox:
    """What arrived in a round, and what it cost."""

    bytes_sent: NDArray[np.int64]
    """`[clients]`, bytes on each client's link, from the real frames."""
    graph: RoundGraph | None = None
    """Who heard which message, `[clients, messages]`, and what it applies to it; None where nobody talks."""
    frames: CheckedRound | None = None
    """The messages, where frames were made of them."""
    values: Rows | None = None
    """Public values z `[messages, columns]`, where they are known already."""
    carried: NDArray[np.bool_] | None = None
    """`[messages, columns]`: which columns each message has; None where all have all that their sender has."""
    late: tuple[tuple[sp.csr_array, Rows], ...] = ()
    """What was sent in earlier rounds and arrives now: weights `[clients, messages]`, rows of sum 1, and z of then,
    `[messages, columns]`."""
    refused: Mask | None = None
    """`[messages]`: which were refused by all who got them."""
    digests: tuple[str | None, ...] | None = None
    """`[clients here]`, of what each sent, None of one whom nobody heard; None where nobody asked for them."""
    tolerated: Mask | None = None
    """`[clients]`, who had a message refused; None where every message is taken or the run ends."""
    suspected: NDArray[np.int64] | None = None
    """`[all clients]`: by how many of the honest here who heard it each was suspected; None where nobody looked."""
    unused: Mapping[str, int] = field(default_factory=dict)
    """How many frames came for nothing, by the reason, where that may be."""
    here: slice = field(default_factory=lambda: slice(None))
    """Which rows that are mixed are of clients of this process; those of others stay as they are."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of `encode`, `exchange` and `mix`."""

    @property
    def counts(self) -> dict[str, int]:
        """How many clients had a message refused, frames came for nothing, clients are suspected, for the record."""
        refused = {} if self.tolerated is None else {"frames_refused": int(self.tolerated.sum())}
        return (
            refused
            | dict(self.unused)
            | ({} if self.suspected is None else {"clients_suspected": int((self.suspected > 0).sum())})
        )

    @property
    def weights(self) -> sp.csr_array | None:
        """`[clients, messages]`: row i is what client i applies to what it heard; None where nobody talks."""
        return None if self.graph is None else self.graph.weights

    def everybody(self, mixer: Mixer) -> CompleteGraph | None:
        """Returns the graph where a rule needs no weight for each pair: all hear all, and what counts was accepted."""
        if not mixer.averages or not isinstance(self.graph, CompleteGraph):
            return None
        return None if self.refused is not None and self.refused[self.graph.row > 0].any() else self.graph

    def public(self) -> Rows:
        """Returns z, what every holder of a message reconstructs from it, `[messages, columns]`."""
        if self.values is None and self.frames is not None:
            self.values = self.frames.decoded()
        assert self.values is not None
        return self.values

    def heard(self) -> tuple[sp.csr_array, Rows]:
        """Returns the mixing matrix `[clients, messages]` without who was refused, and z of all messages."""
        assert self.weights is not None
        return sit_out(self.weights, self.refused), self.public()

    def mix_columns(
        self, mixer: Mixer, columns: Columns, rows: Rows, *, gamma: float, weights: sp.csr_array | None = None
    ) -> None:
        """Mixes these columns alone of `rows [clients, columns]` in place by a rule.

        Args:
            mixer: The rule.
            columns: Of what is sent.
            rows: The clients' values.
            gamma: Consensus step size.
            weights: `[clients, messages]`, in the place of those that `heard` returns.
        """
        if not columns.count:
            return
        mixed, public = columns.take(rows), columns.take(self.public())
        everybody = self.everybody(mixer) if weights is None else None
        if everybody is not None:
            mixer.average(everybody, public, mixed[self.here], gamma=gamma, first=self.here.start or 0)
        else:
            mixer.mix(self.heard()[0] if weights is None else weights, public, mixed, gamma=gamma)
        columns.put(rows, mixed)

    def mix(self, mixer: Mixer, rows: Rows, *, gamma: float) -> None:
        """Mixes `rows [clients, columns]` in place by a rule, decoding in the same pass where z is not needed."""
        assert self.graph is not None
        whole = None if self.values is not None or self.frames is None else self.frames.whole
        everybody = self.everybody(mixer)
        if self.carried is not None:
            z = self.public()
            mixer.mix_carried(self.graph.weights, z, self.carried, rows, gamma=gamma, refused=self.refused)
        elif everybody is not None:
            heard = self.public() if whole is None else whole
            mixer.average(everybody, heard, rows[self.here], gamma=gamma, first=self.here.start or 0)
        elif whole is not None:
            mixer.mix_frames(self.graph.weights, whole, rows, gamma=gamma)
        else:
            mixer.mix(self.graph.weights, self.public(), rows, gamma=gamma, refused=self.refused)
        for weights, values in self.late:
            mixer.mix(weights, values, rows, gamma=gamma)
