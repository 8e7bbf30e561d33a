"""Chooses rounds and local steps for a budget of seconds or bytes: `plan_rounds`."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.experiments.bound import best_rounds, gain, most_steps
from declora.experiments.costs import Costs, Messages, Trial
from declora.kinds import Bytes, Real
from declora.report.tables import format_bytes, format_seconds, to_text

__all__ = ["RoundPlan", "plan_rounds"]

RATIO = 20.0
"""c1 / c2 where nobody says it; ours: no round has more than 10 local steps then."""
_MOST = 10**6
"""Rounds, and local steps of a round, that settings allow."""


@dataclass(frozen=True)
class RoundPlan:
    """The rounds and local steps that a budget is spent on.

    Attributes:
        config: The settings with these `rounds` and `local_steps`.
        costs: What the plan reckons with.
        seconds: That the run takes, without loading the model and the data and without writing a report.
        bytes: That all clients send together, headers included.
        table: One row for the choice and each of some neighbours: `local_steps`, `rounds`, `seconds`, `bytes`, and
            `gain`, that of the bound as a share of the choice's.
        notes: What was guessed or decided, in whole sentences.
    """

    config: SimulationConfig
    costs: Costs
    seconds: float
    bytes: int
    table: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def rounds(self) -> int:
        """T."""
        return self.config.rounds

    @property
    def local_steps(self) -> int:
        """K."""
        assert self.config.local_steps is not None
        return self.config.local_steps

    def __str__(self) -> str:
        """The choice, its neighbours, and what was guessed."""
        chosen = (
            f"rounds = {self.rounds}\nlocal_steps = {self.local_steps}\n\nThis takes about "
            f"{format_seconds(self.seconds)} and sends {format_bytes(self.bytes)}."
        )
        return "\n".join([chosen, "", to_text(self.table), *self.notes])


def plan_rounds(
    config: SimulationConfig | None = None,
    *,
    seconds: float | None = None,
    bytes: int | str | None = None,
    step_seconds: float | None = None,
    round_seconds: float | None = None,
    ratio: float | None = None,
    **settings: Any,
) -> RoundPlan:
    """Chooses how many rounds of how many local steps a budget is spent on.

    A round of K local steps takes beta + K alpha seconds, and gains (1 + ratio) K - K^2 by the bound of BLADE-FL (arXiv
    2101.06905), which was made for averages of all clients; here the same is taken of any graph. Of all whole K, the
    one is taken with which the rounds that the budget pays gain most. Nothing is mined.

    Args:
        config: Settings of the run; the defaults of `SimulationConfig` where None. Its rounds and local steps do not
            count.
        seconds: That rounds may take in all, evaluations included.
        bytes: That all clients may send in all, headers included: a whole number, or a text such as "2GB" or "512MiB".
        step_seconds: alpha, of a local step of all clients; None: measured.
        round_seconds: beta, what a round takes beside its steps; None: measured, as all is in this process. Where both
            are given, evaluations are taken to cost nothing.
        ratio: c1 / c2 of the bound, lower for unlike data and large learning rates: a round of more than
            ratio / 2 local steps, rounded up, is never worth it. None: 20, which is ours.
        **settings: Settings to change; `SimulationConfig` documents each.

    Returns:
        The choice, with the settings to run it.

    Raises:
        ConfigError: There is no budget, it does not pay a round of one step, or clients never talk; or the seconds of a
            clock are asked for, and not those of its steps and rounds given.
        DecloraError: The run cannot be run, as `simulate` says it; or not with what was chosen, which is named.
    """
    config = (config or SimulationConfig()).override(**settings)
    if config.compare is not None:
        raise ConfigError("compare is set, but a plan is of one run. Leave it out.")
    if seconds is None and bytes is None:
        raise ConfigError("There is no budget. Give seconds or bytes, e.g. seconds=600.")
    seconds = None if seconds is None else float(Real(above=0).check("seconds", seconds))
    most_bytes = None if bytes is None else Bytes().check("bytes", bytes)
    given = {
        name: float(Real(above=0).check(name, value))
        for name, value in (("step_seconds", step_seconds), ("round_seconds", round_seconds))
        if value is not None
    }
    if config.clock is not None and seconds is not None and len(given) < 2:
        raise ConfigError(
            f"clock={config.clock!r} has seconds of its own, and a plan measures those of this machine. Give "
            "step_seconds and round_seconds, or leave the clock out."
        )
    c1_c2 = float(Real(above=0).check("ratio", RATIO if ratio is None else ratio))
    trial = Trial(config, 1 if len(given) == 2 else 3)
    budget = _Budget(trial.costs(config.eval_every, **given), trial.messages(), seconds, most_bytes)
    steps = _best_steps(budget, c1_c2)
    rounds = budget.rounds(steps)
    chosen = config.override(rounds=rounds, local_steps=steps)
    trial.check(chosen)
    notes = [_measured(trial, given)]
    if ratio is None:
        notes.append(f"ratio={RATIO:g} is ours, and no measure of your data: see docs/plan.md.")
    if budget.messages.share < 1:
        notes.append("How long messages are depends on what is in them: bytes are reckoned by those of the trial.")
    if rounds > Messages.COUNTED:
        notes.append(f"Rounds after the first {Messages.COUNTED:,} are taken to send what these do.")
    if seconds is None:
        notes.append(f"Bytes alone say nothing of steps: K={steps} is where another step of a round gains nothing.")
    return RoundPlan(
        chosen,
        budget.costs,
        budget.costs.seconds(rounds, steps),
        budget.messages.total(rounds),
        _neighbours(budget, steps, c1_c2),
        (*notes, *budget.unrounded(c1_c2)),
    )


@dataclass(frozen=True)
class _Budget:
    """What there is to spend, and what it is spent on."""

    costs: Costs
    messages: Messages
    seconds: float | None
    bytes: int | None

    def rounds(self, steps: int) -> int:
        """Returns how many rounds of so many local steps it pays."""
        return (
            self._affordable if self.seconds is None else min(self._affordable, self.costs.rounds(self.seconds, steps))
        )

    @cached_property
    def _affordable(self) -> int:
        """How many rounds its bytes pay."""
        return _MOST if self.bytes is None else self.messages.within(self.bytes, _MOST)

    def check(self) -> None:
        """Checks that it pays a round of one step.

        Raises:
            ConfigError: It does not.
        """
        if not self._affordable:
            each = self.messages.total(1)
            raise ConfigError(f"bytes={self.bytes:,} does not pay a round, which sends {each:,} bytes. Allow for more.")
        if not self.rounds(1):
            each_takes = format_seconds(self.costs.seconds(1, 1))
            raise ConfigError(
                f"seconds={self.seconds:g} does not pay a round of one local step, which takes {each_takes}. Allow for "
                "more."
            )

    def unrounded(self, ratio: float) -> list[str]:
        """Returns what the closed form says of seconds alone, in a sentence."""
        if self.seconds is None or self.bytes is not None:
            return []
        left = self.seconds - self.costs.evaluation_seconds
        alpha, beta = self.costs.step_seconds, self.costs.between_steps
        best = best_rounds(left, step_seconds=alpha, round_seconds=beta, ratio=ratio)
        return [f"The formula, which knows no whole numbers, has T={best:.4g}."]


def _best_steps(budget: _Budget, ratio: float) -> int:
    """Returns the local steps of a round with which the rounds that are paid gain most; of equal ones the fewest."""
    budget.check()
    steps = range(1, min(_MOST, most_steps(ratio)) + 1)
    return steps[int(np.argmax(gain([budget.rounds(own) for own in steps], steps, ratio)))]


def _neighbours(budget: _Budget, steps: int, ratio: float) -> pd.DataFrame:
    """Returns the table of the choice and of what is near it."""
    costs, best = budget.costs, gain(budget.rounds(steps), steps, ratio)
    rows = [
        (near, rounds, costs.seconds(rounds, near), budget.messages.total(rounds), gain(rounds, near, ratio) / best)
        for near in sorted({steps // 2, steps - 1, steps, steps + 1, 2 * steps} - {0})
        if (rounds := budget.rounds(near))
    ]
    return pd.DataFrame(rows, columns=["local_steps", "rounds", "seconds", "bytes", "gain"])


def _measured(trial: Trial, given: dict[str, float]) -> str:
    """Returns where the costs are from, in a sentence."""
    if len(given) == 2:
        return "The seconds of steps and rounds are those given; evaluations are not reckoned with."
    what = "The seconds of " + ("rounds" if "step_seconds" in given else "steps" if given else "steps and rounds")
    return f"{what} were measured in {trial.rounds - 1} rounds of {trial.STEPS} steps here, where one process has all."
