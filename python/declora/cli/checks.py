"""Checks runs before anything that takes long is loaded: a slip costs a moment, not the seconds that torch takes."""

from collections.abc import Mapping
from typing import Any

from declora.config import SimulationConfig
from declora.prepare import plan_federation
from declora.settings import check_places

__all__ = ["check_runs"]


def check_runs(config: SimulationConfig, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks that files and folders are there, and that graph, codec, mixer and method of each run go together.

    Args:
        config: Settings of every run.
        runs: By label, what a run changes of them; `{"": {}}` for a run of the settings as they are.

    Raises:
        DecloraError: They do not, as `simulate` says it.
    """
    for changes in runs.values():
        own = config.override(**{"compare": None, **changes})
        check_places(own)
        plan_federation(own)
