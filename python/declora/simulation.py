"""`simulate`: a federation in this process, from settings to adapters and a report."""

import dataclasses
import io
import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any, overload

import torch
from matplotlib.figure import Figure

from declora import process, report
from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.model.held import held
from declora.prepare import Material, prepare, shareable
from declora.report import Progress, RunFolder, TensorBoardLog
from declora.result import Comparison, SimulationResult
from declora.run import RoundRecord, Run
from declora.settings import parse_overrides

__all__ = ["simulate"]


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
        TrainingError: A loss, gradient or adapter left the finite numbers; names client and round.
    """
    base = (config or SimulationConfig()).override(**settings)
    wanted = base.compare if compare is None else compare
    overrides = {} if wanted is None else parse_overrides(wanted)
    with held([base.model, *(changes.get("model") for changes in overrides.values())]):
        if wanted is None:
            return _simulate_one(base)
        return _simulate_several(dataclasses.replace(base, compare=None), overrides)


def _simulate_one(config: SimulationConfig) -> SimulationResult:
    run = Run(config, prepare(config))
    try:
        folder = _open_folder(config)
    except BaseException:
        run.discard()
        raise
    return _execute(run, folder, config.method)


def _simulate_several(base: SimulationConfig, overrides: Mapping[str, Mapping[str, Any]]) -> Comparison:
    configs = {label: base.override(**changes) for label, changes in overrides.items()}
    materials: dict[str, Material] = {}
    metrics: dict[str, str] = {}
    for label, config in configs.items():
        # Everything is checked before the first run starts, and what runs can share is loaded once.
        twin = next((other for other in materials if shareable(configs[other], config)), None)
        materials[label] = materials[twin] if twin else prepare(config)
        checked = Run(config, materials[label])
        checked.discard()
        metrics[label] = checked.metric.name
    if len(set(metrics.values())) > 1:
        shown = ", ".join(f"{label} {metric}" for label, metric in metrics.items())
        raise ConfigError(f"compare mixes metrics: {shown}. Set metric, the same for all runs.")
    folder = _open_folder(base)
    results: dict[str, SimulationResult] = {}
    for label, config in configs.items():
        inner = folder and RunFolder(folder.path(re.sub(r"[^\w.=+-]+", "_", label)))
        results[label] = _execute(Run(config, materials[label]), inner, label)
    comparison = Comparison(results)
    if folder is not None:
        _write_comparison(folder, base.override(compare=overrides), comparison)
    return comparison


def _open_folder(config: SimulationConfig) -> RunFolder | None:
    return None if config.out is None else RunFolder(config.out, overwrite=config.overwrite)


def _execute(run: Run, folder: RunFolder | None, label: str) -> SimulationResult:
    """Runs all rounds, with progress; where there is a folder, its metrics grow by a line a round."""
    config = run.config
    if folder is not None:
        folder.write_json("config.json", config.describe())
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(config.rounds, label, config.progress))
        board = None
        if config.tensorboard and folder is not None:
            board = stack.enter_context(TensorBoardLog(folder.path("tensorboard")))

        def observe(record: RoundRecord) -> None:
            progress.update(record)
            if folder is not None:
                folder.append_metrics(record)
            if board is not None:
                board.log({name: value for name, value in record.items() if name != "clients"})

        outcome = run.execute(observe)
    result = SimulationResult(config, run.partition, run.federation, environment(run), outcome)
    if folder is not None:
        _write_run(folder, result, label)
    return result


def _write_run(folder: RunFolder, result: SimulationResult, label: str) -> None:
    result.average.save_pretrained(folder.path("adapters/average"))
    for client in range(result.federation.clients):
        result.client(client).save_pretrained(folder.path(f"adapters/client-{client:04d}"))
    _save_figure(folder, "plots.png", result.plot())
    summary = result.summary(f"declora: {label}")
    for caption, figure in summary.figures:
        _save_figure(folder, f"{caption.lower().replace(' ', '-')}.png", figure)
    folder.write_text("report.html", report.run_report(summary))


def _write_comparison(folder: RunFolder, config: SimulationConfig, comparison: Comparison) -> None:
    folder.write_json("config.json", config.describe())
    folder.write_text("comparison.md", report.to_markdown(comparison.table))
    _save_figure(folder, "comparison.png", comparison.plot())
    summaries = [result.summary(label) for label, result in comparison.results.items()]
    folder.write_text("report.html", report.comparison_report(summaries, title="declora: comparison"))


@process.alone()  # matplotlib reads its settings while it draws
def _save_figure(folder: RunFolder, name: str, figure: Figure) -> None:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    folder.write_bytes(name, image.getvalue())


def environment(run: Run) -> dict[str, str]:
    """Returns what else a result may depend on: versions, machine, threads, and what was chosen for the user."""
    packages = ("declora", "torch", "transformers", "peft", "numpy")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "device": str(run.bank.P.device),
        "group size": str(run.group_size),
        "padding": "kept" if run.unpadding is None else "left out",
        "seed": str(run.config.seed),
    }
