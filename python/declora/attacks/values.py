"""Attacks by values: what is sent is a proper message of a wrong adapter."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import seeds
from declora.attacks.attack import Attack, Rows
from declora.errors import ConfigError

__all__ = ["ALIE", "IPM", "Gaussian", "Mimic", "Scaled", "SignFlip"]


class Scaled(Attack):
    """An attack with a strength."""

    def __init__(self, *arguments: Any, scale: float = 1.0, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.scale = scale

    def __str__(self) -> str:
        return f"{self.name}:scale={self.scale:g}"


class SignFlip(Scaled):
    """Each attacker sends -scale times what it should (scale 1 where none is given)."""

    name = "sign-flip"

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns -scale x."""
        lies: Rows = -self.scale * rows[list(self.acting)]
        return lies


class ALIE(Scaled):
    """A little is enough (Baruch et al. 2019, arXiv 1902.06635): mean + scale * standard deviation of the honest.

    Near enough to the honest to pass for one of them in each column. The paper finds the largest scale that does from
    the normal distribution and the numbers of clients; for few clients that is about 0, so it is an option here, 1.5
    where none is given.
    """

    name = "alie"

    def __init__(self, *arguments: Any, scale: float = 1.5, **keywords: Any) -> None:
        super().__init__(*arguments, scale=scale, **keywords)

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns mean + scale * deviation of the honest rows, column by column."""
        honest = rows[self.honest(len(rows))]
        deviation = honest.std(axis=0, dtype=np.float64, ddof=min(1, len(honest) - 1))
        lie: NDArray[np.float64] = honest.mean(axis=0, dtype=np.float64) + self.scale * deviation
        return lie


class IPM(Scaled):
    """Inner product manipulation (Xie et al. 2019, arXiv 1903.03936): -scale times the mean of the honest rows.

    The scale is 2 where none is given.
    """

    name = "ipm"

    def __init__(self, *arguments: Any, scale: float = 2.0, **keywords: Any) -> None:
        super().__init__(*arguments, scale=scale, **keywords)

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns -scale mean."""
        lie: NDArray[np.float64] = -self.scale * rows[self.honest(len(rows))].mean(axis=0, dtype=np.float64)
        return lie


class Gaussian(Scaled):
    """Each attacker sends noise of its own, normal with standard deviation `scale` (1 where none is given)."""

    name = "gaussian"

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns noise that depends on (seed, round, client)."""
        noise = [
            self.scale * seeds.generator(self.seed, "attack", t, client).standard_normal(rows.shape[1])
            for client in self.acting
        ]
        return np.stack(noise)


class Mimic(Attack):
    """All attackers send what one honest client sends, whose data so counts more (Karimireddy et al. 2022, 2006.09365).

    Args:
        attackers: As for every attack.
        target: The honest client; the first one where None.
        seed: As for every attack.
    """

    name = "mimic"

    def __init__(self, *arguments: Any, target: int | None = None, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if target in self.attackers:
            raise ConfigError(f"attack='mimic:target={target}': client {target} attacks itself. Name an honest client.")
        self.target = target

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns the target's row."""
        target = self.honest(len(rows))[0] if self.target is None else self.target
        lie: Rows = rows[target]
        return lie

    def __str__(self) -> str:
        """The attack with its target."""
        return self.name if self.target is None else f"{self.name}:target={self.target}"
