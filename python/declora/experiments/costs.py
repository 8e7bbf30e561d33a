"""What local steps, rounds and messages of a run cost, measured by a short part of it."""

import bisect
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from declora.config import DEFAULT_LOCAL_STEPS, SimulationConfig
from declora.errors import ConfigError, DecloraError
from declora.experiments.arguments import ALONE
from declora.prepare import plan_federation, prepare
from declora.report.records import column
from declora.run import Run
from declora.wire import Wire

__all__ = ["Costs", "Messages", "Trial"]


@dataclass(frozen=True)
class Costs:
    """What a run takes of time, in seconds."""

    step_seconds: float
    """A local step of all clients."""
    round_seconds: float
    """What a round takes beside its steps: to encode, exchange and mix."""
    evaluation_seconds: float
    """An evaluation."""
    eval_every: int
    """Rounds between evaluations; the last round is always evaluated."""

    @property
    def between_steps(self) -> float:
        """Seconds of a round beside its steps, with its share of an evaluation."""
        return self.round_seconds + self.evaluation_seconds / self.eval_every

    def seconds(self, rounds: int, steps: int) -> float:
        """Returns how long so many rounds of so many local steps take."""
        evaluations = -(-rounds // self.eval_every)
        return rounds * (self.round_seconds + steps * self.step_seconds) + evaluations * self.evaluation_seconds

    def rounds(self, seconds: float, steps: int) -> int:
        """Returns how many rounds of so many local steps a time allows for, the last evaluation included."""
        left = seconds - self.evaluation_seconds
        # Rounding must not take the last round of a time that is a multiple of one.
        return max(0, math.floor(left / (self.between_steps + steps * self.step_seconds) * (1 + 1e-12)))


class Trial:
    """The first rounds of a run, which are run, and forgotten.

    Args:
        config: Of the run.
        rounds: So many; the first warms up, and its time is not counted where there are others.

    Attributes:
        run: After these rounds.
        rounds: How many.

    Raises:
        ConfigError: Clients of this method never talk.
        DecloraError: As `simulate`.
    """

    STEPS = DEFAULT_LOCAL_STEPS
    """Local steps of a round."""

    def __init__(self, config: SimulationConfig, rounds: int) -> None:
        planned = plan_federation(config)
        if planned[0].exchange.silent or config.clients == 1:
            raise ConfigError(
                f"method={str(planned[1])!r} of clients={config.clients} sends nothing: there is no exchange "
                "to place between steps. Plan a method of several clients who talk, e.g. method='dec-lora'."
            )
        self.rounds = rounds
        short = config.override(**ALONE, rounds=rounds, local_steps=self.STEPS, eval_every=rounds)
        self.run = Run(short, prepare(short), plan_federation(short))
        self._history = pd.DataFrame(self.run.rounds())

    def costs(self, eval_every: int, *, step_seconds: float | None = None, round_seconds: float | None = None) -> Costs:
        """Returns the medians over rounds, and the seconds of the only evaluation; what is given, as it is.

        Where all is given, evaluations cost nothing: they are no work of the machine that the numbers are of.
        """
        counted = self._history.iloc[1:] if len(self._history) > 1 else self._history
        train, *others = (column(counted, f"seconds_{phase}") for phase in ("train", "encode", "exchange", "mix"))
        return Costs(
            float(np.median(train)) / self.STEPS if step_seconds is None else step_seconds,
            float(np.median(np.nansum(others, axis=0))) if round_seconds is None else round_seconds,
            0.0 if None not in (step_seconds, round_seconds) else float(column(self._history, "seconds_evaluate")[-1]),
            eval_every,
        )

    def check(self, config: SimulationConfig) -> None:
        """Checks that other rounds and local steps can be run, too.

        Raises:
            DecloraError: They cannot; says which these are.
        """
        try:
            Run(config.override(**ALONE), self.run.material)
        except DecloraError as error:
            raise type(error)(
                f"rounds={config.rounds} of local_steps={config.local_steps} are what the budget is best spent on, but "
                f"cannot be run: {error}"
            ) from error

    def messages(self) -> "Messages":
        """Returns what rounds of the run send."""
        return Messages(self.run, [int(count) for count in self._history["bytes_sent"]])


class Messages:
    """How many bytes the rounds of a run send.

    Those after the first `COUNTED` are taken to repeat these, as they do where the periods of graph and method divide
    it; else these are many enough for a mean.

    Args:
        run: Which has begun.
        measured: Bytes that its first rounds sent.

    Attributes:
        share: Of the most bytes that the rounds may have, what they had; 1 where sizes do not depend on what is sent.
    """

    COUNTED = 5040
    """A multiple of every number up to 10."""

    def __init__(self, run: Run, measured: list[int]) -> None:
        self._run = run
        federation, method, layout = run.federation, run.method, run.layout
        self._wire = Wire(
            federation.codec,
            method.lifted(layout),
            np.arange(federation.clients, dtype=np.uint32),
            run_id=bytes(16),
            manifest={},
            seed=0,
            ranks=federation.ranks or None,
            units=method.units(layout),
        )
        self._each, self._totals = self._most(), [0]
        most = self._most_in(len(measured))
        self.share = sum(measured) / most if most else 1.0  # all were away

    def within(self, budget: int, rounds: int) -> int:
        """Returns how many rounds, of at most so many, send no more than `budget` bytes in all."""
        for count in range(1, min(rounds, self.COUNTED) + 1):
            if self.total(count) > budget:
                return count - 1
        return bisect.bisect_right(range(rounds + 1), budget, key=self.total) - 1

    def total(self, rounds: int) -> int:
        """Returns the bytes of so many rounds."""
        return round(self.share * self._most_in(rounds))

    def _most_in(self, rounds: int) -> int:
        """Returns the most bytes that so many rounds may have."""
        while len(self._totals) <= min(rounds, self.COUNTED):
            self._totals.append(self._totals[-1] + next(self._each))
        times, rest = divmod(rounds, self.COUNTED)
        return (times and times * self._totals[self.COUNTED]) + self._totals[rest]

    def _most(self) -> Iterator[int]:
        """Returns the most bytes that each round may have, headers included."""
        federation = self._run.federation
        unread = np.empty((federation.clients, 0), dtype=np.uint8)
        for event in itertools.count():
            plan = federation.faults.strike(self._run.plan(event)).plan
            sizes = self._wire.most_bytes(plan.sent)
            most = int(federation.exchange.deliver(unread, sizes, plan.graph.audience).bytes_sent.sum())
            if plan.arrivals is not None:
                most += int(sizes[plan.arrivals.edges[plan.arrivals.again, 0]].sum())
            if plan.behind is not None and federation.codec.memory.needs_static_graph:
                most += int(self._wire.whole_bytes(plan.sent)[plan.behind[:, 0]].sum())
            yield most
