"""Layers that apply each row's own client's parameters over one shared frozen base.

Shape suffixes: R rows (sequences) of a forward pass, T tokens, I inputs, O outputs, r rank, C clients of a group.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from declora import seeds
from declora.errors import ModelError
from declora.model.dropout import row_masks, token_masks
from declora.model.grouped import by_torch, grouped_linear, grouped_lora
from declora.model.outside import call
from declora.model.owners import RowOwners
from declora.model.unpadded import Unpadded

__all__ = ["BatchedLinear", "BatchedLora", "PerClient"]


class PerClient(nn.Module):
    """A layer with parameters of each client, which finds the sequences of a pass in its input.

    Attributes:
        row_axis: Which axis of the input counts the sequences, alone or (the first one) with what follows them; None
            where none does. Each client's parameters then meet its own sequences only if a pass has no others.
    """

    def __init__(self, name: str, owners: RowOwners) -> None:
        super().__init__()
        self.name = name
        self.owners = owners
        self.row_axis: int | None = 0

    def by_row(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `x` as `[R, T, I]`, whatever of `[R, T, I]`, `[T, R, I]`, `[R, I]`, `[R*T, I]` came in."""
        count, axis = self.owners.count, self.row_axis
        if axis is not None and count and x.dim() > axis + 1 and x.shape[axis] % count == 0:
            return x.movedim(axis, 0).reshape(count, -1, x.shape[-1])
        raise ModelError(
            f"layer {self.name!r} got an input of shape {tuple(x.shape)}, in which {count} sequences cannot be told "
            "apart. Set group_size=1, or leave it out of lora.target_modules."
        )

    def as_input(self, y: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Returns `y [R, T, O]` arranged as the input of `shape` was from which `by_row` made `[R, T, I]`."""
        axis = self.row_axis or 0
        moved = (shape[axis], *shape[:axis], *shape[axis + 1 : -1])
        return y.reshape(*moved, y.shape[-1]).movedim(0, axis)

    def pick(self, stacked: torch.Tensor) -> torch.Tensor:
        """Returns each row's own client's slice `[R, ...]` of `stacked [C, ...]`."""
        owner = self.owners.owner
        # index_select, not indexing: its backward is a plain, deterministic index_add.
        return stacked if owner is None else torch.index_select(stacked, 0, owner)


class BatchedLora(PerClient):
    """`base(x) + scaling * B_c A_c dropout(x)`, with c the client of each row (Hu et al. 2021, arXiv 2106.09685)."""

    def __init__(
        self, base: nn.Module, name: str, owners: RowOwners, *, scaling: float, dropout: float, seed: int
    ) -> None:
        super().__init__(name, owners)
        self.base = base
        self.scaling = scaling
        self.dropout = dropout
        self.dropout_seed = seeds.derive(seed, "lora-dropout", name)
        self.lora_a: torch.Tensor  # [C, r, I]
        self.lora_b: torch.Tensor  # [C, O, r]
        self.number: torch.Tensor
        """By which programs find this layer."""

    @property
    def weight(self) -> torch.Tensor:
        """The base's, for models that look at it (T5 asks for its dtype)."""
        return self.base.get_parameter("weight")

    @property
    def bias(self) -> torch.Tensor | None:
        """The base's."""
        found: torch.Tensor | None = getattr(self.base, "bias", None)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `[..., O]` in the base's dtype; the LoRA part is float32, but for what `grouped_lora` says."""
        y: torch.Tensor = self.base(x)
        if torch.compiler.is_compiling():
            return call(self.number, y, [x], y.shape, [float(self.owners.inside is not None)])
        return self._adapted(y, x, self.owners.inside)

    @property
    def leaves(self) -> Sequence[torch.Tensor]:
        """The factors that are bound."""
        return self.lora_a, self.lora_b

    def outside(
        self, base: torch.Tensor | None, inputs: Sequence[torch.Tensor], options: Sequence[float]
    ) -> torch.Tensor:
        """Returns what `forward` does, for programs.

        Args:
            base: What the base makes of `x`.
            inputs: `x`.
            options: Whether it is of unpadded tokens: on the way back hooks no longer say which are inside.
        """
        batch, (x,) = self.owners.unpadded, inputs
        assert base is not None
        return self._adapted(base, x, batch.tokens if batch is not None and options[0] else None)

    def _adapted(self, y: torch.Tensor, x: torch.Tensor, inside: Unpadded | None) -> torch.Tensor:
        if inside is not None:
            return self._unpadded(y, x, inside)
        h = x.float()
        if self.dropout and self.owners.training:
            h = self._dropped(h)
        if self.owners.owner is None:
            delta = functional.linear(functional.linear(h, self.lora_a[0]), self.lora_b[0])
        else:
            down = torch.bmm(self.by_row(h), self.pick(self.lora_a).transpose(1, 2))  # R T r
            delta = self.as_input(torch.bmm(down, self.pick(self.lora_b).transpose(1, 2)), h.shape)
        return torch.add(y, delta, alpha=self.scaling).to(y.dtype)

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `x` times its mask: a row of it for each sequence, or where none can be told, one for all."""
        masks = partial(row_masks, self.owners, rate=self.dropout, seed=self.dropout_seed, device=x.device)
        if self.row_axis is None:
            inputs = x.shape[-1]
            return x * masks((1, x.numel() // inputs, inputs)).view_as(x)
        h = self.by_row(x)
        count, tokens, inputs = h.shape
        return self.as_input(h * masks((count, tokens, inputs)), x.shape)

    def _unpadded(self, y: torch.Tensor, x: torch.Tensor, unpadded: Unpadded) -> torch.Tensor:
        """Returns `[1, N, O]` for unpadded tokens `x [1, N, I]` of which the base made `y [1, N, O]`."""
        if self.dropout and self.owners.training:
            x = x * token_masks(
                self.owners, unpadded, x.shape[-1], rate=self.dropout, seed=self.dropout_seed, device=x.device
            )
        factors, rows = (self.lora_a, self.lora_b), unpadded.by_client
        return grouped_lora(y.squeeze(0), x.squeeze(0), *factors, rows, scaling=self.scaling).unsqueeze(0)


class BatchedLinear(PerClient):
    """A trained linear layer (of the head) with each row's own client's weight and bias."""

    def __init__(self, name: str, owners: RowOwners) -> None:
        super().__init__(name, owners)
        self.weight: torch.Tensor  # [C, O, I]
        self.bias: torch.Tensor | None = None  # [C, O]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `[..., O]` in float32."""
        h = x.float()
        if self.owners.owner is None:
            return functional.linear(h, self.weight[0], None if self.bias is None else self.bias[0])
        if by_torch(h) and self.owners.by_client is not None:
            rows = self.by_row(h)
            return self.as_input(grouped_linear(rows, self.weight, self.bias, self.owners.by_client), h.shape)
        y = torch.bmm(self.by_row(h), self.pick(self.weight).transpose(1, 2))  # R T O
        if self.bias is not None:
            y = y + self.pick(self.bias).unsqueeze(1)
        return self.as_input(y, h.shape)
