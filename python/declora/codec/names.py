"""The names of codecs, their options, and the stages that `+` joins to them."""

from declora import _bridge
from declora.codec.base import RunCodec
from declora.codec.core import CoreCodec
from declora.codec.custom import Codec, CustomCodec, check_calls
from declora.codec.memory import MEMORIES, Memory, NoMemory
from declora.errors import CodecError, ConfigError, shown, unknown_name
from declora.spec import Word, parse_stack, spelled

__all__ = ["CODECS", "parse_codec"]

_CODECS = {name: {option: Word() for option in options} for name, options in _bridge.codec_options()}
"""What each option may be is the core's to judge."""
_STAGES: dict[str, dict[str, Word]] = {name: {} for name in ("rans", *MEMORIES)}
CODECS = tuple(_CODECS)
"""Every codec by its name."""


def parse_codec(spec: str | Codec) -> RunCodec:
    """Returns the codec that `spec` names, `NAME[:OPTION=VALUE,...][+rans][+ef|+ef21|+choco]`, or that it is.

    Raises:
        ConfigError: Unknown codec, option, stage or memory, with the nearest match; or an object that is no codec.
        CodecError: An option out of range, or a biased codec without a memory.
    """
    codec = _named(spec) if isinstance(spec, str) else _given(spec)
    if codec.needs_memory and codec.memory is NoMemory:
        ways = [f"{spec}+{name}" if isinstance(spec, str) else f"memory = {name!r}" for name in MEMORIES]
        raise CodecError(
            f"codec={shown(codec.name)} is biased: what it drops would be lost for good. Give it a memory: "
            f"{' or '.join(map(repr, ways))}."
        )
    return codec


def _named(text: str) -> CoreCodec:
    name = text.partition(":")[0].partition("+")[0]
    if name[:1] == "q" and name[1:].lstrip("-").isdigit() and name not in CODECS:
        raise CodecError(f"codec={shown(text)}: {shown(name[1:])[1:-1]} bits are outside 2..8. Use q2, q3, ... q8.")
    (name, options), *stages = parse_stack("codec", text, _CODECS, after=_STAGES)
    plain = ":".join([name, ",".join(f"{option}={value}" for option, value in options.items())])
    added = [stage for stage, _ in stages]
    memories = [stage for stage in added if stage in MEMORIES]
    if len(memories) > 1:
        raise ConfigError(f"codec={shown(text)} has two memories, {' and '.join(memories)}. Keep one of them.")
    if "rans" in added[1:]:
        raise ConfigError(f"codec={shown(text)}: rans shortens what the codec writes. Put it before {added[0]}.")
    try:
        core = _bridge.Codec(f"{plain}+rans" if "rans" in added else plain)
    except CodecError as error:
        raise CodecError(f"codec={shown(text)}: {error}") from None
    return CoreCodec(text, core, MEMORIES[memories[0]] if memories else NoMemory)


def _given(codec: object) -> CustomCodec:
    if not isinstance(codec, Codec):
        raise ConfigError(
            f"codec={shown(codec)} is no codec. Give a name such as 'q4', or an object (not its class) of a class "
            "that derives from declora.Codec."
        )
    memories: dict[str, type[Memory]] = {NoMemory.name: NoMemory, **MEMORIES}
    if codec.memory not in list(memories):  # it may be anything
        raise unknown_name(f"codec={spelled(codec)!r}: memory", codec.memory, memories)
    check_calls(codec, repr(spelled(codec)))
    return CustomCodec(codec, memories[codec.memory])
