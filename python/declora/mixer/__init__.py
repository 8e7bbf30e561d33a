"""Mixers: how a row combines its own and its neighbours' public values."""

from declora.mixer.base import Mixer, core_matrix
from declora.mixer.clipped import ClippedGossip
from declora.mixer.coordinate import Median, TrimmedMean
from declora.mixer.linear import Linear
from declora.mixer.names import MIXERS, parse_mixer
from declora.mixer.push_sum import PushSum
from declora.mixer.selection import Krum, MultiKrum, NearestNeighbours

__all__ = [
    "MIXERS",
    "ClippedGossip",
    "Krum",
    "Linear",
    "Median",
    "Mixer",
    "MultiKrum",
    "NearestNeighbours",
    "PushSum",
    "TrimmedMean",
    "core_matrix",
    "parse_mixer",
]
