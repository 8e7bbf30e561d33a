"""The one grammar of names with options: `"krum:f=1"`, `"watts-strogatz:4,0.1"`, `"q2:block=64+rans+ef"`.

    NAME[:VALUE[,VALUE...][,OPTION=VALUE...]][+NAME...]

A value stands for the option at its place in the table of its name, or for the one that it names; a place that is left
empty keeps its default. A colon may stand for the comma (`watts-strogatz:4:0.1`). What `+` joins is a stack: each of
its names has options of its own.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from declora.errors import ConfigError, cut, shown, unknown_name

__all__ = ["Known", "Literal", "Option", "Word", "described", "parse_spec", "parse_stack", "spelled"]

_JOINT = re.compile(r"(?<![0-9][eE])\+|\+(?![0-9])")
"""A plus that is not that of an exponent, as in 1e+3."""


@dataclass(frozen=True)
class Option:
    """A number that a name takes: whole or not, of at least `least` (or above it) and at most `most`."""

    whole: bool
    least: float
    above: bool = False
    most: float = math.inf
    default: int | float | None = None
    """What it is where it is left out; None: it is then left out of what was read, too."""
    needed: bool = False
    """Whether it may not be left out."""
    hint: str = ""
    """What else may be meant by a value that does not fit, in words."""

    def parse(self, text: str) -> int | float | None:
        """Returns the number that `text` spells, None where it is none or is out of range."""
        try:
            value = int(text) if self.whole else float(text)
            fits = math.isfinite(value) and (value > self.least if self.above else value >= self.least)
        except (ValueError, OverflowError):
            return None
        return value if fits and value <= self.most else None

    def form(self, key: str) -> str:
        """Returns an example of it."""
        return f"{key}={1 if self.default is None else self.default}"

    def __str__(self) -> str:
        """The allowed values, in words."""
        upto = "" if self.most == math.inf else f" and at most {self.most:.2g}"
        bounds = f"a {'whole ' * self.whole}number {'above' if self.above else 'of at least'} {self.least:g}{upto}"
        return f"{bounds} ({self.hint})" if self.hint else bounds


@dataclass(frozen=True)
class Word:
    """A word that a name takes: one of `choices`; any in ASCII, for its own room to judge, where there are none."""

    choices: tuple[str, ...] = ()
    default: str | None = None
    needed: bool = False

    def parse(self, text: str) -> str | None:
        """Returns the word, None where it is not one of the choices."""
        return text if text in self.choices or (not self.choices and text and text.isascii()) else None

    def form(self, key: str) -> str:
        """Returns an example of it."""
        return f"{key}={self.default or (self.choices or ('...',))[0]}"

    def __str__(self) -> str:
        """The allowed values, in words."""
        return f"one of {', '.join(self.choices)}" if self.choices else "a word in ASCII"


@dataclass(frozen=True)
class Literal:
    """All that follows the name's colon, as it is, commas, colons and equals signs too: the only option of its name.

    Args:
        wanted: What it is, in words.
        example: What it may be.
        read: Reads it; None for what it cannot read.
    """

    wanted: str
    example: str
    read: Callable[[str], Any] = str
    default: None = None
    needed: bool = True

    def parse(self, text: str) -> Any:
        """Returns what `text` stands for, None where it cannot be read."""
        return self.read(text)

    def form(self, key: str) -> str:
        """Returns an example of it, which goes without its key."""
        return self.example

    def __str__(self) -> str:
        """What it is, in words."""
        return self.wanted


Known: TypeAlias = Mapping[str, Mapping[str, Option | Word | Literal]]
"""The options of each known name, in the order of their places."""


def parse_spec(field: str, text: str, known: Known) -> tuple[str, dict[str, Any]]:
    """Returns the name and the options in `text`, which joins no names: a plus is part of it.

    Args:
        field: The setting, for errors.
        text: What it was set to.
        known: The options of each known name.

    Returns:
        The name, and its options in the order of the table: those that were given, and those that have a default.

    Raises:
        ConfigError: Unknown name or option (with the nearest match), an option given twice or missing, or a value that
            does not fit.
    """
    return _read(field, text, text, known)


def parse_stack(field: str, text: str, known: Known, *, after: Known | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Returns the names that `+` joins in `text`, each with its options as `parse_spec` gives them.

    Args:
        field: The setting, for errors.
        text: What it was set to.
        known: The options of each known name.
        after: Those of the names that may follow the first one, where they are others.

    Raises:
        ConfigError: As for `parse_spec`, or a name that stands there twice.
    """
    first, *others = _JOINT.split(text)
    if "" in others or (others and not first):
        raise ConfigError(f"{field}={shown(text)} has nothing beside a '+'. Put a name there, or leave it out.")
    stages = [_read(field, text, first, known)]
    for stage in others:
        name, options = _read(field, text, stage, known if after is None else after)
        if name in (earlier for earlier, _ in stages):
            raise ConfigError(f"{field}={shown(text)} has {name} twice. Give it once.")
        stages.append((name, options))
    return stages


def _read(field: str, text: str, stage: str, known: Known) -> tuple[str, dict[str, Any]]:
    """Reads one stage of `text`."""
    name, _, rest = stage.partition(":")
    if name not in known:
        raise unknown_name(field, name, known)
    where, options = f"{field}={shown(text)}", known[name]
    given = _given(field, where, name, rest, options)
    values: dict[str, Any] = {}
    for key, option in options.items():
        if key in given:
            value = option.parse(given[key])
            if value is None:
                raise ConfigError(
                    f"{where}: {key}={shown(given[key])} must be {option}, e.g. {name}:{option.form(key)}."
                )
            values[key] = value
        elif option.needed:
            raise ConfigError(f"{where}: {name} needs {key}, {option}. Write e.g. {name}:{option.form(key)}.")
        elif option.default is not None:
            values[key] = option.default
    return name, values


def _given(
    field: str, where: str, name: str, rest: str, options: Mapping[str, Option | Word | Literal]
) -> dict[str, str]:
    """Returns the text of each option in `rest`, what follows the name."""
    keys = list(options)
    if any(isinstance(option, Literal) for option in options.values()):
        return {keys[0]: rest} if rest else {}
    given: dict[str, str] = {}
    for place, part in enumerate(re.split("[,:]", rest)):
        if not part:
            continue
        if not keys:
            raise ConfigError(f"{where}: {name} takes no options. Write {field}={name!r}.")
        key, equals, value = part.partition("=")
        if not equals:
            if place >= len(keys):
                forms = ",".join(option.form(key) for key, option in options.items())
                raise ConfigError(f"{where}: {name} takes no {place + 1} values. Write e.g. {name}:{forms}.")
            key, value = keys[place], part
        if key not in options:
            raise unknown_name(f"option of {field} {name}", key, options)
        if key in given:
            raise ConfigError(f"{where} gives {key} twice. Give it once.")
        given[key] = value
    return given


def spelled(value: object) -> str:
    """Returns an object of a user's class as text, its class with the arguments that it keeps under their own names.

    `Ternary(block=64)`, where `__init__(self, block)` sets `self.block`; a function by its name.
    """
    if isinstance(name := getattr(value, "__name__", None), str):
        return cut(name)
    kind = type(value)
    try:
        keys = [key for key in inspect.signature(kind).parameters if hasattr(value, key)]
    except (TypeError, ValueError):  # some classes that are not written in Python do not say what they take
        keys = []
    kept = [f"{key}={_argument(getattr(value, key))}" for key in keys]
    return cut(f"{kind.__name__}({', '.join(kept)})" if kept else kind.__name__)


def _argument(value: object) -> str:
    """Returns an argument as text that is the same in every process, without an address in memory."""
    if callable(value) or type(value).__repr__ is object.__repr__:
        return cut(getattr(value, "__name__", type(value).__name__))
    return shown(value)


def described(value: object) -> str:
    """Returns what a user's class gave in the place of an array, in words: `float64 [3, 4]`, `a list`."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    return f"a {type(value).__name__}" if dtype is None or shape is None else f"{dtype} {list(shape)}"
