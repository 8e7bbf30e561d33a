"""What losses are multiplied by on the way back, so that gradients of a base in float16 are numbers that it has."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["LossScale", "computes_in_half"]

_FIRST, _MOST = 2.0**16, 2.0**24
_CALM = 2000
"""Steps that stay finite, one after another, after which a scale doubles; as in torch's `GradScaler`."""
Found = TypeVar("Found")


class LossScale:
    """A power of two for each client (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2).

    The smallest numbers of float16 are near 6e-8, and gradients of hidden states are often smaller, so the losses of a
    client are multiplied before they are propagated, and its gradients divided by as much, which float32 does exactly.
    Where that leaves the finite numbers, the step is computed again with half of the scale, so no step is left out, as
    `GradScaler` does.

    A scale is a function of what its own client computed alone. To see whether all is finite a GPU is waited for in
    each step, in float16 only.

    Args:
        room: Keeps them: `scale` float32 `[clients]`, and `calm` int64 `[clients]`, for how many steps each was finite.
        clients: How many.
    """

    def __init__(self, room: dict[str, Any], clients: int) -> None:
        self._room = room
        room["scale"] = np.full(clients, _FIRST, dtype=np.float32)
        room["calm"] = np.zeros(clients, dtype=np.int64)

    @property
    def scales(self) -> NDArray[np.float32]:
        """float32 `[clients]`."""
        found: NDArray[np.float32] = self._room["scale"]
        return found

    def settled(self, gradients: torch.Tensor, compute: Callable[[], Found]) -> Found:
        """Computes gradients until they are finite, or would not become so by a lower scale.

        Args:
            gradients: float32 `[clients, D]`, which `compute` leaves.
            compute: The passes, which begin anew each time.

        Returns:
            What `compute` returned last.
        """
        while True:
            found = compute()
            if not self._lower(gradients):
                return found

    def _lower(self, gradients: torch.Tensor) -> bool:
        """Halves the scales that were too large, where they can be; returns whether there were such."""
        calm = self._room["calm"]
        finite = torch.isfinite(torch.linalg.vector_norm(gradients, dim=1)).cpu().numpy()
        too_large = ~finite & (self.scales > 1)
        if too_large.any():
            self.scales[too_large] /= 2
            calm[too_large] = 0
            return True
        calm += 1
        due = calm >= _CALM
        self.scales[due] = np.minimum(2 * self.scales[due], _MOST)
        calm[due] = 0
        return False


def computes_in_half(model: torch.nn.Module) -> bool:
    """Returns whether gradients of hidden states of a model go through float16."""
    dtypes = {parameter.dtype for parameter in model.parameters()}
    of_4_bits = {getattr(layer, "compute_dtype", None) for layer in model.modules()}  # as bitsandbytes has it
    return torch.float16 in dtypes | of_4_bits
