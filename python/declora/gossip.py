"""One gossip round: encode, exchange, check, mix."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from declora import seeds
from declora.codec import CheckedFrames, NoMemory
from declora.errors import CodecError, FrameError, TrainingError
from declora.exchange import Routes
from declora.methods import Federation

__all__ = ["Gossip", "Traffic"]

Rows = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass
class Traffic:
    """What one round cost."""

    bytes_sent: NDArray[np.int64]
    """`[clients]`, bytes on each client's link, from the real frames."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of `encode`, `exchange` and `mix`."""
    refused: Mask | None = None
    """`[clients]`, who had a message refused; None where every message is taken or the run ends."""


class Gossip:
    """The gossip of all clients of a process: its codec's memory, its frames, its mixer.

    Args:
        federation: Who talks to whom, and how.
        start: float32 `[clients, D]`, the common first adapters (public copies begin there).
        gamma: Consensus step size; the codec's default where None.
        manifest: 16 bytes that all sites of a run share (layout and codec).
        seed: The run's seed: names the run and the codec's random streams.
    """

    def __init__(
        self, federation: Federation, start: torch.Tensor, *, gamma: float | None, manifest: bytes, seed: int
    ) -> None:
        self._federation = federation
        self._codec = federation.codec
        self._mixer, self._attack = federation.mixer, federation.attack
        if self._attack is not None:
            self._attack.start(federation.topology.matrices)
        self._routes = Routes(len(start), None if self._attack is None else self._attack.private)
        first = start.cpu().numpy()
        self._memory = federation.codec.memory(federation.codec.shrink)
        self._memory.start(self._routes.spread(first))
        self._mixer.start(first)
        self._gamma = federation.codec.default_gamma if gamma is None else gamma
        frame_bytes = federation.codec.frame_bytes(start.shape[1])
        self._frames = np.empty((len(self._routes.senders), frame_bytes), dtype=np.uint8)
        self._run_id = seeds.generator(seed, "run-id").bytes(16)
        self._manifest = manifest
        self._seed = seeds.derive(seed, "codec")
        self._host: torch.Tensor | None = None

    def round(self, t: int, values: torch.Tensor) -> Traffic:
        """Mixes `values [clients, D]` (P) in place with the neighbours of round `t` (0-based).

        Raises:
            FrameError: A message is not what it should be, and nobody was said to lie or guarded against.
            TrainingError: What some clients lied moved others out of the numbers that can be computed or sent.
        """
        federation, routes = self._federation, self._routes
        if federation.exchange is None:
            return Traffic(np.zeros(len(values), dtype=np.int64))
        seconds: dict[str, float] = {}
        rows = self._fetch(values)
        with _timed(seconds, "encode"):
            outgoing, sizes = self._encode(t, self._mixer.sent(rows))
        with _timed(seconds, "exchange"):
            delivery = federation.exchange.deliver(self._frames, sizes, routes.edges(federation.topology.edges(t)))
        with _timed(seconds, "mix"):
            refused = self._mix(t, outgoing, delivery.frames, rows)
            if self._host is not None:
                values.copy_(self._host, non_blocking=True)
        whose = routes.by_client(refused) > 0 if self._tolerant else None
        return Traffic(routes.by_client(delivery.bytes_sent), seconds, whose)

    @property
    def _tolerant(self) -> bool:
        """Whether the run goes on without a message that is refused: somebody is said to lie, or guarded against."""
        return self._attack is not None or self._mixer.robust

    def _fetch(self, values: torch.Tensor) -> Rows:
        """Returns P as an array: itself on the CPU; from a GPU, a copy in pinned memory that serves all rounds.

        Pinned memory is copied at the full rate of the bus; the way back is queued before the next local step, so the
        CPU need not wait for it.
        """
        if values.device.type == "cpu":
            return values.numpy()
        if self._host is None:
            self._host = torch.empty(values.shape, pin_memory=True)
        self._host.copy_(values)
        return self._host.numpy()

    def _encode(self, t: int, rows: Rows) -> tuple[Rows, NDArray[np.int64]]:
        """Writes the frames of round `t` and returns what they encode, `[messages, D]`."""
        attack = self._attack
        with np.errstate(over="ignore"):  # what leaves the numbers here is cut, or named by the codec
            outgoing = self._memory.outgoing(rows if attack is None else attack.sent(t, rows))
        if attack is not None:
            attack.cut(outgoing, self._routes.senders, self._codec.limit(rows.shape[1]))
        try:
            sizes = self._codec.encode_frames(outgoing, self._frames, seed=self._seed, **self._names(t))
        except CodecError as error:
            if attack is None or t == 0:  # nobody has heard a lie yet
                raise
            raise self._overcome(t, str(error)) from error
        if attack is not None:
            attack.forge(self._codec.core, self._frames)
        return outgoing, sizes

    def _mix(self, t: int, outgoing: Rows, frames: NDArray[np.uint8], rows: Rows) -> Mask:
        """Checks the frames of round `t`, mixes `rows [clients, D]` in place; returns which messages were refused."""
        checked = self._check(t, frames, rows.shape[1])
        weights = self._routes.weights(self._federation.topology.weights(t))
        mixed = self._routes.spread(rows)  # rows themselves, unless some message is private
        refused = checked.refused
        if isinstance(self._memory, NoMemory):
            self._mixer.mix_frames(weights, checked, mixed, gamma=self._gamma)
        else:
            decoded = np.empty((len(checked), rows.shape[1]), dtype=np.float32)
            checked.decode(decoded)
            public = self._memory.public(decoded)
            refused |= self._beyond(t, public)
            self._memory.remember(outgoing, public, refused)
            self._mixer.mix(weights, public, mixed, gamma=self._gamma, refused=refused)
        if mixed is not rows:
            rows[:] = mixed[: len(rows)]
        if self._attack is not None:
            self._attack.adopt(rows)
            if not np.isfinite(rows).all():
                raise self._overcome(t, "clients have values that are not finite.")
        return refused

    def _check(self, t: int, frames: NDArray[np.uint8], columns: int) -> CheckedFrames:
        """Returns the frames of round `t` and which of them are refused, where the run goes on without them."""
        checked = self._codec.check_frames(frames, columns, **self._names(t))
        for message, why in checked.faults:
            self._refuse(t, message, why)
        return checked

    def _beyond(self, t: int, public: Rows) -> Mask:
        """Returns which messages would move their public values, `[messages, D]`, out of the finite numbers.

        Each adds to what the ones before it left: a sum of proper messages need not be a proper value.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            beyond: Mask = ~np.isfinite(public.sum(axis=1))  # one pass; a sum may leave the finite numbers by itself
        for message in np.flatnonzero(beyond).tolist():
            beyond[message] = not np.isfinite(public[message]).all()
            if beyond[message]:
                self._refuse(t, message, "it would move its sender's public copy out of the finite numbers.")
        return beyond

    def _refuse(self, t: int, message: int, why: str) -> None:
        """Ends the run for a message that is refused, unless the run goes on without it."""
        if not self._tolerant:
            client = self._routes.senders[message]
            raise FrameError(f"round {t + 1}: the message of client {client} was refused: {why}")

    def _overcome(self, t: int, what: str) -> TrainingError:
        """Returns the error of a run whose mixer let an attack move the honest where they cannot go on."""
        return TrainingError(
            f"round {t + 1}: {what} mixer={str(self._mixer)!r} does not seem to keep out attack={str(self._attack)!r}. "
            "Use a robust mixer whose f is at least the number of attackers among a client's neighbours."
        )

    def _names(self, t: int) -> dict[str, Any]:
        """Returns what the headers of round `t` say, and what a receiver expects of them."""
        return {"run_id": self._run_id, "manifest": self._manifest, "round": t, "senders": self._routes.senders}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
