"""Runs in processes that are killed at random moments and taken up again until they end.

One process has everything loaded; each attempt is a fork of it, so that a kill costs the run's own time alone.
"""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np

import declora
from declora import outputs, simulation
from resumable import OBJECTS, SETTINGS


def _adapters_alone(folder, result, label, log):
    """What a run leaves, without figures: drawing them is nearly all the time that a tiny run takes."""
    folder.write_folders(outputs.adapter_folders(result))
    log.complete()


def _attempt(out, settings):
    simulation.write_run = _adapters_alone
    if (Path(out) / "config.json").exists():
        declora.resume(out, **OBJECTS)
    else:
        declora.simulate(**OBJECTS, **{**SETTINGS, "out": str(out), "overwrite": True, **settings})
    os._exit(0)  # as a fork should: what the parent would do at its end is not its own


def run_with_kills(out, settings, *, kills, longest, rng):
    """Runs to the end in `out`, with at most so many SIGKILLs, each after up to `longest` seconds.

    Returns:
        How many there were, and in how many different rounds.
    """
    fork = multiprocessing.get_context("fork")
    killed, lines = 0, set()
    while True:
        process = fork.Process(target=_attempt, args=(out, settings))
        process.start()
        if killed < kills:
            process.join(rng.uniform(0, longest))
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
        process.join()
        if process.exitcode == 0:
            return killed, lines
        assert process.exitcode == -signal.SIGKILL, process.exitcode
        metrics = Path(out) / "metrics.jsonl"
        lines.add(metrics.read_bytes().count(b"\n") if metrics.exists() else 0)


def run_whole(out, settings):
    """Runs to the end in `out` undisturbed; returns the seconds that it took."""
    start = time.perf_counter()
    run_with_kills(out, settings, kills=0, longest=0, rng=np.random.default_rng(0))
    return time.perf_counter() - start
