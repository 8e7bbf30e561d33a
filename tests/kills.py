"""Runs in processes that are killed at random moments and taken up again until they end.

One process has everything loaded; each attempt is a fork of it, so that a kill costs the run's own time alone.
"""

import itertools
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np

import declora
from declora import simulation
from declora.report import earlier
from resumable import OBJECTS, SETTINGS, write_adapters


def _attempt(out, settings):
    simulation.write_run = write_adapters
    earlier.secrets = _Named  # an attack that remembers messages remembers the name of the run in them
    if (out / "config.json").exists():
        declora.resume(out, **OBJECTS)
    else:
        declora.simulate(**OBJECTS, **{**SETTINGS, "out": str(out), "overwrite": True, **settings})
    os._exit(0)  # a fork leaves the parent's end to the parent


class _Named:
    """The same name for every run."""

    @staticmethod
    def token_hex(count):
        return "0f" * count


def run_with_kills(home, settings, *, kills, longest, rng):
    """Runs to the end, with so many SIGKILLs, each after up to `longest` seconds; then the run is taken up again.

    Yields:
        The folder of a run that has ended, and how many kills it took. Where kills are left, another one follows.
    """
    fork = multiprocessing.get_context("fork")
    for number in itertools.count():
        out, killed = Path(home) / f"{number}", 0
        while True:
            process = fork.Process(target=_attempt, args=(out, settings))
            process.start()
            if killed < kills:
                process.join(rng.uniform(0, longest))
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL, process.exitcode
            killed += 1
        yield out, killed
        kills -= killed
        if kills <= 0:
            return


def run_whole(home, settings):
    """Runs to the end undisturbed; returns the folder and the seconds that it took."""
    start = time.perf_counter()
    ((out, _),) = run_with_kills(home, settings, kills=0, longest=0, rng=np.random.default_rng(0))
    return out, time.perf_counter() - start
