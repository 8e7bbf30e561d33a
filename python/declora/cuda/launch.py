"""How kernels are started, and how their small arguments get to the GPU."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["cut", "launch", "there", "to_device"]


def there(device: torch.device) -> bool:
    """Returns whether the functions of this room work on `device`: a GPU, and Triton is installed."""
    return device.type == "cuda" and find_spec("triton") is not None


def launch(kernel: Any, programs: int, x: torch.Tensor, *arguments: Any, **options: Any) -> None:
    """Starts a kernel on the device of its first argument `x`, each product and sum of it rounded by itself."""
    if programs:
        with torch.cuda.device_of(x):
            kernel[(programs,)](x, *arguments, enable_fp_fusion=False, **options)


def to_device(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Returns a small array as a tensor; on its way to a GPU nobody waits for it."""
    found = torch.from_numpy(np.ascontiguousarray(values))
    return found if device.type == "cpu" else found.pin_memory().to(device, non_blocking=True)


def cut(numbers: int, tile: int) -> int:
    """Returns how many tiles cover so many numbers."""
    return -(-numbers // tile)
