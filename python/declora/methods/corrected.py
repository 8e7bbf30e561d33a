"""Corrected local steps: each is followed by one against what a client's own data would pull it to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from declora.errors import ConfigError
from declora.methods.part import Part, Step
from declora.plan import Plan

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["Corrected"]


class Corrected(Part):
    """Client i has a correction c_i, 0 at first: a local step of rate eta is followed by x_i <- x_i - eta c_i.

    How c_i moves at the end of a round is the subclass's. The sum over clients has to stay 0.
    """

    keeps_sums = True

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation.

        Raises:
            ConfigError: The mixer is no weighted mean, under which the corrections would not sum to 0.
        """
        if not federation.exchange.silent and str(federation.mixer) != "linear":
            raise ConfigError(
                f"method={str(self)!r} needs corrections whose sum stays 0, which mixer={str(federation.mixer)!r} does "
                "not keep. Use mixer='linear'."
            )
        return federation

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns the corrections c, float32 `[clients, D]`, all 0."""
        return {"correction": state.adapter.new_zeros(state.adapter.shape)}

    def before_round(self, state: State, plan: Plan) -> None:
        """Begins to count how far the steps of the round go."""
        self._rates = state.adapter.new_zeros(len(state.adapter))

    def after_step(self, state: State, step: Step) -> None:
        """Takes the correction, as long as the step."""
        state.adapter.sub_(step.rates.unsqueeze(1) * self.correction(state))
        self._rates += step.rates

    def per_rate(self, moved: torch.Tensor) -> torch.Tensor:
        """Returns `moved [clients, D]` by the sum of the round's rates; without a rate nothing has moved."""
        rates = self._rates.unsqueeze(1)
        return moved / rates.where(rates > 0, 1.0)

    def correction(self, state: State) -> torch.Tensor:
        """Returns c, float32 `[clients, D]`, to be changed in place."""
        correction: torch.Tensor = state.room(self.name)["correction"]  # type: ignore[assignment]
        return correction
