"""The settings of torch that a run does not want from its caller, and gives back to it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["usual_torch"]


@contextmanager
def usual_torch() -> Iterator[None]:
    """Computes as torch does by default, whatever the caller has switched on.

    Gradients are recorded, nothing is cast automatically, and new tensors are float32 and on the CPU. Who calls this
    under `torch.no_grad()`, `torch.inference_mode()`, `torch.autocast(...)`, with another default dtype or another
    default device gets what all others get, and keeps these afterwards.
    """
    with ExitStack() as usual:
        usual.enter_context(torch.inference_mode(False))
        usual.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                usual.enter_context(torch.autocast(kind, enabled=False))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            usual.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":  # else its own mode would slow every call down
            usual.enter_context(torch.device("cpu"))
        yield
