"""Detection: what clients find out about each other from the messages that they hear."""

import numpy as np
from numpy.typing import NDArray

from declora.inbox import Inbox
from declora.plan import Plan
from declora.spec import Option, parse_spec
from declora.state import Room

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

    def begin(self, past: Room) -> None:
        """Begins a run.

        Args:
            past: Where the messages of the round before are kept.
        """
        self._past = past

    def suspected(self, plan: Plan, inbox: Inbox) -> NDArray[np.int64]:
        """Returns by how many of those who hear it each client is suspected, int64 `[clients]`."""
        found = np.zeros(plan.weights.shape[0], dtype=np.int64)
        now, before = inbox.public()[: len(found)], self._past.get("sent")
        if before is not None:
            senders, receivers = plan.edges.T
            for client in np.unique(receivers).tolist():
                heard = senders[receivers == client]
                moved = _norms(now[client] - before[client])
                found[heard] += _norms(now[heard] - before[client]) < self.below * moved
        self._past["sent"] = now.copy()
        return found


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
