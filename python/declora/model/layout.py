"""The layout: which columns of the adapter matrix `P` hold which tensor."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from declora.errors import ModelError
from declora.plan import Columns

__all__ = ["Block", "Kind", "Layout"]

Kind = Literal["A", "B", "head"]


@dataclass(frozen=True)
class Block:
    """One named tensor of an adapter and the columns of `P` that hold it.

    `name` is the tensor's key in a PEFT `adapter_model.safetensors`, so a row of `P` and a PEFT file hold the
    same things under the same names.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    start: int
    """First column."""

    @property
    def size(self) -> int:
        """Number of columns."""
        return int(torch.Size(self.shape).numel())

    @property
    def stop(self) -> int:
        """One past the last column."""
        return self.start + self.size


class Layout:
    """The columns of `P [clients, D]`: every LoRA A and B, then the trained head, each flattened row-major."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.blocks = tuple(blocks)
        self._by_name = {block.name: block for block in self.blocks}

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> "Layout":
        """Returns the layout of a PEFT adapter state dict, in the dict's own order."""
        blocks: list[Block] = []
        start = 0
        for name, tensor in tensors.items():
            kind: Kind = "A" if ".lora_A." in name else "B" if ".lora_B." in name else "head"
            blocks.append(Block(name, tuple(tensor.shape), kind, start))
            start = blocks[-1].stop
        return cls(blocks)

    @property
    def columns(self) -> int:
        """D, the number of columns."""
        return self.blocks[-1].stop if self.blocks else 0

    @property
    def whole(self) -> Columns:
        """Every column."""
        return Columns.all(self.columns)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(rows, columns) of every block as a matrix; a vector is one row."""
        rows = [block.shape[0] if len(block.shape) > 1 else 1 for block in self.blocks]
        return [(count, block.size // max(count, 1)) for count, block in zip(rows, self.blocks, strict=True)]

    def inside(self, columns: Columns) -> list[bool]:
        """Returns for each block whether `columns` have it."""
        return [any(a <= block.start and block.stop <= b for a, b in columns.spans) for block in self.blocks]

    def at_rank(self, rank: int) -> "Layout":
        """Returns the columns of the first `rank` components of each layer, and of the head."""
        tensors = {block.name: torch.empty(block.shape, dtype=torch.float32, device="meta") for block in self.blocks}
        for b, a in self.pairs:
            tensors |= {b.name: tensors[b.name][:, :rank], a.name: tensors[a.name][:rank]}
        return Layout.of(tensors)

    def twice(self, second: str) -> "Layout":
        """Returns this layout, and beside it the same blocks again, whose names begin with `second`."""
        again = (replace(block, name=second + block.name, start=self.columns + block.start) for block in self.blocks)
        return Layout((*self.blocks, *again))

    def of_kinds(self, *kinds: Kind) -> Columns:
        """Returns the columns of all blocks of these kinds."""
        spans = ((block.start, block.stop) for block in self.blocks if block.kind in kinds)
        return Columns.of(self.columns, spans)

    @property
    def matrices(self) -> NDArray[np.bool_]:
        """`[D]`: which columns hold matrices, not biases or the scales of norms."""
        return np.repeat([len(block.shape) > 1 for block in self.blocks], [block.size for block in self.blocks])

    @property
    def pairs(self) -> list[tuple[Block, Block]]:
        """B `[d, r]` and A `[r, k]` of every adapted layer, whose product is what the adapter adds to its weight."""
        return [(self[a.name.replace(".lora_A.", ".lora_B.")], a) for a in self.blocks if a.kind == "A"]

    @property
    def factors(self) -> NDArray[np.uint64]:
        """Where the factors of every adapted layer are, as the core reads it, uint64 `[L, 5]` in the order of `pairs`.

        First column of B, first column of A, rank, outputs, inputs.
        """
        rows = [(b.start, a.start, a.shape[0], b.shape[0], a.shape[1]) for b, a in self.pairs]
        return np.array(rows, dtype=np.uint64).reshape(-1, 5)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)

    def __getitem__(self, name: str) -> Block:
        return self._by_name[name]

    def size(self, kind: Kind) -> int:
        """Returns how many columns hold blocks of one kind."""
        return sum(block.size for block in self.blocks if block.kind == kind)

    def view(self, matrix: torch.Tensor, name: str) -> torch.Tensor:
        """Returns block `name` of every row: a strided view `[rows, *shape]` into `matrix [rows, D]`."""
        block = self._by_name[name]
        return matrix[:, block.start : block.stop].view(matrix.shape[0], *block.shape)

    def flatten(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns one row, float32 `[D]`, that holds `tensors` (a PEFT adapter state dict).

        Raises:
            ModelError: A tensor is missing, is unknown, or has another shape.
        """
        if odd := set(tensors) ^ set(self._by_name):
            raise ModelError(f"adapter tensors {sorted(odd)} are not in both the file and this run's layout.")
        row = torch.empty(self.columns, dtype=torch.float32)
        for block in self.blocks:
            if tuple(tensors[block.name].shape) != block.shape:
                found = tuple(tensors[block.name].shape)
                raise ModelError(f"adapter tensor {block.name} has shape {found}, expected {block.shape}.")
            row[block.start : block.stop] = tensors[block.name].detach().to(torch.float32).reshape(-1)
        return row

    def unflatten(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the PEFT adapter state dict of one row `[D]`: contiguous copies, on the CPU."""
        return {
            block.name: row[block.start : block.stop].detach().to("cpu", copy=True).view(block.shape)
            for block in self.blocks
        }

    def digest(self, *extra: str) -> bytes:
        """Returns 16 bytes that two sites share iff their layouts, and `extra`, are equal."""
        lines = [f"{block.name}\t{block.shape}\tfloat32" for block in self.blocks]
        return hashlib.blake2b("\n".join([*lines, *extra]).encode(), digest_size=16).digest()
