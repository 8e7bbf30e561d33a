"""FFA-LoRA (Sun et al. 2024, arXiv 2403.12313): A stays as it was drawn, B is trained; under gossip, ConLoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from declora.methods.part import Part
from declora.plan import Phase, Plan

if TYPE_CHECKING:
    from declora.model import Layout

__all__ = ["FfaLora"]


class FfaLora(Part):
    """All clients keep the common first A; B and the head are trained, sent and averaged.

    With one A for all, the mean of the products B_j A is the product of the mean B: averaging factors is exact, and a
    message has half of a factor pair's numbers.
    """

    name = "ffa-lora"
    source = "arXiv 2403.12313"

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round with B and the head alone, trained and sent."""
        moving = layout.of_kinds("B", "head")
        return replace(plan, phases=tuple(Phase(phase.steps, moving) for phase in plan.phases), sent=moving)
