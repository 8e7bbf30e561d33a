"""Parts that combine by themselves what clients hear, in the place of the mixer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from declora.errors import ConfigError
from declora.methods.part import Part

if TYPE_CHECKING:
    from declora.federation import Federation

__all__ = ["Combining"]


class Combining(Part):
    """A part whose `mix` is a rule of its own for factors, so that no other rule can take its place."""

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation.

        Raises:
            ConfigError: A mixer that is another rule.
        """
        if not federation.exchange.silent and str(federation.mixer) != "linear":
            raise ConfigError(
                f"method={str(self)!r} combines adapters by a rule of its own, so mixer={str(federation.mixer)!r} "
                "would have no effect. Use mixer='linear', or method='dec-lora'."
            )
        return federation
