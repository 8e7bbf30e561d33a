"""A link between two ranks: messages in order, over a gloo group that the two have for themselves."""

import queue
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from declora.cluster.messages import Kind, LinkLost

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Work

__all__ = ["Link", "NoLink"]

_LONGEST = 1 << 40
"""Bytes of a message, at most."""
_BEAT = 1.0
"""Seconds, at most, for which nothing is said: the other may have less patience already than this rank yet knows of."""
_PIECE = 1 << 22
"""Bytes that are sent at once: a long message is no silence as long as its pieces come."""


class Link:
    """Messages to one other rank, and from it.

    gloo has traps (PyTorch 2.13): after a wait that timed out, every pair of the group is closed; what is sent moves
    only once the other side takes it; a message of unexpected size ends the process. So two ranks have a group of their
    own, one thread takes whatever comes and another sends, each message has a header of fixed size before it, and
    whoever has nothing to say says that it is there. Then silence means that a rank has stopped, however long others
    compute, and a wait that times out closes the one link that is lost anyway.

    Args:
        group: Of the two, a `ProcessGroupGloo`.
        peer: The place of the other rank in it.
        patience: Seconds of silence after which it is lost.
    """

    def __init__(self, group: Any, peer: int, *, patience: float) -> None:
        self._group, self._peer, self.patience = group, peer, patience
        self._incoming = {kind: queue.SimpleQueue[tuple[int, NDArray[np.uint8]] | None]() for kind in Kind}
        self._outgoing = queue.SimpleQueue[tuple[Kind, int, torch.Tensor]]()
        self.why = ""
        """Why the link is lost; empty while it is not."""
        self.failed = ""
        """Why the run cannot go on at the other rank, where that has said so."""
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    def send(self, kind: Kind, number: int, content: bytes | NDArray[np.uint8] = b"") -> None:
        """Sends a message once those before it have gone; nothing where the link is lost.

        Args:
            kind: What it is.
            number: Which of its kind.
            content: Bytes, or uint8 `[n]`, which nobody may change before the other has taken it.
        """
        values = np.frombuffer(bytearray(content), dtype=np.uint8) if isinstance(content, bytes) else content
        if not self.why or kind in (Kind.END, Kind.FAILED):  # which are answered, else the other would wait for it
            self._outgoing.put((kind, number, torch.from_numpy(values)))

    def receive(self, kind: Kind, number: int) -> NDArray[np.uint8]:
        """Returns the next message of a kind, uint8 `[n]`, as soon as it is there.

        Raises:
            LinkLost: None will come, or another one.
        """
        found = self._incoming[kind].get()
        if found is None:
            self._incoming[kind].put(None)  # for whoever asks again
            raise LinkLost(self.why)
        if found[0] != number:
            self._lose(f"it sent {kind.name.lower()} {found[0]} where {number} was due")
            raise LinkLost(self.why)
        return found[1]

    def end(self) -> None:
        """Says that nothing more will come, and waits until the other has said so or is lost."""
        self.send(Kind.END, 0)
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        try:
            while True:
                header = torch.empty(3, dtype=torch.int64)
                self._take(header)
                kind, number, size = Kind(int(header[0])), int(header[1]), int(header[2])
                if not 0 <= size <= _LONGEST:
                    raise ValueError(f"a message of {size} bytes")
                content = torch.empty(size, dtype=torch.uint8)
                self._take(content)
                if kind is Kind.END:
                    self._lose("it has ended")
                    return
                if kind is Kind.FAILED:
                    self.failed = bytes(content.numpy()).decode(errors="replace")
                    self._lose("the run could not go on there")
                elif kind is not Kind.ALIVE:
                    self._incoming[kind].put((number, content.numpy()))
        except (RuntimeError, ValueError, MemoryError) as error:
            self._lose(_reason(error, self.patience))

    def _write(self) -> None:
        try:
            while True:
                try:
                    kind, number, content = self._outgoing.get(timeout=min(self.patience / 4, _BEAT))
                except queue.Empty:
                    kind, number, content = Kind.ALIVE, 0, _NOTHING
                self._give(torch.tensor([kind, number, len(content)]))
                self._give(content)
                if kind is Kind.END:
                    return
        except (RuntimeError, ValueError) as error:
            self._lose(_reason(error, self.patience))

    def _take(self, content: torch.Tensor) -> None:
        for piece in content.split(_PIECE):
            self._wait(self._group.recv([piece], self._peer, 0))

    def _give(self, content: torch.Tensor) -> None:
        for piece in content.split(_PIECE):
            self._wait(self._group.send([piece], self._peer, 0))

    def _wait(self, work: "Work") -> None:
        work.wait(timedelta(seconds=self.patience))

    def _lose(self, why: str) -> None:
        self.why = self.why or why
        for waiting in self._incoming.values():
            waiting.put(None)


class NoLink(Link):
    """In the place of a link to a rank that cannot be reached.

    Args:
        why: It cannot.
        patience: As of other links.
    """

    def __init__(self, why: str, *, patience: float) -> None:
        self.why, self.patience, self.failed = why, patience, ""

    def send(self, kind: Kind, number: int, content: bytes | NDArray[np.uint8] = b"") -> None:
        """Sends nothing."""

    def receive(self, kind: Kind, number: int) -> NDArray[np.uint8]:
        """Receives nothing.

        Raises:
            LinkLost: Always.
        """
        raise LinkLost(self.why)

    def end(self) -> None:
        """Has nobody to tell."""


_NOTHING = torch.empty(0, dtype=torch.uint8)


def _reason(error: Exception, patience: float) -> str:
    """Returns why a link was lost, in words."""
    if isinstance(error, ValueError | MemoryError):
        return f"it sent what no rank sends: {error}"
    if "timed out" in str(error).lower() or "timeout" in str(error).lower():
        return f"it was silent for {patience:g} s"
    return "its connection was closed"
