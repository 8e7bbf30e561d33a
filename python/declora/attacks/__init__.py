"""Attacks: clients that send something else than they should, to try robust mixers on."""

from declora.attacks.attack import Attack
from declora.attacks.names import ATTACKS, parse_attack

__all__ = ["ATTACKS", "Attack", "parse_attack"]
