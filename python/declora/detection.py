"""Detection: what clients find out about each other from the messages that they hear."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.spec import Option, parse_spec

__all__ = ["CopyDetector", "parse_detector"]

_BELOW = 0.5
_KNOWN = {"lazy": {"below": Option(whole=False, least=0, above=True, default=_BELOW)}}


class CopyDetector:
    """Finds clients that send copies of what they heard, with a little noise, instead of work of their own.

    Each client j holds every message z_i that it hears in round t against its own of the round before, and suspects i
    where

        ||z_i(t) - z_j(t-1)|| < below * ||z_j(t) - z_j(t-1)||:

    whoever trained has gone about as far from there as j itself, since it has other data and other noise, and has
    averaged with others, while a copy (arXiv 2101.06905) is only as far as its noise. It takes nothing but what j has
    anyway, so that clients of one's own network could do it, too; the norm and the bound are ours.

    Args:
        below: The bound, 0.5 where none is given.
    """

    def __init__(self, below: float = _BELOW) -> None:
        self.below = below

    def suspected(
        self, weights: sp.csr_array, public: NDArray[np.float32], room: dict[str, Any], *, judges: Iterable[int]
    ) -> NDArray[np.int64]:
        """Returns by how many of `judges` who heard it each client is suspected, int64 `[clients]`.

        Args:
            weights: `[clients, messages]`, whom each client heard; beyond the clients, messages are for one alone.
            public: z, float32 `[messages, D]`.
            room: Keeps the messages of the round before; empty in the first round, in which nobody is suspected.
            judges: Whose word counts: a liar's own last message may be a copy of the one whom it then suspects.
        """
        clients = weights.shape[0]
        found, now, before = np.zeros(clients, dtype=np.int64), public[:clients], room.get("sent")
        if before is not None:
            for client in judges:
                heard = weights.indices[weights.indptr[client] : weights.indptr[client + 1]]
                heard = heard[(heard != client) & (heard < clients)]
                moved = _norms(now[client] - before[client])
                found[heard] += _norms(now[heard] - before[client]) < self.below * moved
        room["sent"] = now.copy()
        return found

    def __str__(self) -> str:
        """The detector, as settings write it."""
        return f"lazy:below={self.below:g}"


def parse_detector(text: str) -> CopyDetector:
    """Returns the detector that `text` names.

    Args:
        text: `lazy[:below=R]`.

    Raises:
        ConfigError: Unknown name or option, or a number out of range.
    """
    _, options = parse_spec("detect", text, _KNOWN)
    return CopyDetector(**options)


def _norms(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the length of each row `[..., D]`, in float64."""
    found: NDArray[np.float64] = np.linalg.norm(rows.astype(np.float64), axis=-1)
    return found
