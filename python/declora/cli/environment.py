"""Reads settings from the environment: `DECLORA_DEVICE=cpu` is the default of `device`; files and flags override it."""

import logging
import os
from collections.abc import Iterator, Sequence

from declora.config import SETTINGS, SimulationConfig
from declora.errors import nearest
from declora.report.messages import say
from declora.synonyms import SYNONYMS

__all__ = ["of_environment", "say_environment"]

_PREFIX = "DECLORA_"


def of_environment() -> tuple[SimulationConfig, Sequence[str]]:
    """Returns the defaults with what the environment says in the place of some, and which these are.

    Raises:
        ConfigError: A variable has a value that its setting cannot have.
    """
    found = {name: os.environ[key] for name in SETTINGS if (key := f"{_PREFIX}{name.upper()}") in os.environ}
    return SimulationConfig().override(**{name: SETTINGS[name].parse(text) for name, text in found.items()}), [*found]


def say_environment(found: Sequence[str], progress: bool | None = None) -> None:
    """Says which settings are of the environment, and warns of variables that look like one.

    Args:
        found: As `of_environment` returned them.
        progress: The setting of that name.
    """
    for note in _strangers():
        logging.getLogger("declora").warning(note)
    if found:
        say(f"Settings of the environment: {', '.join(found)}", progress)


def _strangers() -> Iterator[str]:
    """Yields a sentence for each variable of the environment that is called like a setting, and is none."""
    for key in sorted(os.environ):
        name = key.removeprefix(_PREFIX).lower()
        if key.startswith(_PREFIX) and name not in SETTINGS:
            meant = [f"{_PREFIX}{word.upper()}" for word in nearest(name, list(SETTINGS), SYNONYMS)]
            hint = f" Did you mean {' or '.join(meant)}?" if meant else ""
            yield f"{key} in the environment is no setting and does nothing.{hint}"
