"""Attacks by repetition: what was right once is sent again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge
from declora.attacks.attack import Attack, Past, Rows
from declora.errors import ConfigError

__all__ = ["Replay", "Stale"]


class _Late(Attack):
    """An attack with what was sent `delay` rounds ago; before there is that, its attackers send what they should."""

    repeats = True

    def __init__(self, *arguments: Any, delay: int = 1, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.delay = delay

    def start(self, matrices: Sequence[sp.csr_array], past: Past) -> None:
        """Begins without a past."""
        self._past = past

    def _since(self, now: NDArray[Any]) -> NDArray[Any]:
        """Returns what was sent in the last `delay` + 1 rounds, oldest first, with this round's, `now`."""
        before = self._past.get("sent", now[None][:0])
        since: NDArray[Any] = np.concatenate([before, now[None]])[-(self.delay + 1) :]
        self._past["sent"] = since
        return since

    def __str__(self) -> str:
        return f"{self.name}:delay={self.delay}"


class Stale(_Late):
    """Each attacker sends its values of `delay` rounds ago (1 where none is given) in proper messages of this round.

    Nothing is wrong with such a message but that no work is in it, as of a client that would rather not train.
    """

    name = "stale"

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns the rows of `delay` rounds ago, of the first round where there were fewer."""
        oldest: Rows = self._since(rows[list(self.attackers)])[0]
        return oldest


class Replay(_Late):
    """Each attacker sends a message of `delay` rounds ago once more, byte for byte: its own, or one of another client.

    Such a message is whole and has the right checksums. A receiver has to refuse it by its header, which names the
    round and the sender.

    Args:
        attackers: As for every attack.
        delay: Rounds between a message and its replay, 1 where none is given.
        target: The client whose messages are replayed; each attacker's own where None. With it delay may be 0.
        seed: As for every attack.
    """

    name = "replay"

    def __init__(self, *arguments: Any, target: int | None = None, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if target in self.attackers:
            raise ConfigError(
                f"attack='replay:target={target}': client {target} attacks itself. Name an honest client."
            )
        if target is None and self.delay == 0:
            raise ConfigError(
                "attack='replay:delay=0' sends what it should. Set delay to at least 1, or name a target."
            )
        self.target = target

    def forge(self, codec: _bridge.Codec, frames: NDArray[np.uint8]) -> None:
        """Puts the frames of `delay` rounds ago in the place of the attackers'."""
        past = self._since(frames[list(self.attackers) if self.target is None else [self.target]])
        if len(past) > self.delay:
            frames[list(self.attackers)] = past[0]

    def __str__(self) -> str:
        """The attack with its options."""
        return super().__str__() + ("" if self.target is None else f",target={self.target}")
