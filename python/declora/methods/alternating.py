"""Alternating LoRA: only B or only A is trained in a round, all clients the same, a phase of rounds each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from declora.errors import ConfigError
from declora.methods.part import Part
from declora.plan import Columns, Phase, Plan
from declora.spec import Option

if TYPE_CHECKING:
    from declora.federation import Federation
    from declora.model import Layout

__all__ = ["AdfLora", "RoLora", "TadLora"]

_INTERVAL = {"interval": Option(whole=True, least=1, most=10**6)}


class _Alternating(Part):
    """B is trained for `interval` rounds, then A for as many, and so on; the head in every round.

    The phase is a function of the round, so a client that joins late is in the same one as all others.
    """

    options = _INTERVAL

    def __init__(self, interval: int = 1) -> None:
        self.interval = interval

    def trained(self, plan: Plan, layout: Layout) -> Columns:
        """Returns the columns that are trained in a round: those of its phase, and the head."""
        return layout.of_kinds("A" if plan.event // self.interval % 2 else "B", "head")

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which one factor is trained."""
        trained = self.trained(plan, layout)
        return replace(plan, phases=tuple(Phase(phase.steps, trained) for phase in plan.phases))

    def __str__(self) -> str:
        """The part with its interval."""
        return f"{self.name}:interval={self.interval}"


class AdfLora(_Alternating):
    """ADF-LoRA (arXiv 2511.18291): one factor is trained, both are mixed, so that the one at rest does not drift apart.

    Args:
        interval: Rounds of a phase; the paper found 5 the best of 1, 5, 10 and 20.
    """

    name = "adf-lora"
    source = "arXiv 2511.18291"

    def __init__(self, interval: int = 5) -> None:
        super().__init__(interval)


class TadLora(_Alternating):
    """TAD-LoRA (arXiv 2602.00451): ADF-LoRA whose phases are the longer, the worse the graph mixes.

    Args:
        interval: Rounds of a phase; where None, 1 / sqrt(1 - rho) of the graph, rounded, as the paper's best length
            grows, with rho what a round leaves of disagreement (`Topology.slem`).
    """

    name = "tad-lora"
    source = "arXiv 2602.00451"

    def __init__(self, interval: int | None = None) -> None:
        super().__init__(1 if interval is None else interval)
        self._given = interval is not None

    def __str__(self) -> str:
        """The part, with its interval where that was given."""
        return super().__str__() if self._given else self.name

    def arrange(self, federation: Federation) -> Federation:
        """Sets the interval that suits the graph where none was given."""
        if self._given:
            return federation
        self.interval = max(1, round(federation.topology.spectral_gap**-0.5))
        phases = f"method='tad-lora' trains B and A for interval={self.interval} rounds each, which suits the graph."
        return replace(federation, notes=(*federation.notes, phases))


class RoLora(_Alternating):
    """RoLoRA (arXiv 2502.01755): one factor is trained, and it alone is sent and averaged, with the head.

    Under a server the factor at rest is the same for all. On a graph it is not, after one partial average: there,
    `adf-lora` mixes both.
    """

    name = "rolora"
    source = "arXiv 2502.01755"
    steady = False

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which one factor is trained and sent."""
        return replace(super().plan(plan, layout), sent=self.trained(plan, layout))

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation.

        Raises:
            ConfigError: An attack repeats what was sent in other rounds, which are other columns.
        """
        attack = federation.attack
        if attack is not None and attack.repeats:
            raise ConfigError(
                f"attack={str(attack)!r} repeats what was sent in an earlier round, but method={str(self)!r} sends "
                "A in some rounds and B in others. Use another attack, or method='adf-lora', which sends both."
            )
        return federation
