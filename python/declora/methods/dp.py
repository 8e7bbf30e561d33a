"""Differentially private local steps: no message says much of any one sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora import seeds
from declora.errors import ConfigError, shown, unknown_name
from declora.methods import accountant as accountants
from declora.methods.part import Part, Step
from declora.plan import Plan
from declora.spec import Option, Word

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["DifferentialPrivacy"]

_EPSILON = 8.0
_SCOPE = (
    "method='dp' protects each single sample (two data sets are neighbours where a client has one more) in all that "
    "clients send and in their adapters. It does not protect losses and scores that are shown, how many samples a "
    "client has, or what settings chosen by looking at results tell; and whoever knows the seed knows the noise, which "
    "is no cryptographic one, and is added in float32."
)


class DifferentialPrivacy(Part):
    """DP-SGD (Abadi et al. 2016, arXiv 1607.00133) on the A, B and head of each client, which DP-LoRA means to be.

    At each local step, client i takes each of its n_i samples with a chance of q_i = min(1, batch_size / n_i). The
    gradient g of a sample, of all columns together that are trained, is scaled to a norm of at most C; the step goes by

        (sum of g min(1, C / |g|) + N(0, sigma_i^2 C^2 I)) / (q_i n_i)

    That is a Gaussian mechanism on a Poisson sample. What follows it (momentum, clip_norm, codec, gossip, parts of the
    method that do not look at samples themselves) spends nothing more, even where all messages are seen; and a sample
    is one client's. So epsilon is composed over each client's own steps, and that of the client that spent most is
    reported.

    DP-LoRA as it was published (arXiv 2312.17493) clips the gradients of batches, which leaves no bound for a sample.
    With `local_epochs`, an epoch has ceil(n_i / batch_size) steps, in which a sample is taken once on average.

    Args:
        epsilon: What the steps of a run may spend. Each client has the least noise with which its own do not spend
            more: all give the same guarantee, and one with few samples does not cost the others accuracy. 8 where
            neither this nor `sigma` is given.
        delta: The chance with which epsilon may not hold; it should be below one by the number of samples.
        clip: C, the largest norm of a sample's gradient.
        sigma: The noise of all clients in multiples of C (often called noise_multiplier), in the place of `epsilon`,
            which is then reported; 0: none, and no privacy.
        accountant: What tells epsilon: `"pld"`, privacy loss distributions, or `"rdp"`, Rényi divergences. Either
            epsilon holds; that of `rdp` is larger, so that it asks for more noise, and is found in less time.

    Raises:
        ConfigError: Both `epsilon` and `sigma` are given, or a number is out of range.
    """

    name = "dp"
    source = "arXiv 2312.17493, 1607.00133"
    options: ClassVar[Mapping[str, Option | Word]] = {
        "epsilon": Option(whole=False, least=0, above=True),
        "delta": Option(whole=False, least=0, above=True, most=0.5, default=1e-5),
        "clip": Option(whole=False, least=0, above=True, default=1.0),
        "sigma": Option(whole=False, least=0),
        "accountant": Word(tuple(accountants.ACCOUNTANTS), default="pld"),
    }

    def __init__(
        self,
        *,
        epsilon: float | None = None,
        delta: float = 1e-5,
        clip: float = 1.0,
        sigma: float | None = None,
        accountant: str = "pld",
    ) -> None:
        if epsilon is not None and sigma is not None:
            raise ConfigError(
                f"method='dp': epsilon={epsilon:g} says how much noise there is, and so does sigma={sigma:g}. Give one "
                "of the two."
            )
        limits = {"epsilon": (epsilon, math.inf), "delta": (delta, 1.0), "clip": (clip, math.inf)}
        for name, (value, most) in limits.items():
            if value is not None and not 0 < value <= most:
                raise ConfigError(f"method='dp': {name}={shown(value)} must be above 0 and at most {most:g}.")
        if sigma is not None and (not 0 <= sigma < math.inf or (sigma and clip == math.inf)):
            raise ConfigError(
                f"method='dp': sigma={shown(sigma)} with clip={clip:g} must give noise of a finite size of at least 0."
            )
        if accountant not in accountants.ACCOUNTANTS:
            raise unknown_name("accountant of method dp", accountant, accountants.ACCOUNTANTS)
        self._assumed = epsilon is None and sigma is None
        self.epsilon = _EPSILON if self._assumed else epsilon
        self.delta, self.clip, self.sigma, self.accountant = delta, clip, sigma, accountant

    def __str__(self) -> str:
        """The part with its options, as settings write it."""
        noise = f"epsilon={self.epsilon:.12g}" if self.sigma is None else f"sigma={self.sigma:.12g}"
        return f"dp:{noise},delta={self.delta:.12g},clip={self.clip:.12g},accountant={self.accountant}"

    @property
    def plans_ahead(self) -> bool:
        """Whether the noise depends on how many rounds may spend epsilon."""
        return self.sigma is None

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation whose clients draw their samples by Poisson sampling.

        Raises:
            ConfigError: The library that accounts for privacy is not installed.
        """
        accountants.check_installed()
        return replace(federation, sampling="poisson")

    def calibrate(self, federation: Federation, steps: NDArray[np.int64]) -> Federation:
        """Finds each client's noise for its steps of all rounds.

        Raises:
            ConfigError: No noise is enough, or delta is too small for the accountant.
        """
        self._seed, self._steps, rounds = federation.seed, steps, federation.rounds
        most_steps = int((rounds * steps).max(initial=0))
        accountants.check_resolved(steps=most_steps, delta=self.delta, accountant=self.accountant)
        self._rates = federation.sampling_rates
        pairs = list(zip(self._rates.tolist(), (rounds * steps).tolist(), strict=True))
        self._sigmas = np.array([self._noise(rate, total) for rate, total in pairs])
        sizes = self._rates * federation.samples
        self._scales = [
            sigma and sigma * self.clip / size for sigma, size in zip(self._sigmas.tolist(), sizes, strict=True)
        ]
        notes = [self._described(self._most_spent(rounds * steps), rounds), _SCOPE]
        if self._assumed:
            notes.insert(0, f"method='dp' says neither epsilon nor sigma: epsilon={_EPSILON:g} is taken.")
        if self.delta * (most := int(federation.samples.max())) >= 1:
            notes.append(
                f"method='dp': with delta={self.delta:g} and {most:,} samples of a client, to publish some of them "
                f"would pass for private. Set delta below {1 / most:.2g}."
            )
        return replace(federation, notes=(*federation.notes, *notes))

    def _noise(self, rate: float, steps: int) -> float:
        if self.sigma is not None:
            return self.sigma
        assert self.epsilon is not None
        found = accountants.least_sigma(
            rate=rate, steps=steps, epsilon=self.epsilon, delta=self.delta, accountant=self.accountant
        )
        if found is None:
            raise ConfigError(
                f"method={str(self)!r}: no noise keeps {steps:,} steps within epsilon={self.epsilon:g} at "
                f"delta={self.delta:g}. Allow for a larger epsilon, or take fewer rounds or local steps."
            )
        return found

    def _described(self, epsilon: float, rounds: int) -> str:
        least, most = self._sigmas.min(), self._sigmas.max()
        sigmas = f"{least:.4g}" if least == most else f"{least:.4g} to {most:.4g}"
        return (
            f"method='dp' adds noise of sigma={sigmas} times clip={self.clip:g} to each step's sum, so that "
            f"{rounds:,} round{'s' if rounds != 1 else ''} spend at most epsilon={epsilon:.4g} at delta={self.delta:g} "
            f"(accountant={self.accountant})."
        )

    def _most_spent(self, steps: NDArray[np.int64]) -> float:
        """Returns the epsilon that the client that spent most has spent after so many `steps [clients]`."""
        return max(map(self._spent, accountants.foremost(self._accounts(steps))))

    def _spent(self, account: tuple[float, float, int]) -> float:
        rate, sigma, count = account
        return accountants.epsilon_of(rate=rate, sigma=sigma, steps=count, delta=self.delta, accountant=self.accountant)

    def _accounts(self, steps: NDArray[np.int64]) -> list[tuple[float, float, int]]:
        return list(zip(self._rates.tolist(), self._sigmas.tolist(), steps.tolist(), strict=True))

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns the steps that each client has taken, int64 `[clients]`: none."""
        return {"steps": np.zeros(len(state.adapter), dtype=np.int64)}

    def before_round(self, state: State, plan: Plan) -> None:
        """Checks that the round is one that the noise was found for.

        Raises:
            ConfigError: Another part of the method plans more steps.
        """
        self._computed: int | None = None
        found = self._steps[state.clients]
        if more := np.flatnonzero(plan.steps > found).tolist():
            raise ConfigError(
                f"method={str(self)!r} found its noise for {found[more[0]]} local steps a round, but another part of "
                f"the method plans {plan.steps[more[0]]} of client {state.clients[more[0]]}. Use either without the "
                "other."
            )

    def per_example(self, gradients: torch.Tensor) -> None:
        """Scales each gradient to a norm of at most `clip`."""
        import torch

        norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
        gradients.mul_((self.clip / norms).clamp(max=1.0))

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the mean of the scaled gradients, and adds each client's noise to it.

        Raises:
            ConfigError: Another part computes a second gradient in this step, which would spend more.
        """
        from declora.cuda import to_device

        if step.number == self._computed:
            raise ConfigError(
                f"method={str(self)!r} allows for one gradient a step, but another part of the method computes more. "
                "Use either without the other."
            )
        self._computed = step.number
        losses = compute()
        columns = step.gradients.shape[1]
        for row, client in enumerate(state.clients.tolist()):
            if not (scale := self._scales[client]):
                continue
            draws = seeds.generator(self._seed, "dp", client, step.plan.event, step.number)
            noise = to_device(draws.standard_normal(columns, dtype=np.float32), step.gradients.device)
            for start, stop in step.phase.trained.spans:
                step.gradients[row, start:stop].add_(noise[start:stop], alpha=scale)
        return losses

    def after_round(self, state: State, plan: Plan, inbox: Inbox) -> None:
        """Counts the steps."""
        state.room(self.name)["steps"] += plan.steps

    def measured(self, state: State) -> Mapping[str, float]:
        """Returns the epsilon that is spent so far, of the client that has spent most."""
        steps = state.room(self.name)["steps"]
        assert isinstance(steps, np.ndarray)
        return {"epsilon": self._most_spent(steps)}
