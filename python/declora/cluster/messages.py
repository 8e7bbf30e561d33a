"""What ranks say to each other."""

from enum import IntEnum

__all__ = ["Kind", "LinkLost"]


class LinkLost(Exception):
    """The other rank has died, has been silent for too long, or has ended."""


class Kind(IntEnum):
    """What a message is."""

    ALIVE = 0
    """Nothing to say, but there."""
    END = 1
    """The last one."""
    START = 2
    """What a run begins with."""
    FRAMES = 3
    """Of a round."""
    TAKEN = 4
    """The frames of a round have arrived."""
    REPORT = 5
    """What a round was at a rank."""
    AVERAGE = 6
    """The adapter that is evaluated for all."""
    TALLIES = 7
    """What it does on the samples of a rank."""
    SHARD = 8
    """What a rank has written of a checkpoint, and what counts of it."""
    CALL = 9
    """What rank 0 has the others do so that a rank comes back, as JSON."""
    ANSWER = 10
    """What they say to that."""
    COPIES = 11
    """What other ranks keep of clients, whole."""
    ROWS = 12
    """What clients have, for ranks whose clients lie and know it."""
    LENT = 13
    """A frame that clients elsewhere send for their own."""
    FAILED = 14
    """Why the run cannot go on at a rank, and so ends at all."""
