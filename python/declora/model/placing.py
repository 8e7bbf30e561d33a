"""Arrays of the host as tensors of a device."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["on_device"]


def on_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Returns `array` as a tensor of `device`: itself on the CPU.

    On a GPU it goes by pinned memory, so that nobody waits for the card to have it.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
