"""Local steps: K optimizer steps of every client, group by group over one frozen base."""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import process
from declora.cuda import to_device
from declora.errors import TrainingError
from declora.methods import Stack, Step
from declora.model.bank import AdapterBank
from declora.model.compilation import Compilation
from declora.model.loss_scale import LossScale, computes_in_half
from declora.model.recompute import Recomputation
from declora.model.unpad import Unpadding
from declora.plan import Phase, Plan
from declora.state import Room, State
from declora.train.gradients import Gradients
from declora.train.optimizer import ClientOptimizer
from declora.train.order import Order, take
from declora.train.passes import Passes
from declora.train.scored import ScoredHead
from declora.train.tokens import Tokens

__all__ = ["LocalRound", "LocalTrainer"]


@dataclass(frozen=True)
class LocalRound:
    """What one round of local steps was."""

    losses: NDArray[np.float64]
    """`[clients]`: each client's training loss, the mean over its steps."""
    samples: NDArray[np.int64]
    """int64 `[clients]`: samples seen; of packed rows, those that begin in them."""
    learning_rate: float
    """Of the first step (the highest, where clients take unequally many in a run)."""


class LocalTrainer:
    """Trains all clients of this process.

    A round lasts as long as the longest client's local steps. A client with fewer takes its own from the beginning of
    the round on and then waits: its row, its moments and its schedule stand still, and its group's step is computed
    without it.

    Attributes:
        gradients: What computes those of a step.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        bank: AdapterBank,
        optimizer: ClientOptimizer,
        tokens: Tokens,
        orders: Sequence[Order],
        *,
        steps: NDArray[np.int64],
        group_size: int,
        examples: int = 1,
        sort_by_length: bool = True,
        base_dropout: bool = False,
        unpadding: Unpadding | None = None,
        head: ScoredHead | None = None,
        recomputation: Recomputation | None = None,
        compilation: Compilation | None = None,
        seed: int = 0,
        first: int = 0,
        room: Room | None = None,
    ) -> None:
        """Takes each client's local `steps` of a round, int64 `[clients]`, beside model, bank, optimizer and data.

        Of clients, `group_size` are computed together; of examples with gradients of their own, so many `examples`.
        With `unpadding` (of that model), sequences follow each other and `sort_by_length` has no effect; with `head`, a
        causal LM scores targets alone; with `recomputation`, blocks keep nothing of a step but what goes into them;
        with `compilation`, they are programs. The first client has the number `first` in the run. What is remembered of
        a base in float16 is kept in `room`.
        """
        self._model = model
        self._bank = bank
        self._optimizer = optimizer
        self._tokens = tokens
        self._orders = orders
        self._steps = steps
        self._first = first
        bank.loss_scale = LossScale({} if room is None else room, bank.clients) if computes_in_half(model) else None
        self._passes = Passes(
            model,
            bank.owners,
            tokens,
            bank.P.device,
            sort_by_length=sort_by_length,
            base_dropout=base_dropout,
            unpadding=unpadding,
            head=head,
            recomputation=recomputation,
            compilation=compilation,
            seed=seed,
        )
        self.gradients = Gradients(self._passes, bank, orders, group_size=group_size, examples=examples, first=first)
        _hear_out_torch()

    def run(self, plan: Plan, state: State, method: Stack) -> LocalRound:
        """Takes every client's local steps of a round, phase by phase.

        Raises:
            TrainingError: A loss, gradient or adapter is not finite; names the client and the round.
        """
        clients, device = self._bank.clients, self._bank.P.device
        losses = torch.zeros(clients, dtype=torch.float64, device=device)
        samples, done = np.zeros(clients, dtype=np.int64), np.zeros(clients, dtype=np.int64)
        checks = _Checks(self._advice, self._first)
        rate = float(self._optimizer.rates(self._numbers(plan, done)).max())
        with self._passes.training():
            for number, (phase, active) in enumerate(_steps_of(plan)):
                numbers = self._numbers(plan, done)
                batches = take(self._orders, numbers, active)
                rates = np.where(active, self._optimizer.rates(numbers), 0.0)
                step = Step(plan, phase, number, self._bank.G, to_device(rates.astype(np.float32), device))
                compute = partial(self.gradients.compute, step, done, batches, method.per_example)
                step_losses = method.gradient(compute, state, step)
                norms = self._optimizer.gradient_norms()
                checks.add("loss", step_losses, step)
                checks.add("gradient", norms, step)
                self._optimizer.step(norms, active, rates, phase.trained)
                method.after_step(state, step)
                checks.add("adapter", self._bank.P.sum(dim=1), step)
                losses += step_losses.double()
                samples += [self._tokens.samples(batch) for batch in batches]
                done += active
        checks.read()
        return LocalRound(losses.cpu().numpy() / np.maximum(done, 1), samples, rate)

    def _numbers(self, plan: Plan, done: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the number over the whole run of the step after the `done` ones of a round, of each client."""
        return plan.event * self._steps + done

    def _advice(self) -> str:
        """Returns what to do about numbers that are not finite: it is the base's fault where its weights are not."""
        broken = [
            name.replace(".base.", ".")  # where a batched layer keeps what it adapts
            for name, weight in self._model.named_parameters()
            if weight.is_floating_point() and not torch.isfinite(weight).all()
        ]
        if not broken and self._bank.loss_scale is not None:
            return "Numbers of float16 end at 65,504: use dtype='bfloat16' or 'float32', or lower learning_rate."
        if not broken:
            return "Lower learning_rate, or check its data."
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        return f"The base model itself has weights that are not finite, in {broken[0]}{more}. Load a sound copy of it."


class _Checks:
    """Numbers of a round that must be finite. They are read once, at its end: a GPU would wait for every look."""

    def __init__(self, advice: Callable[[], str], first: int) -> None:
        self._advice, self._first = advice, first
        self._said: list[tuple[str, Step]] = []
        self._values: list[torch.Tensor] = []

    def add(self, what: str, values: torch.Tensor, step: Step) -> None:
        """Notes `values [clients]` of a step."""
        self._said.append((what, step))
        self._values.append(values.detach().float())

    def read(self) -> None:
        """Raises TrainingError where one is not finite: for the first such, it names client, round and step."""
        if not self._values:
            return
        values = torch.stack(self._values)
        finite = torch.isfinite(values).cpu().numpy()
        for (what, step), row, holds in zip(self._said, values, finite, strict=True):
            if bad := np.flatnonzero(~holds).tolist():
                raise TrainingError(
                    f"{what} of client {self._first + bad[0]} is {float(row[bad[0]])} in round {step.plan.event + 1} "
                    f"(local step {step.number + 1}; {len(bad)} of {len(holds)} clients). {self._advice()}"
                )


def _steps_of(plan: Plan) -> Iterator[tuple[Phase, NDArray[np.bool_]]]:
    """Yields for each step of a round its phase, and who takes it, bool `[clients]`."""
    for phase in plan.phases:
        for step in range(int(phase.steps.max(initial=0))):
            yield phase, phase.steps > step


@functools.cache
def _hear_out_torch() -> None:
    """Lets torch say, where nobody listens, what it says once in a process: that gradients are views, as ours of G."""
    with process.alone(), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        leaf, gradient = torch.zeros(2, 2)[:, :1].requires_grad_(), torch.zeros(2, 2)[:, :1]
        leaf.grad = gradient
        leaf.sum().backward()
