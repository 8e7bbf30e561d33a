"""Attacks by repetition: what was right once is sent again."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge, seeds
from declora.attacks.attack import Attack, Past, Rows
from declora.errors import ConfigError

__all__ = ["Lazy", "Replay", "Stale"]


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

    def forge(self, codecs: Sequence[tuple[_bridge.Codec | None, int]], frames: NDArray[np.uint8]) -> None:
        """Puts the frames of `delay` rounds ago in the place of the attackers'."""
        past = self._since(frames[list(self.attackers) if self.target is None else [self.target]])
        if len(past) > self.delay:
            frames[list(self.attackers)] = past[0]

    def __str__(self) -> str:
        """The attack with its options."""
        return super().__str__() + ("" if self.target is None else f",target={self.target}")


class Lazy(Attack):
    """Each attacker sends what a neighbour sent in the round before, with noise to hide that: no work of its own.

    These are the lazy clients of BLADE-FL (arXiv 2012.02044, 2101.06905), which copy another's model and add
    N(0, noise^2) to each number. There a client waits for what it copies; here all send at once, so that it is what was
    heard last. Whom it copies is drawn anew in each round among the honest whom it heard; where it heard none, as
    before the first round, it sends what it should.

    Args:
        attackers: As for every attack.
        noise: Standard deviation of the noise; 0, an exact copy, where none is given.
        seed: As for every attack.
    """

    name = "lazy"
    repeats = True

    def __init__(self, *arguments: Any, noise: float = 0.0, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.noise = noise

    def start(self, matrices: Sequence[sp.csr_array], past: Past) -> None:
        """Begins without a past."""
        self._matrices, self._past = matrices, past

    def hear(self, t: int, public: Callable[[], Rows]) -> None:
        """Keeps what each attacker heard of the one whom it will copy, `[attackers, D]`; NaN where it heard nobody."""
        values, weights = public(), self._matrices[t % len(self._matrices)]
        copied = np.full((len(self.attackers), values.shape[1]), np.nan, dtype=np.float32)
        for at, client in enumerate(self.attackers):
            start, stop = weights.indptr[client : client + 2]
            heard = np.setdiff1d(weights.indices[start:stop], self.attackers)
            if len(heard):
                chosen = seeds.generator(self.seed, "copied", t, client).integers(len(heard))
                copied[at] = values[heard[chosen]]
        self._past["heard"] = copied

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns what was copied, with noise that depends on (seed, round, client)."""
        own = rows[list(self.attackers)]
        copied = self._past.get("heard", np.full_like(own, np.nan))
        noise = [
            seeds.generator(self.seed, "attack", t, client).standard_normal(rows.shape[1]) for client in self.attackers
        ]
        lies: NDArray[np.float64] = np.where(np.isnan(copied), own, copied + self.noise * np.stack(noise))
        return lies

    def __str__(self) -> str:
        return f"{self.name}:noise={self.noise:g}"
