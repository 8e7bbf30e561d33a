"""Frozen linear layers on a CPU: their products by oneDNN, and no gradient but that of the input.

torch multiplies float32 matrices by MKL, which on CPUs of other makers leaves half of AVX-512 unused. oneDNN, which
torch carries for other uses, was twice as fast there, and faster with AVX2 too (`benches/products.py`).
"""

import functools
import platform
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import Conv1D

__all__ = ["FrozenLinear", "product_rows"]


def product_rows(rows: int) -> int:
    """Returns how many rows a product of `rows` is made for, some of them zeros that nobody reads.

    oneDNN compiles a program for each number of rows and keeps it, half a megabyte (torch 2.13), in the way of all that
    is allocated later. So numbers are rounded up to a multiple of the power of two next to their root, by which the
    tokens of a batch vary: some dozen are in use, of few tokens or of many.
    """
    step = 1 << ((max(rows, 1) - 1).bit_length() + 1) // 2
    return -(-rows // step) * step


class _Product(torch.autograd.Function):
    """`x W^T + bias` for a weight and a bias that nobody trains."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.weight = weight
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return _onednn(grad, ctx.weight.t(), None), None, None


class FrozenLinear(nn.Module):
    """What `base` computes, an `nn.Linear` or a `Conv1D`, with the same weight and bias."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.weight: nn.Parameter = base.get_parameter("weight")
        self.bias: nn.Parameter | None = dict(base.named_parameters()).get("bias")
        self.turned = isinstance(base, Conv1D)
        self.in_features, self.out_features = reversed(self._matrix().shape)

    @staticmethod
    def replaces(module: nn.Module) -> bool:
        """Whether `module` is a layer that this one computes faster: of these two kinds, on a CPU, without a hook."""
        hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
        if type(module) not in (nn.Linear, Conv1D) or any(hooks) or "forward" in vars(module):
            return False
        weight = module.get_parameter("weight")
        plain = weight.device.type == "cpu" and weight.dtype == torch.float32
        return plain and bool(torch.backends.mkldnn.enabled) and _available()

    def _matrix(self) -> torch.Tensor:
        """The weight, `[O, I]`."""
        return self.weight.detach().t() if self.turned else self.weight.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns float32 `[..., O]` for float32 `x [..., I]`."""
        weight, bias = self._matrix(), None if self.bias is None else self.bias.detach()
        if torch.compiler.is_compiling():
            found: torch.Tensor = _operator(x, weight, bias)
            return found
        if not x.numel():
            return functional.linear(x, weight, bias)
        # Views are taken outside of `_Product`: torch forbids to change a view in place that a Function made.
        flat = x.reshape(-1, x.shape[-1])
        if spare := product_rows(len(flat)) - len(flat):
            full = torch.cat([flat, x.new_zeros(spare, x.shape[-1])])
            return _product(full, weight, bias)[: len(flat)].view(*x.shape[:-1], -1)
        return _product(flat, weight, bias).view(*x.shape[:-1], -1)


@torch.library.custom_op("declora::frozen_product", mutates_args=())
def _operator(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What programs have in place of `FrozenLinear.forward`: in how many rows it is made is not looked into."""
    if not x.numel():
        return functional.linear(x, weight, bias)
    flat = x.reshape(-1, x.shape[-1])
    found = _onednn(functional.pad(flat, (0, 0, 0, product_rows(len(flat)) - len(flat))), weight, bias)
    return found[: len(flat)].reshape(*x.shape[:-1], -1)


@_operator.register_fake
def _operator_shape(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))


def _keep_weight(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _operator_back(ctx: Any, grad: torch.Tensor) -> Any:
    (weight,) = ctx.saved_tensors
    return _operator(grad, weight.t(), None), None, None


_operator.register_autograd(_operator_back, setup_context=_keep_weight)


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if not torch.is_grad_enabled() or not x.requires_grad:
        return _onednn(x, weight, bias)
    result: torch.Tensor = _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


def _onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


@functools.cache
def _available() -> bool:
    """Whether this torch has oneDNN's product, where it was measured: on x86-64."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        plain, turned = _product(x, weight, bias), _product(x, weight.t().contiguous().t(), None)
    except (AttributeError, RuntimeError, TypeError):  # torch makes no promise of this operator
        return False
    return torch.equal(plain, functional.linear(x, weight, bias)) and torch.equal(turned, x @ weight.t())
