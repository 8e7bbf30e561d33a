"""Where kernels run, and how they are started."""

import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from declora.errors import ConfigError, cut

__all__ = ["check_rows", "launch", "there", "tiles_for"]


def there(device: torch.device) -> bool:
    """Returns whether the functions of this room work on `device`: a GPU for which Triton can compile a kernel.

    It is tried once. What hinders it is said in a warning: users may install it.
    """
    return device.type == "cuda" and find_spec("triton") is not None and _works(device)


@cache
def _works(device: torch.device) -> bool:
    try:
        from declora.cuda.kernels import floats

        x, out = (torch.full((1, 1), value, dtype=torch.float32, device=device) for value in (1.0, 0.0))
        bad = torch.zeros(1, dtype=torch.int32, device=device)
        launch(floats.encode, 1, x, 1, out, 1, bad, 1, 1, LIMIT=1 << 30, TILE=32)
        return bool(out.item() == 1.0)
    except Exception as error:  # of any kind: a compiler, a driver, a library are missing or do not fit
        warnings.warn(
            f"Triton cannot compile for {device} ({cut(error)}), so gossip goes through the memory of the CPU: more "
            "slowly, with the same results. Triton needs a C compiler and the headers of Python.",
            stacklevel=2,
        )
        return False


def launch(kernel: Any, programs: int, x: torch.Tensor, *arguments: Any, **options: Any) -> None:
    """Starts a kernel on the device of its first argument `x`, each product and sum of it rounded by itself."""
    if programs:
        with torch.cuda.device_of(x):
            kernel[(programs,)](x, *arguments, enable_fp_fusion=False, **options)


def tiles_for(numbers: int, tile: int) -> int:
    """Returns how many tiles cover so many numbers."""
    return -(-numbers // tile)


def check_rows(name: str, x: torch.Tensor, shape: tuple[int, int], device: torch.device) -> None:
    """Checks what a kernel takes for granted of a matrix: else it would read and write the memory of others.

    Raises:
        ConfigError: It is not float32 of that shape, its rows contiguous, on `device`; names it and what it is.
    """
    if x.dtype != torch.float32 or x.shape != shape or x.device != device or (x.numel() and x.stride()[1] != 1):
        raise ConfigError(
            f"{name} is {x.dtype} {list(x.shape)} of strides {list(x.stride())} on {x.device}, but must be "
            f"torch.float32 {list(shape)} on {device}, its rows contiguous."
        )
