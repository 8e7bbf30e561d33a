"""The names of faults and their options: `"loss:p=0.1+dropout:p=0.02,rounds=5"` to faults."""

from typing import Any

from declora.faults.fault import Delay, Dropout, Duplicate, Fault, Loss, Partition, Reorder
from declora.faults.faults import Faults
from declora.spec import parse_stack

__all__ = ["FAULTS", "parse_faults"]

FAULTS: dict[str, type[Fault]] = {kind.name: kind for kind in (Loss, Delay, Duplicate, Reorder, Dropout, Partition)}
"""Every fault by its name."""


def parse_faults(text: str, *, seed: int = 0) -> Faults:
    """Returns the faults that `text` names, joined by `+`.

    Args:
        text: `loss:p=P`, `delay:p=P[,rounds=1]`, `duplicate:p=P[,rounds=1]`, `reorder:p=P[,rounds=1]`,
            `dropout:p=P[,rounds=1]`, `partition:start=R,rounds=N[,parts=2]`.
        seed: The run's seed.

    Raises:
        ConfigError: Unknown name or option, a name that stands there twice, or a number out of range.
    """
    read = parse_stack("faults", text, {name: kind.options for name, kind in FAULTS.items()})
    build: dict[str, Any] = dict(FAULTS)
    return Faults(tuple(build[name](**options, seed=seed) for name, options in read))
