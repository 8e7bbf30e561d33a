"""Clients whose adapters have ranks of their own, as columns of one layout: a lower rank is zeros in its last ones."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from peft import LoraConfig

from declora.cuda import to_device
from declora.errors import ModelError
from declora.model.layout import Layout

__all__ = ["at_rank", "beyond"]


def at_rank(lora: LoraConfig, rank: int) -> LoraConfig:
    """Returns the configuration with another rank and the same scale of B A, lora_alpha / r (of rsLoRA, / sqrt r).

    Raises:
        ModelError: Layers have ranks of their own.
    """
    if lora.rank_pattern:
        raise ModelError(
            f"lora.rank_pattern={lora.rank_pattern} gives layers ranks of their own, but ranks, or the method, needs "
            "one rank of all layers. Leave one of them out."
        )
    share = rank / lora.r
    factor = share**0.5 if lora.use_rslora else share
    changed = copy.deepcopy(lora)
    changed.r, changed.lora_alpha = rank, _whole(lora.lora_alpha * factor)
    changed.alpha_pattern = {layer: _whole(alpha * factor) for layer, alpha in (lora.alpha_pattern or {}).items()}
    return changed


def beyond(layout: Layout, ranks: Sequence[int], device: torch.device) -> torch.Tensor:
    """Returns which columns each client lacks, bool `[clients, D]`: B's columns and A's rows beyond its rank."""
    found = torch.zeros(len(ranks), layout.columns, dtype=torch.bool, device=device)
    own = to_device(np.array(ranks, dtype=np.int64), device)[:, None]
    for b, a in layout.pairs:
        missing = torch.arange(a.shape[0], device=device) >= own
        layout.view(found, b.name)[:] = missing[:, None, :]
        layout.view(found, a.name)[:] = missing[:, :, None]
    return found


def _whole(number: float) -> Any:
    """Returns a number as an integer where it is one, which PEFT says lora_alpha is."""
    return int(number) if number == int(number) else number
