"""Copies between a GPU and the memory of the CPU, none of them pageable."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["to_device", "to_host"]


def to_device(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Returns an array as a tensor on `device`; on its way to a GPU nobody waits for it."""
    found = torch.from_numpy(np.ascontiguousarray(values))
    return found if device.type == "cpu" else found.pin_memory().to(device, non_blocking=True)


def to_host(values: torch.Tensor) -> torch.Tensor:
    """Returns a tensor on the CPU: itself where that is where it is, else a copy in pinned memory."""
    values = values.detach()
    if values.device.type == "cpu":
        return values
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values)
