"""The matrix products of a training step on a CPU beside torch's own: prints one table and keeps it.

Run `python benches/products.py` on an idle machine. Sizes are those of the layers of all-MiniLM-L6-v2 (384 and 1536)
and of a larger model (2048), tokens those of a step of 10 clients. Candidates take turns, so each finds the caches full
of others' data; figures are medians. `ONEDNN_MAX_CPU_ISA=AVX2 python benches/products.py` tells what oneDNN is without
AVX-512.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from compare import Row, Work, in_turn
from declora.model.frozen import FrozenLinear
from declora.model.grouped import grouped_lora
from publish import machine, publish

Forward = Callable[[], torch.Tensor]

TOKENS, CLIENTS, RANK = (500, 2000), 10, 8
LAYERS = ((384, 384), (384, 1536), (1536, 384), (2048, 2048))


def rows(task: str, size: str, flops: float, candidates: dict[str, Work]) -> list[Row]:
    """Returns a line for each candidate, beside the first."""
    medians = in_turn(candidates)
    first = next(iter(medians.values()))
    return [
        (task, size, name, f"{taken * 1e3:.2f}", f"{flops / taken / 1e9:.0f}", f"{taken / first:.2f}")
        for name, taken in medians.items()
    ]


def with_gradients(work: Forward, leaves: Sequence[torch.Tensor], grad: torch.Tensor) -> Work:
    """Returns a forward pass with its backward pass."""
    return lambda: torch.autograd.grad(work(), leaves, grad)


def frozen(tokens: int, inputs: int, outputs: int) -> list[Row]:
    """A frozen layer: its product and the gradient of its input."""
    layer = nn.Linear(inputs, outputs).requires_grad_(False)
    if not FrozenLinear.replaces(layer):
        raise SystemExit("frozen layers are torch's own here: there is nothing to compare")
    fast, x, grad = FrozenLinear(layer), torch.randn(tokens, inputs).requires_grad_(), torch.randn(tokens, outputs)
    candidates = {
        "declora (oneDNN)": with_gradients(lambda: fast(x), [x], grad),
        "torch.nn.Linear": with_gradients(lambda: layer(x), [x], grad),
    }
    return rows("frozen layer", f"{tokens} x {inputs} x {outputs}", 4.0 * tokens * inputs * outputs, candidates)


def lora(tokens: int, inputs: int, outputs: int) -> list[Row]:
    """LoRA of a group: what is added to the base's output, and the gradients of A, B, the input and that output."""
    shapes = ((tokens, outputs), (tokens, inputs), (CLIENTS, RANK, inputs), (CLIENTS, outputs, RANK))
    y, x, a, b = leaves = [(torch.randn(shape) / shape[-1] ** 0.5).requires_grad_() for shape in shapes]
    counts = np.full(CLIENTS, tokens // CLIENTS, np.uint32)
    owner = torch.from_numpy(np.repeat(np.arange(CLIENTS), counts))

    def clients_in_turn() -> torch.Tensor:
        parts = zip(x.split(counts.tolist()), a, b, strict=True)
        return torch.add(y, torch.cat([own @ down.t() @ up.t() for own, down, up in parts]), alpha=2.0)

    def batched() -> torch.Tensor:
        own = x.view(CLIENTS, -1, inputs)
        return torch.add(y, torch.bmm(torch.bmm(own, a.mT), b.mT).view(tokens, outputs), alpha=2.0)

    def factors_of_each_token() -> torch.Tensor:
        down = torch.einsum("nri,ni->nr", a[owner], x)
        return torch.add(y, torch.einsum("nor,nr->no", b[owner], down), alpha=2.0)

    candidates: dict[str, Forward] = {
        "declora": lambda: grouped_lora(y, x, a, b, counts, scaling=2.0),
        "torch, client by client": clients_in_turn,
        "torch.bmm (needs clients of equal length)": batched,
        "torch.einsum, factors of each token": factors_of_each_token,
    }
    if not all(torch.allclose(work(), candidates["declora"](), rtol=0, atol=1e-5) for work in candidates.values()):
        raise SystemExit("not the same work")
    grad = torch.randn(tokens, outputs)
    both = {name: with_gradients(work, leaves, grad) for name, work in candidates.items()}
    flops = 6.0 * tokens * RANK * (inputs + outputs)
    return rows("LoRA", f"{tokens} x {inputs} x {outputs}, rank {RANK}, {CLIENTS} clients", flops, both)


def main() -> None:
    """Measures, prints and writes a page of results."""
    torch.manual_seed(0)
    facts = {**machine(), "ONEDNN_MAX_CPU_ISA": os.environ.get("ONEDNN_MAX_CPU_ISA", "not set")}
    sizes = [(tokens, *layer) for tokens in TOKENS for layer in LAYERS]
    table = [row for work in (frozen, lora) for size in sizes for row in work(*size)]
    columns = ["forward and backward of", "size", "by", "ms", "GFLOP/s", "times the first"]
    publish("products", "Products of a training step", facts, columns, table)


if __name__ == "__main__":
    main()
