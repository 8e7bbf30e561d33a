"""The codec of a run: a stateless core codec, and the memory that goes with it."""

from dataclasses import dataclass

from declora import _bridge
from declora.codec.memory import MEMORIES, Memory, NoMemory
from declora.errors import CodecError, unknown_name

__all__ = ["CODECS", "Codec", "parse_codec"]

CODECS = ("none", "fp16", "bf16", "q2", "q3", "q4", "q5", "q6", "q7", "q8")

# Relative variance omega of the coarse quantizers on normal values (max-abs scales, blocks of 256, whose largest value
# is about 2.8 standard deviations): E|x|(s - |x|)/E[x^2] for one level, step^2/6 for more. Finer ones count as 0.
_OMEGA = {"q2": 1.23, "q3": 0.15}

# Consensus step size with a memory, chosen among .1, .2, .3, .45, .6, .8, 1 by gossip of random rows on the ring and
# the complete graph of 10. On the complete graph q2 contracts far less at .45 than at .3 and diverges at .6; q3
# contracts at 1 too, but follows rows that move better at .8.
_MEMORY_GAMMA = {"q2": 0.3, "q3": 0.8}


@dataclass(frozen=True)
class Codec:
    """What `codec="q4"`, `"q2+choco"` or `"q4:block=64,norm=l2+ef"` stands for."""

    name: str
    core: _bridge.Codec
    memory: type[Memory]

    @property
    def default_gamma(self) -> float:
        """The consensus step size used where the config gives none: 1, less for q2 and q3, whose noise is large."""
        if self.memory is NoMemory:
            return self.contraction
        return _MEMORY_GAMMA.get(self.core.name, 1.0)

    @property
    def contraction(self) -> float:
        """1 / (1 + omega): the factor that makes the unbiased codec contractive."""
        return 1.0 / (1.0 + _OMEGA.get(self.core.name, 0.0))

    def frame_bytes(self, columns: int) -> int:
        """Returns the exact size of one message: header and payload of a row of `columns` values."""
        return _bridge.HEADER_BYTES + self.core.payload_bytes(columns)


def parse_codec(text: str) -> Codec:
    """Returns the codec that `text` names: `NAME[:block=N,norm=max|l2][+ef|+choco]`.

    Raises:
        ConfigError: Unknown codec, option or memory; the message has the nearest match.
        CodecError: A block size or norm out of range.
    """
    head, plus, memory_name = text.partition("+")
    name, _, options = head.partition(":")
    if name not in CODECS:
        if name[:1] == "q" and name[1:].lstrip("-").isdigit():
            raise CodecError(f"codec={text!r}: {name[1:]} bits are outside 2..8. Use q2, q3, ... q8.")
        raise unknown_name("codec", name, CODECS)
    if plus and memory_name not in MEMORIES:
        raise unknown_name("codec memory", memory_name, MEMORIES)
    settings: dict[str, str] = {}
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key not in ("block", "norm"):
            raise unknown_name("codec option", key, ("block", "norm"))
        settings[key] = value
    block = settings.get("block", "256")
    if not block.isdigit():
        raise CodecError(
            f"codec={text!r}: block={block!r} is not a whole number. Use a multiple of 32, e.g. block=256."
        )
    core = _bridge.Codec(name, block=int(block), norm=settings.get("norm", "max"))
    return Codec(text, core, MEMORIES[memory_name] if plus else NoMemory)
