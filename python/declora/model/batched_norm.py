"""A trained layer norm (of a new head) with each row's own client's gain and shift."""

import torch
from torch import nn
from torch.nn import functional

from declora.model.batched import PerClient
from declora.model.owners import RowOwners

__all__ = ["BatchedNorm"]


class BatchedNorm(PerClient):
    """`nn.LayerNorm` with parameters per client; what it divides by does not depend on them."""

    def __init__(self, base: nn.LayerNorm, name: str, owners: RowOwners) -> None:
        super().__init__(name, owners)
        self.shape = base.normalized_shape
        self.eps = base.eps
        self.weight: torch.Tensor  # [C, H]
        self.bias: torch.Tensor | None = None  # [C, H]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what `x` is, in float32."""
        if self.owners.owner is None:
            return functional.layer_norm(
                x.float(), self.shape, self.weight[0], None if self.bias is None else self.bias[0], self.eps
            )
        normed = functional.layer_norm(self.by_row(x.float()), self.shape, eps=self.eps)
        y = normed * self.pick(self.weight).unsqueeze(1)
        if self.bias is not None:
            y = y + self.pick(self.bias).unsqueeze(1)
        return self.as_input(y, x.shape)
