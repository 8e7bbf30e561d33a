"""The clock of a simulation: how long local steps take, how long messages are on their way, when clients are done."""

from declora.clock.clock import Clock
from declora.clock.names import CLOCKS, parse_clock
from declora.clock.speeds import Drawn, Speeds, Traced

__all__ = ["CLOCKS", "Clock", "Drawn", "Speeds", "Traced", "parse_clock"]
