"""One gossip round: encode, exchange, check, mix."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from declora import _bridge, seeds
from declora.codec import NoMemory
from declora.errors import FrameError
from declora.methods import Federation

__all__ = ["Gossip", "Traffic"]


@dataclass
class Traffic:
    """What one round cost."""

    bytes_sent: NDArray[np.int64]
    """`[clients]`, bytes on each client's link, from the real frames."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of `encode`, `exchange` and `mix`."""
    refused: NDArray[np.bool_] | None = None
    """`[clients]`, whose message was refused; None where every message is taken or the run ends."""


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
        self._codec = federation.codec.core
        self._memory = federation.codec.memory(federation.codec.shrink)
        self._memory.start(start.cpu().numpy())
        self._mixer, self._attack = federation.mixer, federation.attack
        self._mixer.start(start.cpu().numpy())
        self._gamma = federation.codec.default_gamma if gamma is None else gamma
        self._frames = np.empty((len(start), federation.codec.frame_bytes(start.shape[1])), dtype=np.uint8)
        self._senders = np.arange(len(start), dtype=np.uint32)
        self._run_id = seeds.generator(seed, "run-id").bytes(16)
        self._manifest = manifest
        self._seed = seeds.derive(seed, "codec")
        self._host: torch.Tensor | None = None

    def round(self, t: int, values: torch.Tensor) -> Traffic:
        """Mixes `values [clients, D]` (P) in place with the neighbours of round `t` (0-based)."""
        federation = self._federation
        if federation.exchange is None:
            return Traffic(np.zeros(len(values), dtype=np.int64))
        seconds: dict[str, float] = {}
        rows = self._fetch(values)
        with _timed(seconds, "encode"):
            sent = self._mixer.sent(rows)
            outgoing = self._memory.outgoing(sent if self._attack is None else self._attack.sent(t, sent))
            _bridge.encode_frames(self._codec, outgoing, self._frames, seed=self._seed, **self._names(t))
            if self._attack is not None:
                self._attack.forge(self._codec, self._frames)
        with _timed(seconds, "exchange"):
            sizes = _bridge.frame_bytes(self._codec, self._frames, rows.shape[1])
            delivery = federation.exchange.deliver(self._frames, sizes, federation.topology.edges(t))
        with _timed(seconds, "mix"):
            refused = self._check(t, delivery.frames, rows.shape[1])
            weights = federation.topology.weights(t)
            if isinstance(self._memory, NoMemory) and (refused is None or not refused.any()):
                self._mixer.mix_frames(weights, self._codec, delivery.frames, rows, gamma=self._gamma)
            else:
                decoded = self._decode(delivery.frames, refused, rows)
                public = self._memory.public(outgoing, decoded)
                self._mixer.mix(weights, public, rows, gamma=self._gamma, refused=refused)
            if self._attack is not None:
                self._attack.adopt(rows)
            if self._host is not None:
                values.copy_(self._host, non_blocking=True)
        return Traffic(delivery.bytes_sent, seconds, refused)

    def _fetch(self, values: torch.Tensor) -> NDArray[np.float32]:
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

    def _check(self, t: int, frames: NDArray[np.uint8], columns: int) -> NDArray[np.bool_] | None:
        """Checks all frames; returns whose are refused, where the run goes on without them.

        Raises:
            FrameError: A message is not what it should be, and nobody was said to lie or guarded against.
        """
        refused = np.zeros(len(frames), dtype=np.bool_)
        tolerant = self._attack is not None or self._mixer.robust
        try:
            _bridge.check_frames(self._codec, frames, columns, **self._names(t))
            return refused if tolerant else None
        except FrameError:
            if not tolerant:
                raise
        for client in range(len(frames)):
            names = self._names(t) | {"senders": self._senders[client : client + 1]}
            try:
                _bridge.check_frames(self._codec, frames[client : client + 1], columns, **names)
            except FrameError:
                refused[client] = True
        return refused

    def _decode(
        self, frames: NDArray[np.uint8], refused: NDArray[np.bool_] | None, rows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Returns the decoded frames `[clients, D]`; 0, as if nothing had been sent, for refused ones."""
        if refused is None or not refused.any():
            decoded = np.empty_like(rows)
            _bridge.decode_frames(self._codec, frames, decoded)
            return decoded
        decoded = np.zeros_like(rows)
        taken = np.empty_like(rows[~refused])
        _bridge.decode_frames(self._codec, frames[~refused], taken)
        decoded[~refused] = taken
        return decoded

    def _names(self, t: int) -> dict[str, Any]:
        """Returns what the headers of round `t` say, and what a receiver expects of them."""
        return {"run_id": self._run_id, "manifest": self._manifest, "round": t, "senders": self._senders}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
