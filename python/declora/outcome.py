"""What a run leaves behind."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from peft import LoraConfig

from declora.adapters import Lineage
from declora.cluster import Site
from declora.model import Layout
from declora.train.evaluator import Evaluated

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind."""

    rows: torch.Tensor
    """float32 `[clients, D]`, on the CPU: the adapters after the last round."""
    mean: torch.Tensor | None
    """float32 `[D]`: the average of all, weighted by the law that gossip keeps (`Topology.law`); None at a rank of a
    cluster that has not all."""
    initial: torch.Tensor
    """float32 `[D]`: the first adapter, which all have in common."""
    site: Site
    """Which clients these are: all, but in a cluster at any rank but the first."""
    layout: Layout
    sent: int
    """How many numbers a message of the first round has, or has at most."""
    lora: LoraConfig
    history: pd.DataFrame
    clients: pd.DataFrame
    evaluated: Evaluated
    """What models are evaluated on, and what needs no training there."""
    local_steps: NDArray[np.int64]
    """`[clients]`: steps of each client in a round."""
    lineage: Lineage
    """What the base and the data are to the adapters."""
    split_bytes: int | None
    """What split training would send in a round, see `train.split`; None where not all texts are here, either."""
    before: float = math.nan
    """What the adapter that all clients begin with scores; NaN where it was not measured, as nobody writes a report."""
    notes: tuple[str, ...] = ()
    """What was guessed or decided for the user."""
