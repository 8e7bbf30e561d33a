"""Codecs: how a flat vector becomes bytes and back, and what a codec remembers."""

from declora.codec.base import RunCodec
from declora.codec.checked import CheckedFrames
from declora.codec.core import CoreCodec
from declora.codec.custom import Codec, CustomCodec
from declora.codec.indexed import IndexedCodec
from declora.codec.masked import MaskedCodec
from declora.codec.memory import EF21, ErrorFeedback, Memory, NoMemory, PublicCopies
from declora.codec.names import CODECS, parse_codec

__all__ = [
    "CODECS",
    "EF21",
    "CheckedFrames",
    "Codec",
    "CoreCodec",
    "CustomCodec",
    "ErrorFeedback",
    "IndexedCodec",
    "MaskedCodec",
    "Memory",
    "NoMemory",
    "PublicCopies",
    "RunCodec",
    "parse_codec",
]
