"""Adapters as their users meet them: PEFT folders that say what they are, and models that answer."""

from declora.adapters.about import About, Lineage
from declora.adapters.adapter import Adapter

__all__ = ["About", "Adapter", "Lineage"]
