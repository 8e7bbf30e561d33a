"""Parts that combine by themselves what clients hear, in the place of the mixer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from declora.errors import ConfigError
from declora.methods.part import Part

if TYPE_CHECKING:
    from declora.federation import Federation
    from declora.plan import Plan

__all__ = ["Combining", "check_one_hears", "check_whole"]


class Combining(Part):
    """A part whose `mix` is a rule of its own for factors, so that no other rule can take its place."""

    factors_anew: ClassVar[str] = ""
    """What it factors anew in every round, in words, after which the numbers of factors mean something else."""

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation.

        Raises:
            ConfigError: A mixer that is another rule; or a codec that remembers numbers which mean something else in
                each round.
        """
        if federation.exchange.silent:
            return federation
        if str(federation.mixer) != "linear":
            raise ConfigError(
                f"method={str(self)!r} combines adapters by a rule of its own, so mixer={str(federation.mixer)!r} "
                "would have no effect. Use mixer='linear', or method='dec-lora'."
            )
        if self.factors_anew and not federation.codec.memory.lossless:
            raise ConfigError(
                f"codec={federation.codec.name!r} remembers the numbers of factors, but method={self.name!r} factors "
                f"{self.factors_anew} anew in every round, after which they mean something else. Use a codec without a "
                "memory, e.g. codec='q4'."
            )
        return federation


def check_one_hears(part: Part, federation: Federation, *, both_ways: str, trusted: str) -> None:
    """Checks that clients can talk to one neighbour at a time.

    Args:
        part: Whose rule that is.
        federation: Who takes part.
        both_ways: Why edges must go both ways, in words.
        trusted: Why an attacker cannot be borne, in words.

    Raises:
        ConfigError: They cannot: edges go one way, a codec remembers what neighbours have, of whom only one hears
            anything, or somebody lies.
    """
    if federation.topology.directed:
        raise ConfigError(
            f"topology={federation.topology.name!r} has edges of one way, but with method={part.name!r} {both_ways}. "
            "Use an undirected graph, e.g. ring."
        )
    if not federation.codec.memory.lossless:
        raise ConfigError(
            f"codec={federation.codec.name!r} remembers what all neighbours heard, but with method={part.name!r} one "
            f"client hears a message. Use a codec without a memory, e.g. codec={federation.codec.plain!r}."
        )
    if federation.attack is not None:
        raise ConfigError(
            f"attack={str(federation.attack)!r}: with method={part.name!r} {trusted}, and no rule can outvote it. Use "
            "method='dec-lora'."
        )


def check_whole(part: Part, plan: Plan, what: str) -> None:
    """Checks that no other part of the method keeps columns from being sent.

    Args:
        part: Whose need that is.
        plan: As the other parts have it.
        what: What it does with all of them, in words.

    Raises:
        ConfigError: One does.
    """
    if not plan.sent.whole:
        raise ConfigError(
            f"method={part.name!r} {what}, but another part of the method sends only some columns. Use either without "
            "the other."
        )
