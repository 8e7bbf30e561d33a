"""Local LoRA: every client for itself, what a client has without the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from declora.methods.part import Part

if TYPE_CHECKING:
    from declora.federation import Federation

__all__ = ["Local"]


class Local(Part):
    """Local steps and nothing else."""

    name = "local"
    own_scores = True
    sets_graph = True

    def arrange(self, federation: Federation) -> Federation:
        """Returns the same clients, who never talk."""
        return federation.alone()
