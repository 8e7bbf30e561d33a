"""The numbers that the kit is called with."""

import operator

from declora.errors import ConfigError

__all__ = ["whole_number"]

SEEDS = 2**64 - 1
"""The largest seed."""


def whole_number(name: str, value: object, *, least: int, most: int) -> int:
    """Returns `value`, an integer of Python or numpy, as an int.

    Raises:
        ConfigError: It is none, or not from `least` to `most`.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # which is what is found out
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        raise ConfigError(f"{name}={_short(value)} must be a whole number from {least} to {most}.")
    return number


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
