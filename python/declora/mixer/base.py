"""What a mixer is."""

from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge
from declora.codec import CheckedFrames
from declora.errors import ConfigError, TrainingError
from declora.mixer.refusals import sit_out
from declora.plan import Mask, Rows
from declora.round_graph import CompleteGraph
from declora.spec import described, spelled
from declora.topology import Topology

__all__ = ["Mask", "Mixer", "Rows", "core_matrix"]


class Mixer:
    """A rule R that gives each client a value from the public values z of itself and its neighbours.

    Every mixer moves a row by the difference of the rule's result and the client's own *public* value,

        x_i += gamma * (R_i(z) - z_i)

    where z_j is what every holder reconstructs from client j's bytes, one's own z too. So what the codec did to one's
    own value cancels; where it did nothing, x_i becomes R_i (with gamma 1).

    For a mixer of your own define `combine`, and hand an object to `simulate(mixer=...)`. What it has to know in later
    rounds it keeps in the room that `start` is given.
    """

    name: ClassVar[str] = ""
    """As settings write it, for those of declora."""
    robust: ClassVar[bool] = False
    """Whether it bounds what a few bad neighbours do; a refused message is then one of theirs, and the run goes on."""
    weighted: ClassVar[bool] = True
    """Whether the size of a weight matters, not only who is a neighbour."""
    self_centred: ClassVar[bool] = False
    """Whether clients with the same neighbourhood come to different values, so that no server can do it for them."""

    shares: ClassVar[bool] = False
    """Whether what a client gives counts as what it hears does: columns of its weights sum to 1, not rows, and what is
    lost stays with its sender."""
    bears_gaps: ClassVar[bool] = False
    """Whether it combines messages that lack columns of their senders' choice: `mix_carried`."""
    averages: ClassVar[bool] = False
    """Whether `average` does what `mix` does, without a weight for each pair of clients."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Has a rule that mixes in a way of its own asked for that alone."""
        super().__init_subclass__(**options)
        if "average" not in vars(cls) and vars(cls).keys() & {"mix", "mix_frames", "combine"}:
            cls.averages = False

    @property
    def least(self) -> int:
        """How many values, a client's own among them, the rule needs; a client with fewer keeps its own."""
        return 1

    def check(self, topology: Topology) -> None:
        """Checks, before anything is trained, that the rule means something on `topology`.

        Raises:
            ConfigError: It does not; names the graph, the client and the fix.
        """
        if topology.column_stochastic:
            raise ConfigError(
                f"mixer={str(self)!r} needs weights whose rows sum to 1, but those of topology={topology.name!r} are "
                "column-stochastic. Use mixer='push-sum', or build the topology without column_stochastic."
            )

    def start(self, rows: Rows, room: dict[str, Any] | None = None) -> None:
        """Begins from the clients' common first adapter, `rows [clients, D]`; needs nothing without a state.

        Args:
            rows: The adapters.
            room: Where a mixer keeps, by name, what it has to know in later rounds.
        """
        return

    def place(self, here: slice) -> None:
        """Learns, before it starts, which rows are of clients of this process, where others' are elsewhere.

        What becomes of the others' rows is no matter.
        """
        return

    def beside(self) -> NDArray[np.float64] | None:
        """Returns a number that goes with each message, `[clients]`, to which those of others are written; or None."""
        return None

    def sent(self, rows: Rows) -> Rows:
        """Returns what clients with the adapters `rows [clients, D]` send."""
        return rows

    def combine(
        self, weights: sp.csr_array, public: Rows, rows: Rows, gamma: float
    ) -> NDArray[np.float32] | NDArray[np.float64]:
        """Returns what the clients have after mixing, `[clients, D]`, all finite.

        Args:
            weights: Mixing matrix of the round, float64 `[clients, messages]`, row i is what client i applies. Message
                i is client i's; under an attack there may be more messages than clients. One that was refused has no
                weight: its weight stays with those who would have heard it.
            public: z, float32 `[messages, D]`, read-only; zeros where the message was refused.
            rows: x, the clients' adapters, float32 `[clients, D]`, read-only.
            gamma: Consensus step size; linear gossip is `rows + gamma * (weights @ public - public[:len(rows)])`.
        """
        raise NotImplementedError

    def mix(
        self,
        weights: sp.csr_array,
        public: Rows,
        rows: Rows,
        *,
        gamma: float = 1.0,
        refused: Mask | None = None,
    ) -> None:
        """Mixes `rows [clients, D]` in place.

        Args:
            weights: Mixing matrix of the round `[clients, messages]`, row i is what client i applies. Message i is
                client i's, and those beyond the clients are what liars tell a single neighbour.
            public: z `[messages, D]`; rows of refused messages are not read.
            rows: The clients' adapters.
            gamma: Consensus step size.
            refused: Messages that were refused by all who got them.

        Raises:
            ConfigError: `combine` does not give rows.
            TrainingError: It gives numbers that are not finite.
        """
        if refused is not None and refused.any():
            weights, public = sit_out(weights, refused), np.where(refused[:, None], np.float32(0), public)
        mixed = self.combine(weights, _read_only(public), _read_only(rows), gamma)
        floats = isinstance(mixed, np.ndarray) and mixed.dtype in (np.float32, np.float64)
        if not floats or mixed.shape != rows.shape:
            raise ConfigError(
                f"mixer={str(self)!r}: combine gives {described(mixed)}; it must give an array, float32 or float64 "
                f"{list(rows.shape)}."
            )
        with np.errstate(over="ignore"):
            moved = np.where(False if refused is None else refused[: len(rows), None], rows, mixed.astype(np.float32))
        if not np.isfinite(moved).all():
            client, column = (int(index) for index in np.argwhere(~np.isfinite(moved))[0])
            raise TrainingError(
                f"mixer={str(self)!r}: combine gives {mixed[client, column]} for client {client}, column {column}. It "
                "must give finite numbers; a lower gamma may help where they grow from round to round."
            )
        rows[:] = moved

    def mix_carried(
        self,
        weights: sp.csr_array,
        public: Rows,
        carried: NDArray[np.bool_],
        rows: Rows,
        *,
        gamma: float = 1.0,
        refused: Mask | None = None,
    ) -> None:
        """Mixes `rows [clients, D]` in place by messages of which each has some columns; for those that bear gaps.

        Args:
            weights: As for `mix`.
            public: z `[messages, D]`; what a message does not carry is not read.
            carried: `[messages, D]`, which columns each message has.
            rows: The clients' adapters.
            gamma: Consensus step size.
            refused: Messages that were refused by all who got them.
        """
        raise NotImplementedError

    def average(
        self, graph: CompleteGraph, public: Rows | CheckedFrames, rows: Rows, *, gamma: float = 1.0, first: int = 0
    ) -> None:
        """Mixes `rows [clients here, D]` in place where everybody hears everybody, and all apply the same weights.

        Args:
            graph: Of the round.
            public: z `[clients, D]`, or the frames that it is decoded from in the same pass, none of them refused.
            rows: The adapters of clients that follow each other.
            gamma: Consensus step size.
            first: The first of these clients.
        """
        raise NotImplementedError

    def mix_frames(
        self,
        weights: sp.csr_array,
        frames: CheckedFrames,
        rows: Rows,
        *,
        gamma: float = 1.0,
    ) -> None:
        """Decodes the frames, one of each message, to z, then mixes without those that were refused."""
        public = np.empty((len(frames), rows.shape[1]), dtype=np.float32)
        frames.decode(public)
        self.mix(weights, public, rows, gamma=gamma, refused=frames.refused)

    def __str__(self) -> str:
        """The rule with its options, as settings write it; one of a user's class as its class."""
        return self.name or spelled(self)


def _read_only(rows: Rows) -> Rows:
    """Returns a view that cannot be written: what is remembered of messages is in it."""
    view = rows.view()
    view.flags.writeable = False
    return view


def core_matrix(weights: sp.csr_array) -> _bridge.MixingMatrix:
    """Hands W to the core, which checks it. The cost is that of its edges, nothing beside a row of adapters."""
    return _bridge.MixingMatrix(
        weights.indptr.astype(np.int64),
        weights.indices.astype(np.int64),
        weights.data.astype(np.float64),
        known=weights.shape[1],
    )
