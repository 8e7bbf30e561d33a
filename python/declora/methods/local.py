"""Local LoRA: every client for itself, what a client has without the others."""

from dataclasses import replace

from declora.methods.base import Federation, Method

__all__ = ["Local"]


class Local(Method):
    """Local steps and nothing else."""

    name = "local"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the same clients, without an exchange."""
        return replace(federation, exchange=None)
