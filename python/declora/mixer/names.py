"""The names of mixers and their options: `"clipped:tau=1.5"` to a mixer."""

from typing import Any

from declora.errors import ConfigError, shown
from declora.mixer.base import Mixer
from declora.mixer.clipped import ClippedGossip
from declora.mixer.coordinate import Median, TrimmedMean
from declora.mixer.linear import Linear
from declora.mixer.push_sum import PushSum
from declora.mixer.selection import Krum, MultiKrum, NearestNeighbours
from declora.spec import Option, parse_spec

__all__ = ["MIXERS", "parse_mixer"]

_BAD = {"f": Option(whole=True, least=1)}
_OPTIONS: dict[type[Mixer], dict[str, Option]] = {
    Linear: {},
    ClippedGossip: {**_BAD, "tau": Option(whole=False, least=0, above=True)},
    TrimmedMean: _BAD,
    Median: {},
    Krum: _BAD,
    MultiKrum: {**_BAD, "m": Option(whole=True, least=1)},
    NearestNeighbours: _BAD,
    PushSum: {},
}
MIXERS: dict[str, type[Mixer]] = {kind.name: kind for kind in _OPTIONS}
"""Every mixer by its name."""


def parse_mixer(spec: str | Mixer) -> Mixer:
    """Returns the mixer that `spec` names, or that it is.

    `linear`, `clipped[:f=N]`, `clipped:tau=X`, `trimmed-mean[:f=N]`, `median`, `krum[:f=N]`, `multi-krum[:f=N,m=M]`,
    `nna[:f=N]` or `push-sum`; f is 1 where it is left out.

    Raises:
        ConfigError: Unknown name or option (with the nearest match), a number out of range, or an object that is no
            mixer.
    """
    if isinstance(spec, str):
        name, options = parse_spec("mixer", spec, {kind.name: known for kind, known in _OPTIONS.items()})
        build: Any = MIXERS[name]
        named: Mixer = build(**options)
        return named
    if not isinstance(spec, Mixer) or (type(spec).combine is Mixer.combine and type(spec).mix is Mixer.mix):
        raise ConfigError(
            f"mixer={shown(spec)} is no mixer. Give a name such as 'linear', or an object (not its class) of a class "
            "that derives from declora.Mixer and defines combine."
        )
    return spec
