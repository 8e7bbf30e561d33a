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

    def start(self, matrices: Sequence[sp.csr_array], past: Past, **of_process: Any) -> None:
        """Begins without a past."""
        super().start(matrices, past, **of_process)
        self._past = past

    def _ago(self, t: int, all_now: NDArray[Any], places: Sequence[int], clients: Sequence[int]) -> NDArray[Any]:
        """Keeps what some clients send in round t; returns what they sent `delay` rounds ago, or in the first round.

        Args:
            t: Round, from 0.
            all_now: What is sent, `[n, ...]`.
            places: Where the clients are in it.
            clients: Which they are, of this process.
        """
        now, own, slot = all_now[list(places)], self._kept_at(clients), t % (self.delay + 1)
        sent: NDArray[Any] = self._past.get("sent", np.empty((0, 0)))
        if slot == t:  # there is no place for it yet: by client, and then by round
            before, count = sent, len(all_now) if self._here is None else len(self._here)
            sent = self._past["sent"] = np.zeros((count, t + 1, *now.shape[1:]), dtype=now.dtype)
            if t:
                sent[own, :t] = before[own]  # of the others there is nothing, and their memory is not touched
        sent[own, slot] = now
        ago: NDArray[Any] = sent[own, (t + 1) % (self.delay + 1) if t >= self.delay else 0]
        return ago

    def __str__(self) -> str:
        return f"{self.name}:delay={self.delay}"


class Stale(_Late):
    """Each attacker sends its values of `delay` rounds ago (1 where none is given) in proper messages of this round.

    Nothing is wrong with such a message but that no work is in it, as of a client that would rather not train.
    """

    name = "stale"

    def sent(self, t: int, rows: Rows) -> Rows:
        """Returns `rows [clients, D]`, but of the attackers those of `delay` rounds ago, or of the first round."""
        ago = self._ago(t, rows, self.acting, self.acting)
        if not self.acting:
            return rows
        changed = rows.copy()
        changed[list(self.acting)] = ago
        return changed


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
        self.forwards = target

    def lent(self, t: int, frames: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Returns the target's frame of `delay` rounds ago, where the target is here and there is one."""
        target, here = self.forwards, self._here
        of = () if target is None or (here is not None and target not in here) else (target,)
        ago = self._ago(t, frames, self._heard_at(of), of)
        return ago[0] if of and t >= self.delay else None

    def forge(self, t: int, codecs: Sequence[tuple[_bridge.Codec | None, int]], frames: NDArray[np.uint8]) -> None:
        """Puts their own frames of `delay` rounds ago in the place of the attackers'."""
        ago = self._ago(t, frames, self._heard_at(self.acting), self.acting)
        if t >= self.delay:
            frames[self._heard_at(self.acting)] = ago

    def __str__(self) -> str:
        """The attack with its options."""
        return super().__str__() + ("" if self.forwards is None else f",target={self.forwards}")


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

    def start(self, matrices: Sequence[sp.csr_array], past: Past, **of_process: Any) -> None:
        """Begins without a past."""
        super().start(matrices, past, **of_process)
        self._matrices, self._past = matrices, past

    def hear(self, t: int, public: Callable[[], Rows]) -> None:
        """Keeps what each attacker heard of the one whom it will copy, in its row; NaN where it heard nobody."""
        values, weights = public(), self._matrices[t % len(self._matrices)]
        count = weights.shape[0] if self._here is None else len(self._here)
        copied = np.zeros((count, values.shape[1]), dtype=np.float32)
        for client, at in zip(self.acting, self._kept_at(self.acting), strict=True):
            start, stop = weights.indptr[client : client + 2]
            heard = np.setdiff1d(weights.indices[start:stop], self.attackers)
            if not len(heard):
                copied[at] = np.nan
                continue
            chosen = seeds.generator(self.seed, "copied", t, client).integers(len(heard))
            copied[at] = values[self._heard_at([int(heard[chosen])])[0]]
        self._past["heard"] = copied

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns what was copied, with noise that depends on (seed, round, client)."""
        own = rows[list(self.acting)]
        heard = self._past.get("heard")
        copied = np.full_like(own, np.nan) if heard is None else heard[self._kept_at(self.acting)]
        noise = [
            seeds.generator(self.seed, "attack", t, client).standard_normal(rows.shape[1]) for client in self.acting
        ]
        lies: NDArray[np.float64] = np.where(np.isnan(copied), own, copied + self.noise * np.stack(noise))
        return lies

    def __str__(self) -> str:
        return f"{self.name}:noise={self.noise:g}"
