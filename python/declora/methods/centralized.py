"""Centralized LoRA: the data of all clients in one place, the yardstick of every method without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from declora.methods.part import Part

if TYPE_CHECKING:
    from declora.federation import Federation

__all__ = ["Centralized"]


class Centralized(Part):
    """One client holds all data and does all clients' work: each step is on as many samples as one of all of theirs.

    So it sees as many samples in a round. With `local_steps` it takes as many steps as each of them; with
    `local_epochs`, ceil(all samples / (batch_size x clients)) a pass, never more than the largest client.
    """

    name = "centralized"
    sets_graph = True

    def arrange(self, federation: Federation) -> Federation:
        """Returns one client with the pooled shards and a batch as large as all clients' together."""
        return federation.merged()
