"""Codecs: how a flat vector becomes bytes and back, and what a codec remembers."""

from declora.codec.codec import CODECS, Codec, parse_codec
from declora.codec.memory import EF21, ErrorFeedback, Memory, NoMemory, PublicCopies

__all__ = ["CODECS", "EF21", "Codec", "ErrorFeedback", "Memory", "NoMemory", "PublicCopies", "parse_codec"]
