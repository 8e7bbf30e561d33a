"""`simulate`: what Python calls, and where its settings are read before anything that takes long is loaded."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, overload

from declora.config import SimulationConfig
from declora.errors import ConfigError, shown
from declora.keywords import Settings
from declora.report.messages import say
from declora.settings import check_places, from_file

if TYPE_CHECKING:
    from declora.result import Comparison, SimulationResult

__all__ = ["simulate"]

Config: TypeAlias = SimulationConfig | str | os.PathLike[str] | None


@overload
def simulate(config: Config = None, *, compare: None = None, **settings: Unpack[Settings]) -> "SimulationResult": ...
@overload
def simulate(
    config: Config = None,
    *,
    compare: Sequence[str | Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
    **settings: Unpack[Settings],
) -> "Comparison": ...
def simulate(
    config: Config = None, *, compare: Any = None, **settings: Unpack[Settings]
) -> "SimulationResult | Comparison":
    """Fine-tunes one model with many clients over a graph, in this process or, under torchrun, in all of its ranks.

    Each client takes `local_steps` optimizer steps on its own data, then averages its LoRA factors and head with its
    neighbours through a doubly stochastic mixing matrix: Dec-LoRA, arXiv 2501.15361. Same settings and seed, same
    adapters, bit for bit on a CPU.

    Args:
        config: Settings to begin with: the defaults of `SimulationConfig` where None, such a configuration, or the path
            of a TOML file, or of the `config.json` of a run, which gives that run again.
        compare: Several runs from the same seeds instead of one: method names, each with overrides if need be
            (`["centralized", "dec-lora", "dec-lora codec=none", "local"]`), or labels with their settings
            (`{"q4": {"codec": "q4"}, "float32": {"codec": "none"}}`).
        **settings: Settings to change; `SimulationConfig` documents each.

    Returns:
        The finished run, or with `compare` all of them. At a rank of a cluster other than the first a run has no
        history, and of the adapters those of its own clients.

    Raises:
        ConfigError, TopologyError, DataError, ModelError, CodecError, RunFolderError: A setting cannot be run; it is
            named, and nothing was trained or written.
        CallbackError: A callback raised an exception; the run stopped after the round that it was called in.
        TrainingError: A loss, gradient or adapter left the finite numbers, or memory ran out; names client and round.
        RunFolderError: The folder could not be completed after the last round. Nothing is lost: the error's `result`
            is what would have been returned (of a comparison that stopped there, the runs that had finished).
    """
    changes: dict[str, Any] = {**settings} if compare is None else {**settings, "compare": compare}
    if isinstance(config, str | os.PathLike):
        config = from_file(config, given=changes)
    if not isinstance(config, SimulationConfig | None):
        raise ConfigError(
            f"config={shown(config)} is no SimulationConfig. Give settings by name, as in simulate(clients=5), a file "
            "of settings, or what `declora.SimulationConfig(...)` returns."
        )
    checked = (config or SimulationConfig()).override(**changes)
    check_places(checked)
    if "torch" not in sys.modules:
        say("Loading torch and transformers", checked.progress)
    # Torch and others take seconds to load, so only for what has no mistake in it so far.
    from declora.simulation import run_all

    return run_all(checked)
