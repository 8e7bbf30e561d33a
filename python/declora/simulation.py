"""Runs a federation in this process, or several, from settings to adapters and a report."""

import copy
import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext

from declora import process
from declora.agreement import agree
from declora.callbacks import Calling, RunFacts, check_reporters
from declora.cluster import leads, of_environment
from declora.config import SETTINGS, SimulationConfig
from declora.disks import Disk, meet
from declora.errors import (
    CallbackError,
    ConfigError,
    DecloraError,
    RunFolderError,
    TrainingError,
    cut,
    out_of_memory,
    shown,
)
from declora.header import header
from declora.ledger import check_installed
from declora.model.held import held
from declora.origin import environment
from declora.outputs import folder_names, keeping, write_comparison, write_run
from declora.prepare import plan_federation, prepare
from declora.recording import recording_of
from declora.report import Earlier, Progress, RunFolder, announce
from declora.report.messages import say
from declora.report.trackers import trackers_of
from declora.result import Comparison, SimulationResult
from declora.run import RoundRecord, Run
from declora.settings import parse_overrides, shareable
from declora.shards import Contributing

__all__ = ["computing", "configs_of", "ready", "run_all"]


def run_all(base: SimulationConfig, *, resume: bool = False) -> SimulationResult | Comparison:
    """Runs what settings ask for: one run, or with `compare` several.

    Args:
        base: The settings.
        resume: Whether the folder holds a part of it, after which it goes on.

    Raises:
        DecloraError: As `simulate`.
    """
    if base.compare is not None and base.out is not None and base.checkpoint_every is None:
        base = base.override(checkpoint_every=base.rounds)  # a run that has finished is then kept by `resume`
    if (cluster := of_environment()) is not None:
        agree(cluster, base, resume=resume)
    with computing(base):
        return _run_one(base, resume) if base.compare is None else _run_several(base, resume)


def _run_one(config: SimulationConfig, resume: bool) -> SimulationResult:
    _check_out(config, resume)
    ((label, run),) = ready(configs_of(config)).items()
    announce(run.notes, _shown(config))
    return _execute(run, label, resume)


def _run_several(base: SimulationConfig, resume: bool) -> Comparison:
    _check_out(base, resume)
    configs, overrides = configs_of(base), parse_overrides(base.compare or ())
    if leads():
        check_reporters(name for config in configs.values() for name in config.report_to or ())
    runs = ready(configs)  # everything is checked before the first run starts
    chosen = {label: {"dtype": run.config.dtype} for label, run in runs.items() if configs[label].dtype == "auto"}
    overrides = {label: {**changes, **chosen.get(label, {})} for label, changes in overrides.items()}
    metrics = {label: run.metric.name for label, run in runs.items()}
    if len(set(metrics.values())) > 1:
        found = ", ".join(f"{label} {metric}" for label, metric in metrics.items())
        raise ConfigError(f"compare mixes metrics: {found}. Set metric, the same for all runs.")
    notes = dict.fromkeys(note for run in runs.values() for note in run.notes)
    announce(notes, _shown(base))
    disk = _disk_of(base.override(compare=overrides), resume)
    folder = None if disk is None else disk.folder
    with closing(folder) if folder is not None else nullcontext():
        results: dict[str, SimulationResult] = {}
        cluster = of_environment()
        for number, label in enumerate(configs, start=1):
            run = runs.pop(label)
            if cluster is not None and number < cluster.joins:
                continue  # it was over when this rank came back
            try:
                results[label] = _execute(run, label, resume, within=disk)
            except (RunFolderError, CallbackError) as error:
                finished = results if error.result is None else {**results, label: error.result}
                error.result = Comparison(finished) if finished else None
                raise
        comparison = Comparison(results)
        if folder is not None:
            with keeping(comparison, folder):
                if leads():
                    write_comparison(folder, comparison)
                folder.finish()
    return comparison


def ready(configs: Mapping[str, SimulationConfig]) -> dict[str, Run]:
    """Returns runs that have not begun; what they can share is loaded once.

    Raises:
        DecloraError: As `simulate`.
    """
    planned = {label: plan_federation(config) for label, config in configs.items()}
    runs: dict[str, Run] = {}
    for label, config in configs.items():
        twin = next((run for other, run in runs.items() if shareable(configs[other], config)), None)
        runs[label] = Run(config, twin.material if twin else prepare(config), planned[label])
    return runs


def configs_of(base: SimulationConfig) -> dict[str, SimulationConfig]:
    """Returns the settings of each run: of a comparison, where that has a folder, with a folder of its own in it.

    Raises:
        ConfigError: A setting cannot be run, is not one run's to change, or a label gives no folder.
    """
    if base.compare is None:
        return {str(base.method): base}
    overrides = parse_overrides(base.compare)
    base = dataclasses.replace(base, compare=None)
    for label, changes in overrides.items():
        if own := sorted(name for name in changes if name in SETTINGS and SETTINGS[name].shared):
            raise ConfigError(f"compare[{label!r}] sets {own[0]}, which holds for the whole comparison. Set it there.")
    configs = {label: _apart(base.override(**changes)) for label, changes in overrides.items()}
    if base.out is None:
        return configs
    names = folder_names(configs)
    return {label: config.override(out=os.path.join(base.out, names[label])) for label, config in configs.items()}


def _apart(config: SimulationConfig) -> SimulationConfig:
    """Returns settings whose objects are no other run's: what these learn of one run would be another's, too.

    Raises:
        ConfigError: One cannot be copied.
    """
    own = {}
    for name in ("method", "codec", "mixer"):
        value = getattr(config, name)
        try:
            own[name] = copy.deepcopy(value)
        except (TypeError, copy.Error) as error:  # of a lock, an open file, a module
            raise ConfigError(
                f"compare gives each run a copy of {name}={shown(value)}, which cannot be made: {cut(error)}. "
                "Write __deepcopy__, or run one after the other."
            ) from error
    return config.override(**own)


def _check_out(config: SimulationConfig, resume: bool) -> None:
    """Refuses a folder, a ledger or a tracker that cannot be written, before anything is loaded."""
    if not leads():
        return
    check_reporters(config.report_to or ())
    if config.ledger:
        check_installed("ledger=True")
    if config.out is not None and not resume:
        RunFolder.check(config.out, overwrite=config.overwrite)


def _disk_of(base: SimulationConfig, resume: bool) -> Disk | None:
    """Returns where this process writes a comparison, None where it writes nothing; all ranks call it alike."""
    folder, cluster = _open_folder(base, resume), of_environment()
    with ExitStack() as failing:
        if folder is not None:
            failing.callback(folder.close)
            folder.write_json("config.json", base.describe())
        disk = None if folder is None else Disk(folder.work, folder)
        if cluster is not None and base.checkpoint_every is not None:
            disk = meet(cluster, base, resume=resume, folder=folder)
        failing.pop_all()
    return disk


def _open_folder(config: SimulationConfig, resume: bool, within: Disk | None = None) -> RunFolder | None:
    """Returns the folder of a run, None where none is wanted; `within` is that of the comparison it belongs to."""
    if config.out is None or not leads():
        return None
    if within is not None and within.folder is not None:
        return within.folder.inner(os.path.basename(config.out), resume=resume)
    return RunFolder(config.out, overwrite=config.overwrite, resume=resume)


def _execute(run: Run, label: str, resume: bool, within: Disk | None = None) -> SimulationResult:
    """Runs all rounds, with progress and callbacks; where there is a folder, its metrics grow by a line a round."""
    config = run.config
    calling = Calling([*trackers_of(config.report_to or ()), *(config.callbacks or ())] if leads() else ())
    with calling.until_it_ends():
        result = _finished(run, label, resume, within, calling)
        calling.end(result)
    return result


def _finished(run: Run, label: str, resume: bool, within: Disk | None, calling: Calling) -> SimulationResult:
    """Returns the result of all rounds, of which `calling` tells; its folder is complete and nobody's any more."""
    config = run.config
    with ExitStack() as stack:
        where = environment(run)
        folder = _open_folder(config, resume, within) if run.gathering.leads else None
        if folder is not None:
            stack.callback(folder.close)
        recording = recording_of(run, folder, resume=resume, within=within)
        if recording is not None:
            stack.callback(recording.close)
        earlier = Earlier.nothing() if recording is None else recording.earlier
        notes = () if recording is None else recording.notes
        for line in header(run, label):
            say(line, _shown(config))
        announce((*notes, *earlier.notes) if resume else (), _shown(config))
        progress = stack.enter_context(closing(Progress(config.rounds, label, _shown(config), done=earlier.event)))

        work = None if folder is None else folder.work
        calling.start(RunFacts(earlier.run, label, config.describe(), config.rounds, earlier.event, work))

        def observe(record: RoundRecord) -> None:
            progress.update(record)
            calling.round(record, None if recording is None else recording.add(record))

        outcome = run.execute(observe, earlier)
        outcome = dataclasses.replace(outcome, notes=(*outcome.notes, *notes))
        result = SimulationResult(config, run.partition, run.federation, where, outcome)
        if isinstance(recording, Contributing):
            recording.finish()
        elif folder is not None and recording is not None:
            with keeping(result, folder):
                result = dataclasses.replace(result, _outcome=dataclasses.replace(outcome, before=_untrained(run)))
                write_run(folder, result, label, recording.log)
                folder.finish()
    return result


def _untrained(run: Run) -> float:
    """Returns what the common first adapter scores: after the rounds, in none of which it then takes part."""
    with run.installed():
        return run.evaluator.untrained()


def _shown(config: SimulationConfig) -> bool | None:
    """Returns whether notes and progress are shown; of the ranks of a cluster, the first shows them."""
    return config.progress if leads() else False


@contextmanager
def computing(base: SimulationConfig) -> Iterator[None]:
    """Has what runs of these settings, whether one or several, need of the process while they are loaded and run."""
    overrides = {} if base.compare is None else parse_overrides(base.compare)
    models = [base.model, *(changes.get("model") for changes in overrides.values())]
    with _within_memory(), held(models), process.usual_torch():
        yield


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
