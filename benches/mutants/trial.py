"""Trials: a child of this process imports declora with one change and runs the tests that pass its line.

Libraries take seconds to import, so the children are forks of a process that has them, and does not have declora.
"""

import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest

__all__ = ["Suite", "Trial", "package"]

_LIBRARIES = ("torch", "transformers", "peft", "datasets", "pandas", "scipy", "networkx", "matplotlib", "hypothesis")


def package() -> Path:
    """Where declora's sources are, without importing it."""
    spec = importlib.util.find_spec("declora")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class _Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module the code of a changed tree."""

    def __init__(self, file: Path, tree: ast.Module) -> None:
        self._name = ".".join(("declora", *file.relative_to(package()).with_suffix("").parts))
        self._code: CodeType = compile(tree, str(file), "exec")
        self._file = file

    def find_spec(self, name: str, *_: Any) -> Any:
        return importlib.util.spec_from_file_location(name, self._file, loader=self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, vars(module))


class _Trace:
    """A pytest plugin that notes which lines of `files` each test passes, and how long it takes."""

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self.found: dict[str, tuple[float, set[tuple[str, int]]]] = {}
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        lines: set[tuple[str, int]] = set()

        def trace(frame: FrameType, event: str, _: object) -> Any:
            file = frame.f_code.co_filename
            if file not in self._files:
                return None
            lines.add((file, frame.f_lineno))
            return trace

        start = time.perf_counter()
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.found[item.nodeid] = (time.perf_counter() - start, lines)


class Suite:
    """The tests that may notice a change of some files.

    Attributes:
        seconds: How long each test takes, by its id.
        failed: Tests that fail without a change.
    """

    def __init__(self, files: Sequence[Path], tests: Sequence[str]) -> None:
        """Runs all tests once, and imports the libraries that they used."""
        trace, read, write = _Trace({str(file) for file in files}), *os.pipe()
        if (child := os.fork()) == 0:
            os.close(read)
            if _pytest([*tests, "--timeout=0"], [trace]) and not trace.failed:
                trace.failed.append("pytest itself")
            used = [name for name in sys.modules if name.split(".")[0] in _LIBRARIES]
            with os.fdopen(write, "wb") as pipe:
                pickle.dump((trace.failed, used, trace.found), pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            self.failed, used, found = pickle.load(pipe)
        os.waitpid(child, 0)
        self.seconds = {test: seconds for test, (seconds, _) in found.items()}
        self._lines = {test: lines for test, (_, lines) in found.items()}
        for name in used:
            with contextlib.suppress(Exception):  # some are half a library's own affair
                importlib.import_module(name)

    def of(self, file: Path, lines: range) -> list[str]:
        """Returns the tests that pass one of these lines, quick ones first."""
        passing = [test for test, seen in self._lines.items() if any((str(file), line) in seen for line in lines)]
        return self.quick_first(passing)

    def quick_first(self, tests: Iterable[str] | None = None) -> list[str]:
        """Returns `tests`, or all there are, by the time they take."""
        return sorted(self.seconds if tests is None else tests, key=self.seconds.__getitem__)


class Trial:
    """The tests of one change, in a child."""

    def __init__(self, file: Path, tree: ast.Module, tests: Sequence[str], seconds: float) -> None:
        """Starts them; they may take `seconds`. Where there are none, the change has lived."""
        self._ends = time.monotonic() + seconds
        self.result = "" if tests else "lived"
        self._child = _forked(lambda: _changed(file, tree, tests)) if tests else 0

    @property
    def done(self) -> bool:
        """Whether it has ended, or its time; `result` says how then: killed, lived or time."""
        if self.result:
            return True
        ended, status = os.waitpid(self._child, os.WNOHANG)
        if ended:
            self.result = "lived" if status == 0 else "killed"
        elif time.monotonic() > self._ends:
            os.killpg(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self.result = "time"
        return bool(self.result)


def _changed(file: Path, tree: ast.Module, tests: Sequence[str]) -> int:
    sys.meta_path.insert(0, _Loader(file, tree))
    return _pytest(["-x", *tests], [])


def _pytest(arguments: list[str], plugins: list[object]) -> int:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    return int(pytest.main(["-p", "no:cacheprovider", *arguments], plugins=plugins))


def _forked(work: Callable[[], int]) -> int:
    """Starts `work` in a child with a process group of its own, whose status it gives; returns the child's id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            status = work()
        finally:
            os._exit(status)
    return child
