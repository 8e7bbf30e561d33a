"""Defines the one exception tree of declora.

Every error that declora raises on purpose is a `DecloraError`. The message names the field, the value
and the fix. Subclasses are also the builtin error that they are in kind, so that code which knows
nothing of declora (`except ValueError`) still catches them. A message is short, whatever it is about: values are cut
by `shown`, and what is too long all the same is cut in its middle.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = [
    "CallbackError",
    "CodecError",
    "ConfigError",
    "ConformanceError",
    "DataError",
    "DecloraError",
    "FrameError",
    "ModelError",
    "RunFolderError",
    "TopologyError",
    "TrainingError",
    "cut",
    "nearest",
    "out_of_memory",
    "refuse",
    "shorten",
    "shown",
    "translated",
    "unknown_name",
]

_LONGEST_VALUE = 80


class DecloraError(Exception):
    """Is the base of every error that declora raises on purpose."""

    def __str__(self) -> str:
        """Returns the message, of at most 1,500 characters."""
        return shorten(super().__str__())


class ConfigError(DecloraError, ValueError):
    """A setting has a value that cannot be run."""


class TopologyError(ConfigError):
    """Gossip cannot use a graph or a mixing matrix."""


class DataError(DecloraError, ValueError):
    """Data is missing, unreadable or does not fit the run."""


class ModelError(DecloraError, ValueError):
    """A model or a LoRA configuration cannot be loaded or trained."""


class CodecError(DecloraError, ValueError):
    """A codec cannot encode some values, or its settings are out of range."""


class ConformanceError(DecloraError, AssertionError):
    """A codec or a mixing matrix does not do what it must, or what it says of itself."""


class FrameError(CodecError):
    """Bytes are not the message they should be; nothing of them was used."""


class TrainingError(DecloraError, ArithmeticError):
    """Training left the finite numbers, or memory ran out."""


class CallbackError(DecloraError, RuntimeError):
    """A hook of a callback raised an exception, which is the error's `__cause__`, and the run stopped there.

    Attributes:
        result: What had finished by then: the `SimulationResult` where it was `on_end`, or a `Comparison` of the runs
            that had finished. None where nothing had.
    """

    result: Any = None


class RunFolderError(DecloraError, OSError):
    """A run folder cannot be created or written.

    Attributes:
        result: What had finished when writing failed, and is not lost: the `SimulationResult`, or a `Comparison` of the
            runs that had finished. None where nothing had.
    """

    result: Any = None


def shown(value: object) -> str:
    """Returns `value` as an error shows it: its `repr` in one line, cut in its middle where it is long."""
    try:
        text = repr(value)
    except Exception:  # a whole number of 5,000 digits, or a class that fails to describe itself
        text = f"<{type(value).__name__}>"
    return cut(text, _LONGEST_VALUE)


def cut(text: object, most: int = 200) -> str:
    """Returns a path, or what a library says, on one line of at most `most` characters."""
    return shorten(" ".join(str(text).split()), most)


def refuse(name: str, value: object, wanted: str) -> NoReturn:
    """Raises the `ConfigError` of a setting that is not what it must be: `clients=0 must be a whole number ...`."""
    raise ConfigError(f"{name}={shown(value)} must be {wanted}.")


def unknown_name(
    field: str, value: object, known: Iterable[str], *, also: Mapping[str, Sequence[str]] | None = None
) -> ConfigError:
    """Returns the error for a name that is not in `known`: it shows the nearest match and the whole list.

    Args:
        field: What has the name.
        value: The name.
        known: The names that there are.
        also: For words that others use, which of these they may mean.
    """
    names = sorted(known)
    text = value if isinstance(value, str) else shown(value)
    meant = " or ".join(map(repr, nearest(text, names, also or {})))
    hint = f" Did you mean {meant}?" if meant else ""
    return ConfigError(f"{field}={shown(value)} is not known.{hint} Known: {', '.join(names)}.")


def nearest(text: str, names: Sequence[str], also: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns which of the `names` is meant by `text`: those that `also` has for it, else the one most like it."""
    if text in also:
        return list(also[text])
    return difflib.get_close_matches(text[:_LONGEST_VALUE], names, n=1, cutoff=0.5)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out: Python's, a GPU's, or what torch asked of the machine."""
    # By name, since torch is not loaded here; of the machine's memory torch says so in a RuntimeError.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    )


@contextmanager
def translated(make: Callable[[Exception], DecloraError]) -> Iterator[None]:
    """Raises what `make` makes of a library's error inside; declora's own, and that memory ran out, pass through."""
    try:
        yield
    except DecloraError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise make(error) from error


def shorten(text: str, most: int = 1500) -> str:
    """Returns `text`, with its middle left out where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    return f"{text[: most - most // 3 - 3]} … {text[-(most // 3) :]}"
