"""Compilation: torch makes a program of what a transformer block computes, with fewer kernels and less written between.

It is made once for all blocks that are alike, and for all texts: numbers of tokens are sizes that it leaves open, and
what belongs to clients is outside of it (`model/outside.py`).
"""

import importlib.util
import os
import shutil
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch._dynamo.exc
from torch import nn
from transformers import PreTrainedModel

from declora.errors import ConfigError
from declora.model.batched import BatchedLora, PerClient
from declora.model.checkpoint import reason
from declora.model.forwards import computing_by
from declora.model.outside import numbered
from declora.model.unpad import blocks_of

__all__ = ["Compilation", "check_compiler"]

BACKEND: str | Callable[..., Any] = "inductor"
"""Of `torch.compile`: what makes the programs."""
_TOO_MANY = ("FailOnRecompileLimitHit", "FailOnCacheLimitHit")
"""What torch raises where code has its most programs, by the names of its releases; no errors of its compiler."""


class Compilation:
    """The blocks of a model as programs, where gradients are wanted of them.

    Args:
        blocks: With batched layers in place.
        backend: Of `torch.compile`.

    Attributes:
        tried: Whether programs were made of the blocks, and compute the same: what torch then cannot compile computes
            as it is written. Before, its error is raised.
    """

    def __init__(self, blocks: Sequence[nn.Module], backend: str | Callable[..., Any]) -> None:
        self._blocks = blocks
        self._backend = backend
        self.tried = False
        self._programs: dict[tuple[bool, ...], Callable[..., Any]] = {}
        for layer in (module for block in blocks for module in block.modules()):
            if isinstance(layer, BatchedLora):
                layer.number = numbered(layer, trained=True)

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Compilation | None":
        """Returns that of `model`, None where no program could be made of its blocks."""
        blocks = [block for block in blocks_of(model) or () if _plain(block)]
        return cls(blocks, BACKEND) if blocks else None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Has the blocks compute so, but for those with hooks inside, which programs would not call."""
        blocks = [block for block in self._blocks if _plain(block)]
        with computing_by(blocks, lambda block: partial(self._forward, block)):
            yield

    def _forward(self, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return _computed(block, *args, **kwargs)
        mode = tuple(x.requires_grad if isinstance(x, torch.Tensor) else x is None for x in (*args, *kwargs.values()))
        if mode not in self._programs:
            # torch keeps programs by code, and few of one code: so each mode of each model has a copy of it.
            own = types.FunctionType(_computed.__code__.replace(), globals())
            self._programs[mode] = torch.compile(own, fullgraph=True, dynamic=True, backend=self._backend)
        _leave_open((*args, *kwargs.values()))
        try:
            return self._programs[mode](block, *args, **kwargs)
        except Exception as error:
            why = "torch has made as many programs of the blocks as it may"
            if type(error).__name__ not in _TOO_MANY:
                if not self.tried or not isinstance(error, torch._dynamo.exc.TorchDynamoException):
                    raise
                why = f"torch cannot compile the blocks for all that they compute ({reason(error).rstrip('.')})"
            warnings.warn(
                f"{why}. From now on they compute as they are written where it would need others, which is slower: "
                "leave compile out for this model.",
                stacklevel=2,
            )
            self._programs[mode] = _computed
            return _computed(block, *args, **kwargs)


def _computed(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return type(block).forward(block, *args, **kwargs)


def _leave_open(values: Iterable[Any]) -> None:
    """Has a program hold for tensors of any sizes: torch takes sizes that are equal by chance to be so always."""
    for value in values:
        if isinstance(value, tuple):
            _leave_open(value)
        elif isinstance(value, torch.Tensor):
            for tensor in (value, *([] if value._base is None else [value._base])):
                torch._dynamo.maybe_mark_dynamic(tensor, list(range(tensor.dim())))


def check_compiler(device: torch.device) -> None:
    """Checks that there is what makes programs for `device`.

    Raises:
        ConfigError: Something is missing; names it.
    """
    if BACKEND != "inductor":
        return
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError("compile=True needs Triton on a GPU. Install the package triton, or leave compile out.")
    variable, usual = ("CC", ("cc", "gcc", "clang")) if device.type == "cuda" else ("CXX", ("g++",))
    said = os.environ.get(variable)
    if not any(map(shutil.which, (said,) if said else usual)):
        what = f"{variable}={said} is not there" if said else f"there is no {' or '.join(usual)} here"
        raise ConfigError(
            f"compile=True needs a compiler, and {what}. Install one (gcc and g++), name it in {variable}, or leave "
            "compile out."
        )


def _plain(block: nn.Module) -> bool:
    """Whether a program would compute what `block` does: torch has no guards on hooks."""
    for module in block.modules():
        hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
        if module is not block and any(hooks):
            return False
        if "forward" in vars(module) or (isinstance(module, PerClient) and not isinstance(module, BatchedLora)):
            return False
    return True
