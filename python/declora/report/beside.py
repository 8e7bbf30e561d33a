"""Holds what the runs of a comparison are held against."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Beside"]


@dataclass(frozen=True)
class Beside:
    """Holds what the runs of a comparison are held against, and what each of them is; plain values only.

    Attributes:
        baselines: what the headline metric is without a model, by name.
        before: what the common first adapter scored, before any training; NaN where it was not measured.
        alone: whether a run has several clients that never talk, by label.
        pooled: whether a run has all data in one place, by label.
        works: what K means in each run, by label.
    """

    baselines: Mapping[str, float] = field(default_factory=dict)
    before: float = math.nan
    alone: Mapping[str, bool] = field(default_factory=dict)
    pooled: Mapping[str, bool] = field(default_factory=dict)
    works: Mapping[str, str] = field(default_factory=dict)
