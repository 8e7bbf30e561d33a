"""How much a run of T rounds of K local steps gains, by the bound of BLADE-FL (arXiv 2101.06905).

Expanded to second order in the step size, and in our letters (the paper's K are rounds, its tau local steps), the gain
of G = K T local steps is c1 G - c2 (G^2 / T - G): progress, less what clients drift apart within rounds. What counts
is ratio = c1 / c2, which is small where data are unlike or steps are large.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["best_rounds", "gain", "most_steps"]


def gain(rounds: ArrayLike, steps: ArrayLike, ratio: float) -> NDArray[np.float64]:
    """Returns the gain of `rounds` of `steps` local steps each, float64, in units of c2: T ((1 + ratio) K - K^2)."""
    many, each = (np.asarray(count, dtype=np.float64) for count in (rounds, steps))
    gained: NDArray[np.float64] = many * ((1 + ratio) * each - each**2)
    return gained


def most_steps(ratio: float) -> int:
    """Returns the local steps of a round after which another gains nothing, however cheap: ratio / 2, rounded up."""
    return max(1, math.ceil(ratio / 2))


def best_rounds(seconds: float, *, step_seconds: float, round_seconds: float, ratio: float) -> float:
    """Returns the rounds T of largest gain in a time, were T and K no whole numbers.

    That is t / sqrt(beta^2 + alpha beta (1 + ratio)); what rounds leave of the time are local steps.

    Args:
        seconds: t, of the whole run.
        step_seconds: alpha, of a local step.
        round_seconds: beta > 0, what a round takes beside its steps.
        ratio: c1 / c2.
    """
    return seconds / math.sqrt(round_seconds**2 + step_seconds * round_seconds * (1 + ratio))
