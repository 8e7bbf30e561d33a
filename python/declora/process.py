"""Guards what a process has only once: generators, warning filters, log levels, settings of torch and matplotlib.

Libraries keep such things in globals, so runs in threads of one process could disturb each other. Whoever changes one,
or calls what does, does so `alone()`, and leaves it as it was.
"""

import logging
import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from declora.errors import ConfigError, shown

if TYPE_CHECKING:
    import torch

__all__ = ["alone", "local_rank", "memory", "ranks", "seeded", "tensor_float_32", "usual_torch"]

logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
"""It warns whoever imports PEFT that one fast kernel of many is not there, which concerns nobody here."""
_lock = threading.RLock()
_rounding: list[bool] = []
"""Where somebody wants TensorFloat-32: what torch's switch was before, then True for each who does."""
if hasattr(os, "register_at_fork"):
    # A child has one thread. Were the lock another's at that moment, nobody there would ever give it back.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextmanager
def alone() -> Iterator[None]:
    """Keeps the other threads of this process out of all that is done `alone`; a thread may be so more than once."""
    with _lock:
        yield


def ranks() -> int:
    """Returns how many processes this one was started together with, as torchrun says: 1 where it is by itself.

    Raises:
        ConfigError: The environment says something that is no number.
    """
    said = os.environ.get("WORLD_SIZE") or "1"
    if not said.isdecimal():
        raise ConfigError(f"WORLD_SIZE={shown(said)} must be the number of ranks. Set it, or unset it to run alone.")
    return max(1, int(said))


def local_rank() -> int:
    """Returns which of the ranks of its machine this one is, from 0, as torchrun says; 0 where nobody says it."""
    said = os.environ.get("LOCAL_RANK") or ""
    return int(said) if said.isdecimal() and ranks() > 1 else 0


def memory() -> int:
    """Returns how many bytes of memory the machine has in all."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def seeded(seed: int, device: "torch.device | None" = None) -> Iterator[None]:
    """Seeds the global generators for what libraries draw from them inside; afterwards they are as they were.

    Args:
        seed: 0 <= seed < 2^64.
        device: Where else than on the CPU something may be drawn.
    """
    import torch  # here, so that rooms without tensors need not load it

    with alone(), ExitStack() as restored:
        restored.callback(random.setstate, random.getstate())
        restored.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002 - others draw from it
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        gpu = device if device is not None and device.type == "cuda" else None
        restored.enter_context(torch.random.fork_rng([] if gpu is None else [gpu]))
        # Not torch.manual_seed, which seeds every device there is, also those that fork_rng does not give back.
        torch.default_generator.manual_seed(seed)
        if gpu is not None:
            restored.enter_context(torch.cuda.device(gpu))
            torch.cuda.manual_seed(seed)
        yield


@contextmanager
def tensor_float_32(on: bool) -> Iterator[None]:
    """Has a GPU round what it multiplies in float32 to TensorFloat-32, 10 bits after the point, where it is `on`.

    torch has one switch for all threads, so what others multiply meanwhile is rounded, too: it is on from the first who
    wants it to the last, and then as it was.
    """
    import torch

    products = torch.backends.cuda.matmul
    with alone():
        if on and not _rounding:
            _rounding.append(products.allow_tf32)
        if on:
            _rounding.append(True)
            products.allow_tf32 = True
    try:
        yield
    finally:
        with alone():
            if on:
                _rounding.pop()
                if len(_rounding) == 1:  # nobody wants it any more
                    products.allow_tf32 = _rounding.pop()


@contextmanager
def usual_torch() -> Iterator[None]:
    """Computes as torch does by default, whatever the caller has switched on.

    Gradients are recorded, nothing is cast automatically, and new tensors are float32 and on the CPU. Who calls this
    under `torch.no_grad()`, `torch.inference_mode()`, `torch.autocast(...)`, with another default dtype or another
    default device gets what all others get, and keeps these afterwards.
    """
    import torch

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
