"""Faults: which clients are away in a round, and which messages do not arrive."""

from declora.faults.fault import Fault
from declora.faults.faults import Faults, Struck
from declora.faults.names import FAULTS, parse_faults

__all__ = ["FAULTS", "Fault", "Faults", "Struck", "parse_faults"]
