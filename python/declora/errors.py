"""The one exception tree of declora.

Every error that declora raises on purpose is a `DecloraError`. The message names the field, the value
and the fix. Subclasses are also the builtin error that they are in kind, so that code which knows
nothing of declora (`except ValueError`) still catches them.
"""

import difflib
from collections.abc import Iterable

__all__ = [
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
    "unknown_name",
]


class DecloraError(Exception):
    """Base of every error that declora raises on purpose."""


class ConfigError(DecloraError, ValueError):
    """A setting has a value that cannot be run."""


class TopologyError(ConfigError):
    """A graph or mixing matrix that gossip cannot use."""


class DataError(DecloraError, ValueError):
    """Data that is missing, unreadable or does not fit the run."""


class ModelError(DecloraError, ValueError):
    """A model or LoRA configuration that declora cannot load or train."""


class CodecError(DecloraError, ValueError):
    """Values that a codec cannot encode, or codec settings out of range."""


class ConformanceError(DecloraError, AssertionError):
    """A codec or mixing matrix that does not do what it must, or what it says of itself."""


class FrameError(CodecError):
    """Bytes that are not the message they should be; nothing of them was used."""


class TrainingError(DecloraError, ArithmeticError):
    """Training left the finite numbers, or memory ran out."""


class RunFolderError(DecloraError, OSError):
    """A run folder that cannot be created or written."""


def unknown_name(field: str, value: object, known: Iterable[str]) -> ConfigError:
    """Returns the error for a name that is not in `known`: it shows the nearest match and the whole list."""
    names = sorted(known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"{field}={value!r} is not known.{hint} Known: {', '.join(names)}.")
