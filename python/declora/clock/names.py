"""The names of clocks and their options: `"lognormal:step=0.1,bandwidth=1e6"` to a clock."""

from declora.clock.clock import Clock
from declora.clock.speeds import Drawn, Speeds, Traced
from declora.spec import Option, Word, parse_spec

__all__ = ["CLOCKS", "parse_clock"]


def _seconds(default: float) -> Option:
    return Option(whole=False, least=0, default=default)


_ROUNDS = {
    "stragglers": Option(whole=False, least=0, most=1, default=0.0),
    "slower": Option(whole=False, least=1, default=10.0),
    "wait": _seconds(1.0),
}
CLOCKS: dict[str, dict[str, Option | Word]] = {
    "lognormal": {
        "step": _seconds(0.1),
        "spread": _seconds(0.0),
        "latency": _seconds(0.05),
        "bandwidth": Option(whole=False, least=0, above=True, default=1.25e6),
        "links": _seconds(0.0),
        **_ROUNDS,
    },
    "trace": {"file": Word(needed=True), **_ROUNDS},
}
"""Every clock by its name, with its options."""


def parse_clock(text: str, *, seed: int = 0) -> Clock:
    """Returns the clock that `text` names.

    Args:
        text: `lognormal[:step=0.1,spread=0,latency=0.05,bandwidth=1.25e6,links=0]` or `trace:FILE`, both also with
            `stragglers=0,slower=10,wait=1`.
        seed: The run's seed.

    Raises:
        ConfigError: Unknown name or option, a number out of range, or a file that cannot be read.
    """
    name, options = parse_spec("clock", text, CLOCKS)
    rounds = {key: options.pop(key) for key in _ROUNDS}
    speeds: Speeds = Traced(options["file"]) if name == "trace" else Drawn(**options, seed=seed)
    return Clock(speeds, text, seed, **rounds)
