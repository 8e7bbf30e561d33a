"""What compiled code calls and does not look into: code whose work is another in each pass, though tensors are alike.

A program holds for all passes of which its guards are true. Whose tokens a pass computes, which of these see each
other, and with which factors, is known to Python objects that every pass fills anew: guards on these would fail each
time. So a program has two operators in their place, for the way there and the way back, and a number by which these
find the object. Nothing is kept of the way there: on the way back the same code computes again, and autograd its
gradient.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch

__all__ = ["Outside", "call", "numbered"]


class Outside(Protocol):
    """What computes outside of programs."""

    @property
    def leaves(self) -> Sequence[torch.Tensor]:
        """What it has of its own that is trained: where gradients come back to it, they are added to theirs."""

    def outside(
        self, base: torch.Tensor | None, inputs: Sequence[torch.Tensor], options: Sequence[float]
    ) -> torch.Tensor:
        """Returns what it makes of the inputs, added to `base` where that is given: of which only the shape counts."""


_known: WeakValueDictionary[int, Outside] = WeakValueDictionary()
_numbers = itertools.count()


def numbered(thing: Outside, *, trained: bool = False) -> torch.Tensor:
    """Returns a number by which operators find `thing` as long as it is there: as a tensor, on whose value no guard is.

    Args:
        thing: What computes.
        trained: Whether gradients must come back to it: the number then has one, which is 0.
    """
    number = next(_numbers)
    _known[number] = thing
    return torch.tensor(float(number), dtype=torch.float64, device="cpu", requires_grad=trained)


def call(
    number: torch.Tensor,
    base: torch.Tensor | None,
    inputs: list[torch.Tensor],
    shape: Sequence[int],
    options: Sequence[float],
) -> torch.Tensor:
    """Returns what the numbered thing computes: of this shape, and the dtype of `base`, or else of the first input."""
    found: torch.Tensor = torch.ops.declora.outside(number, base, inputs, shape, options)
    return found


def _there(
    number: torch.Tensor,
    base: torch.Tensor | None,
    inputs: list[torch.Tensor],
    shape: Sequence[int],
    options: Sequence[float],
) -> torch.Tensor:
    return _known[int(number)].outside(base, inputs, options).contiguous()


def _back(
    grad: torch.Tensor,
    number: torch.Tensor,
    based: bool,
    inputs: list[torch.Tensor],
    options: Sequence[float],
    wanted: list[bool],
) -> list[torch.Tensor]:
    """Returns the gradient of the number, and of the inputs those that are wanted: of the others nothing, `[0]`."""
    thing = _known[int(number)]
    with torch.enable_grad():
        own = [x.detach().requires_grad_(want) for x, want in zip(inputs, wanted, strict=True)]
        found = thing.outside(grad if based else None, own, options)
        sought = [x for x in (*own, *thing.leaves) if x.requires_grad]
        torch.autograd.backward(found, grad.contiguous(), inputs=sought)
    return [torch.zeros_like(number), *map(_gradient, own)]


def _gradient(x: torch.Tensor) -> torch.Tensor:
    if not x.requires_grad:
        return x.new_empty(0)
    return x.new_zeros(x.shape) if x.grad is None else x.grad.contiguous()


def _like_there(
    number: torch.Tensor, base: torch.Tensor | None, inputs: list[torch.Tensor], shape: Sequence[int], options: Any
) -> torch.Tensor:
    return (inputs[0] if base is None else base).new_empty(shape)


def _like_back(
    grad: torch.Tensor, number: torch.Tensor, based: bool, inputs: list[torch.Tensor], options: Any, wanted: list[bool]
) -> list[torch.Tensor]:
    return [
        number.new_empty(()),
        *(x.new_empty(x.shape if want else 0) for x, want in zip(inputs, wanted, strict=True)),
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    number, base, tensors, _, options = inputs
    ctx.save_for_backward(number, *tensors)
    ctx.based, ctx.options = base is not None, options


def _gradients(ctx: Any, grad: torch.Tensor) -> Any:
    number, *inputs = ctx.saved_tensors
    of_number, _, wanted, *_ = ctx.needs_input_grad
    zero, *found = torch.ops.declora.outside_back(grad, number, ctx.based, inputs, ctx.options, list(wanted))
    grads = [x if want else None for x, want in zip(found, wanted, strict=True)]
    return zero if of_number else None, grad if ctx.based else None, grads, None, None


torch.library.define(
    "declora::outside", "(Tensor number, Tensor? base, Tensor[] inputs, SymInt[] shape, float[] options) -> Tensor"
)
torch.library.define(
    "declora::outside_back",
    "(Tensor grad, Tensor number, bool based, Tensor[] inputs, float[] options, bool[] wanted) -> Tensor[]",
)
torch.library.impl("declora::outside", "default", _there)
torch.library.impl("declora::outside_back", "default", _back)
torch.library.register_fake("declora::outside", _like_there)
torch.library.register_fake("declora::outside_back", _like_back)
torch.library.register_autograd("declora::outside", _gradients, setup_context=_keep)
