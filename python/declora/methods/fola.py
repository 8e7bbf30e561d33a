"""FOLA (arXiv 2102.01936): each adapter is a Gaussian; what counts in a mean is how sure a client is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora.methods.combining import Combining
from declora.methods.part import Step
from declora.mixer import Mixer
from declora.mixer.ratio import mix_ratio
from declora.plan import Plan
from declora.spec import Option, Word

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["Fola"]


class Fola(Combining):
    """Bayesian training with an online Laplace approximation: client i has a mean x_i and a precision Omega_i > 0.

    In round r, counted from 1, with mu and Omega as gossip left them, a client descends its loss plus

        lambda c_r / 2 sum (Omega (x - mu)^2)

    and adds up the squares of its minibatches' gradients (of the loss alone, before clipping): F. Then

        Omega_i = F / r + (r - 1) / r Omega        and c_r = 1    with reading=paper, its equations,
        Omega_i = Omega + (|b| / n_i) F            and c_r = 1/r  with reading=code, the reference's,
        x_i <- x_i + gamma (sum_j w_ij Omega_j z_j / sum_j w_ij Omega_j - z_i),    Omega_i <- sum_j w_ij Omega_j,

    the log-linear pool of its neighbours' Gaussians: weights sum to 1, so no evidence counts twice where a graph has
    cycles. Equal precisions are ordinary gossip. A message has x and Omega, twice the numbers. The precision belongs to
    numbers of factors, not to products. Both readings are third parties'; |b| / n_i is the share of a client's samples
    that a batch has, at most 1, of full batches.

    Args:
        strength: lambda, 1 by default; with 0 the pool remains.
        initial: Omega at the start, 1 as in the reference's settings for MNIST.
        floor: Least Omega, so that every pool has a mean; ours, 1e-6.
        reading: `paper`, in which Omega is a mean over rounds, or `code`, in which it grows and the prior's weight
            falls.
    """

    name = "fola"
    source = "arXiv 2102.01936"
    options: ClassVar[Mapping[str, Option | Word]] = {
        "strength": Option(whole=False, least=0.0),
        "initial": Option(whole=False, least=0.0, above=True),
        "floor": Option(whole=False, least=0.0, above=True),
        "reading": Word(("paper", "code")),
    }

    def __init__(
        self, strength: float = 1.0, initial: float = 1.0, floor: float = 1e-6, reading: str = "paper"
    ) -> None:
        self.strength, self.initial, self.floor, self.reading = strength, initial, floor, reading

    def __str__(self) -> str:
        """The part with its options."""
        return (
            f"{self.name}:strength={self.strength:g},initial={self.initial:g},floor={self.floor:g},"
            f"reading={self.reading}"
        )

    def calibrate(self, federation: Federation, steps: NDArray[np.int64]) -> Federation:
        """Returns the federation, having seen what share of a client's samples a batch has."""
        self._shares = federation.sampling_rates
        return federation

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns the precisions, float32 `[clients, D]`."""
        return {"precision": state.adapter.new_full(state.adapter.shape, max(self.initial, self.floor))}

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which precisions are sent beside adapters."""
        return replace(plan, sent=plan.sent.repeated(2))

    def before_round(self, state: State, plan: Plan) -> None:
        """Notes mu, and begins to add up squares."""
        self._mu = state.adapter.clone()
        self._squares = state.adapter.new_zeros(state.adapter.shape)

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Adds up the squares of the loss's gradients, and adds that of the prior."""
        losses = compute()
        self._squares.addcmul_(step.gradients, step.gradients)
        omega = self._precision(state)
        strength = self.strength / (step.plan.event + 1) if self.reading == "code" else self.strength
        for start, stop in step.phase.trained.spans:
            away = state.adapter[:, start:stop] - self._mu[:, start:stop]
            step.gradients[:, start:stop].addcmul_(omega[:, start:stop], away, value=strength)
        return losses

    def lifted(self, layout: Layout) -> Layout:
        """Returns the columns of x, and of Omega."""
        return layout.twice("precision.")

    def origin(self, state: State) -> torch.Tensor:
        """Returns the common first adapter and precision."""
        return self._beside(state.adapter, self._precision(state))

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns x and Omega, `[clients, 2 D]`."""
        omega = self._precision(state)
        if self.reading == "code":
            omega.addcmul_(self._squares, omega.new_tensor(self._shares[state.clients])[:, None])
        else:
            omega.lerp_(self._squares, 1 / (plan.event + 1))
        omega.clamp_(min=self.floor)
        return self._beside(state.adapter, omega)

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Pools `rows [clients, 2 sent columns]` in place, each number by itself."""
        weights, public = inbox.heard()
        x, omega = np.split(rows, 2, axis=1)
        z, heard = np.split(public, 2, axis=1)
        heard = np.maximum(heard, np.float32(self.floor))
        mix_ratio(weights, z, heard, x, gamma=gamma)
        precision = np.ascontiguousarray(omega)
        mixer.mix(weights, heard, precision, gamma=gamma)
        np.maximum(precision, np.float32(self.floor), out=omega)

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Takes x and Omega."""
        columns = state.adapter.shape[1]
        state.adapter.copy_(mixed[:, :columns])
        self._precision(state).copy_(mixed[:, columns:])

    def _precision(self, state: State) -> torch.Tensor:
        precision: torch.Tensor = state.room(self.name)["precision"]  # type: ignore[assignment]
        return precision

    @staticmethod
    def _beside(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.cat([one, other], dim=1)
