"""`simulate`: a federation in this process, from settings to adapters and a report."""

import dataclasses
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from importlib.metadata import version
from typing import Any, overload

import torch

from declora import process
from declora.config import SimulationConfig
from declora.errors import ConfigError, DecloraError, RunFolderError, TrainingError, cut, out_of_memory, shown
from declora.model.held import held
from declora.outputs import folder_names, keeping, write_comparison, write_run
from declora.prepare import plan_federation, prepare, shareable
from declora.report import Progress, RunFolder, RunLog, announce
from declora.result import Comparison, SimulationResult
from declora.run import RoundRecord, Run
from declora.settings import parse_overrides

__all__ = ["environment", "simulate"]

_OF_THE_WHOLE = {"compare", "out", "overwrite"}
"""Settings that a run of a comparison cannot change."""


@overload
def simulate(config: SimulationConfig | None = None, *, compare: None = None, **settings: Any) -> SimulationResult: ...
@overload
def simulate(
    config: SimulationConfig | None = None,
    *,
    compare: Sequence[str | Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
    **settings: Any,
) -> Comparison: ...
def simulate(
    config: SimulationConfig | None = None, *, compare: Any = None, **settings: Any
) -> SimulationResult | Comparison:
    """Fine-tunes one model with many clients over a graph, all in this process.

    Each client takes `local_steps` optimizer steps on its own data, then averages its LoRA factors and head with its
    neighbours through a doubly stochastic mixing matrix: Dec-LoRA, arXiv 2501.15361. Same settings and seed, same
    adapters, bit for bit on a CPU.

    Args:
        config: Settings to begin with; the defaults of `SimulationConfig` where None.
        compare: Several runs from the same seeds instead of one: method names, each with overrides if need be
            (`["centralized", "dec-lora", "dec-lora codec=none", "local"]`), or labels with their settings
            (`{"q4": {"codec": "q4"}, "float32": {"codec": "none"}}`).
        **settings: Settings to change; `SimulationConfig` documents each.

    Returns:
        The finished run, or with `compare` all of them.

    Raises:
        ConfigError, TopologyError, DataError, ModelError, CodecError, RunFolderError: A setting cannot be run; it is
            named, and nothing was trained or written.
        TrainingError: A loss, gradient or adapter left the finite numbers, or memory ran out; names client and round.
        RunFolderError: The folder could not be completed after the last round. Nothing is lost: the error's `result`
            is what would have been returned (of a comparison that stopped there, the runs that had finished).
    """
    if not isinstance(config, SimulationConfig | None):
        raise ConfigError(
            f"config={shown(config)} is no SimulationConfig. Give settings by name, as in simulate(clients=5), or what "
            "`declora.SimulationConfig(...)` returns."
        )
    changes = settings if compare is None else {**settings, "compare": compare}
    base = (config or SimulationConfig()).override(**changes)
    overrides = {} if base.compare is None else parse_overrides(base.compare)
    models = [base.model, *(changes.get("model") for changes in overrides.values())]
    with _within_memory(), held(models), process.usual_torch():
        if base.compare is None:
            return _simulate_one(base)
        return _simulate_several(dataclasses.replace(base, compare=None), overrides)


def _simulate_one(config: SimulationConfig) -> SimulationResult:
    _check_out(config)
    planned = plan_federation(config)
    run = Run(config, prepare(config), planned)
    announce(run.notes, config.progress)
    return _execute(run, str(config.method))


def _simulate_several(base: SimulationConfig, overrides: Mapping[str, Mapping[str, Any]]) -> Comparison:
    _check_out(base)
    configs = _configs(base, overrides)
    planned = {label: plan_federation(config) for label, config in configs.items()}
    runs: dict[str, Run] = {}
    for label, config in configs.items():
        # Everything is checked before the first run starts, and what runs can share is loaded once.
        twin = next((run for run in runs.values() if shareable(run.config, config)), None)
        runs[label] = Run(config, twin.material if twin else prepare(config), planned[label])
    metrics = {label: run.metric.name for label, run in runs.items()}
    if len(set(metrics.values())) > 1:
        found = ", ".join(f"{label} {metric}" for label, metric in metrics.items())
        raise ConfigError(f"compare mixes metrics: {found}. Set metric, the same for all runs.")
    notes = dict.fromkeys(note for run in runs.values() for note in run.notes)
    announce(notes, base.progress)
    folder = _open_folder(base)
    with closing(folder) if folder is not None else nullcontext():
        if folder is not None:
            folder.write_json("config.json", base.override(compare=overrides).describe())
        results: dict[str, SimulationResult] = {}
        for label in configs:
            try:
                results[label] = _execute(runs.pop(label), label, within=folder)
            except RunFolderError as error:
                finished = results if error.result is None else {**results, label: error.result}
                error.result = Comparison(finished) if finished else None
                raise
        comparison = Comparison(results)
        if folder is not None:
            with keeping(comparison, folder):
                write_comparison(folder, comparison)
                folder.finish()
    return comparison


def _configs(base: SimulationConfig, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, SimulationConfig]:
    """Returns the settings of each run of a comparison; where it has a folder, each run has its own in it.

    Raises:
        ConfigError: A setting cannot be run, is not one run's to change, or a label gives no folder.
    """
    for label, changes in overrides.items():
        if own := sorted(changes.keys() & _OF_THE_WHOLE):
            raise ConfigError(f"compare[{label!r}] sets {own[0]}, which holds for the whole comparison. Set it there.")
    configs = {label: base.override(**changes) for label, changes in overrides.items()}
    if base.out is None:
        return configs
    names = folder_names(configs)
    return {label: config.override(out=os.path.join(base.out, names[label])) for label, config in configs.items()}


def _check_out(config: SimulationConfig) -> None:
    """Refuses a folder that cannot be written, before anything is loaded."""
    if config.out is not None:
        RunFolder.check(config.out, overwrite=config.overwrite)


def _open_folder(config: SimulationConfig, within: RunFolder | None = None) -> RunFolder | None:
    """Returns the folder of a run, None where none is wanted; `within` is that of the comparison it belongs to."""
    if config.out is None:
        return None
    if within is not None:
        return within.inner(os.path.basename(config.out))
    return RunFolder(config.out, overwrite=config.overwrite)


def _execute(run: Run, label: str, within: RunFolder | None = None) -> SimulationResult:
    """Runs all rounds, with progress; where there is a folder, its metrics grow by a line a round."""
    config = run.config
    with ExitStack() as stack:
        log = None
        where = environment(run)
        folder = _open_folder(config, within)
        if folder is not None:
            stack.callback(folder.close)
            log = RunLog(folder, config.describe(), tensorboard=config.tensorboard)
            stack.enter_context(closing(log))
        progress = stack.enter_context(closing(Progress(config.rounds, label, config.progress)))

        def observe(record: RoundRecord) -> None:
            progress.update(record)
            if log is not None:
                log.add(record)

        outcome = run.execute(observe)
        result = SimulationResult(config, run.partition, run.federation, where, outcome)
        if folder is not None and log is not None:
            with keeping(result, folder):
                write_run(folder, result, label, log)
                folder.finish()
    return result


@contextmanager
def _within_memory() -> Iterator[None]:
    """Makes one error of memory that runs out while something is loaded, tried or written."""
    try:
        yield
    except DecloraError:
        raise
    except Exception as error:
        if not out_of_memory(error):
            raise
        said = cut(error).rstrip(".")
        raise TrainingError(
            f"memory ran out{': ' + said if said else ''}. Use a smaller model, fewer clients or less data."
        ) from error


def environment(run: Run) -> dict[str, str]:
    """Returns what else a result may depend on: versions, machine, threads, and what was chosen for the user."""
    packages = ("declora", "torch", "transformers", "peft", "numpy")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "device": str(run.material.base.device),
        "group size": str(run.group_size),
        "padding": "kept" if run.sharing.unpadding is None else "left out",
        "seed": str(run.config.seed),
    }
