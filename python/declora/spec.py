"""Names with options, as settings write them: `"krum:f=1"`, `"sign-flip:scale=10"`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from declora.errors import ConfigError, shown, unknown_name

__all__ = ["Option", "parse_spec"]


@dataclass(frozen=True)
class Option:
    """A number that a name takes: whole or not, of at least `least` (or above it) and at most `most`."""

    whole: bool
    least: float
    above: bool = False
    most: float = math.inf

    def parse(self, text: str) -> int | float | None:
        """Returns the number that `text` spells, None where it is none or is out of range."""
        try:
            value = int(text) if self.whole else float(text)
            fits = math.isfinite(value) and (value > self.least if self.above else value >= self.least)
        except (ValueError, OverflowError):
            return None
        return value if fits and value <= self.most else None

    def __str__(self) -> str:
        """The allowed values, in words."""
        upto = "" if self.most == math.inf else f" and at most {self.most:.2g}"
        return f"a {'whole ' * self.whole}number {'above' if self.above else 'of at least'} {self.least:g}{upto}"


def parse_spec(field: str, text: str, known: Mapping[str, Mapping[str, Option]]) -> tuple[str, dict[str, int | float]]:
    """Returns the name and the options in `text`, written `NAME[:OPTION=NUMBER[,OPTION=NUMBER]...]`.

    Args:
        field: The setting, for errors.
        text: What it was set to.
        known: The options of each known name.

    Raises:
        ConfigError: Unknown name or option (with the nearest match), an option given twice, or a number out of range.
    """
    name, _, rest = text.partition(":")
    if name not in known:
        raise unknown_name(field, name, known)
    options: dict[str, int | float] = {}
    for part in filter(None, rest.split(",")):
        key, _, number = part.partition("=")
        if not known[name]:
            raise ConfigError(f"{field}={shown(text)}: {name} takes no options. Write {field}={name!r}.")
        if key not in known[name]:
            raise unknown_name(f"option of {field} {name}", key, known[name])
        if key in options:
            raise ConfigError(f"{field}={shown(text)} gives {key} twice. Give it once.")
        value = known[name][key].parse(number)
        if value is None:
            raise ConfigError(
                f"{field}={shown(text)}: {key}={shown(number)} must be {known[name][key]}, e.g. {name}:{key}=1."
            )
        options[key] = value
    return name, options
