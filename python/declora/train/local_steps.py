"""Local steps: K optimizer steps of every client, group by group over one frozen base."""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import process, seeds
from declora.cuda import to_device
from declora.errors import TrainingError, out_of_memory
from declora.methods import Stack, Step
from declora.model.bank import AdapterBank
from declora.model.recompute import Recomputation
from declora.model.unpad import Unpadding
from declora.model.unpadded import ByClient
from declora.plan import Phase, Plan
from declora.state import State
from declora.train.loss import batch_losses
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder, length_slices
from declora.train.packing import unpadded_batch
from declora.train.scored import ScoredHead
from declora.train.tokens import Tokens

__all__ = ["LocalRound", "LocalTrainer"]

_HALVING = {"cuda"}
"""Kinds of devices on which fewer clients are computed together where memory runs out."""


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

    A *group* is a fixed run of clients whose step is computed together: their tokens follow each other, or where the
    model needs its padding, their sequences are sorted by length across clients and computed in a few slices, each with
    its own client's adapter. Padding, sorting and masks depend on the group alone, so the same config gives the same
    adapters however groups are spread over processes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        bank: AdapterBank,
        optimizer: ClientOptimizer,
        tokens: Tokens,
        orders: Sequence[ClientOrder],
        *,
        steps: NDArray[np.int64],
        group_size: int,
        sort_by_length: bool = True,
        base_dropout: bool = False,
        unpadding: Unpadding | None = None,
        head: ScoredHead | None = None,
        recomputation: Recomputation | None = None,
        seed: int = 0,
    ) -> None:
        """Takes each client's local `steps` of a round, int64 `[clients]`, beside model, bank, optimizer and data.

        With `unpadding` (of that model), sequences follow each other and `sort_by_length` has no effect; with `head`, a
        causal LM scores targets alone; with `recomputation`, blocks keep nothing of a step but what goes into them.
        """
        self._model = model
        self._bank = bank
        self._optimizer = optimizer
        self._tokens = tokens
        self._orders = orders
        self._steps = steps
        self.group_size = group_size
        self._halved = False
        self._sort = sort_by_length
        self._base_dropout = base_dropout
        self._unpadding = unpadding
        self._head = head
        self._recomputation = recomputation
        self._seed = seed
        _hear_out_torch()

    def run(self, plan: Plan, state: State, method: Stack) -> LocalRound:
        """Takes every client's local steps of a round, phase by phase.

        Raises:
            TrainingError: A loss, gradient or adapter is not finite; names the client and the round.
        """
        clients, device = self._bank.clients, self._bank.P.device
        losses = torch.zeros(clients, dtype=torch.float64, device=device)
        samples, done = np.zeros(clients, dtype=np.int64), np.zeros(clients, dtype=np.int64)
        checks = _Checks(self._advice)
        rate = float(self._optimizer.rates(self._numbers(plan, done)).max())
        with self._training():
            for number, (phase, active) in enumerate(_steps_of(plan)):
                numbers = self._numbers(plan, done)
                batches = [
                    order.batch(int(own)) if takes else _NOTHING
                    for order, own, takes in zip(self._orders, numbers, active, strict=True)
                ]
                rates = np.where(active, self._optimizer.rates(numbers), 0.0)
                step = Step(plan, phase, number, self._bank.G, to_device(rates.astype(np.float32), device))
                step_losses = method.gradient(partial(self._gradients, step, done, batches), state, step)
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

    def _gradients(self, step: Step, done: NDArray[np.int64], batches: Sequence[NDArray[np.int64]]) -> torch.Tensor:
        """Computes the gradients of a step into G, zero where nothing is trained; returns each client's loss."""
        losses = None
        try:
            losses = self._all_groups(step, done, batches)
        except Exception as error:
            if not self._halve(error):
                raise
        if losses is None:  # here what was computed is no longer held by the error
            if self._bank.P.is_cuda:
                torch.cuda.empty_cache()
            losses = self._all_groups(step, done, batches)
        for start, stop in step.phase.trained.rest.spans:
            self._bank.G[:, start:stop] = 0.0
        return losses

    def _all_groups(self, step: Step, done: NDArray[np.int64], batches: Sequence[NDArray[np.int64]]) -> torch.Tensor:
        self._optimizer.zero_grad()
        return torch.cat([self._group_step(group, step, done, batches) for group in self._groups])

    def _halve(self, error: Exception) -> bool:
        """Halves the groups, once in a run, where a GPU's memory ran out of a step; returns whether it did.

        Results change by rounding alone there. On a CPU they may not change with the memory that happens to be free.
        """
        if self._halved or self.group_size < 2 or self._bank.P.device.type not in _HALVING or not out_of_memory(error):
            return False
        self._halved = True
        before, self.group_size = self.group_size, self.group_size // 2
        warnings.warn(
            f"The memory of {self._bank.P.device} ran out, so clients are computed in groups of {self.group_size} from "
            f"now on, in place of {before}. Set group_size={self.group_size} to begin with these.",
            stacklevel=2,
        )
        return True

    @property
    def _groups(self) -> list[tuple[int, int]]:
        clients, size = self._bank.clients, self.group_size
        return [(i, min(i + size, clients)) for i in range(0, clients, size)]

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Has the base's own dropout on where it is asked for."""
        self._model.train(self._base_dropout)
        try:
            with ExitStack() as installed:
                for way in (self._unpadding, self._recomputation):
                    if way is not None:
                        installed.enter_context(way.installed())
                yield
        finally:
            self._model.eval()

    def _group_step(
        self, group: tuple[int, int], step: Step, done: NDArray[np.int64], batches: Sequence[NDArray[np.int64]]
    ) -> torch.Tensor:
        """Accumulates the gradients of the clients `start:stop` of `group` into G.

        Returns:
            Their losses, float32 `[stop - start]` where P is; 0 for those that wait.
        """
        (start, stop), device = group, self._bank.P.device
        own = batches[start:stop]
        texts = np.concatenate(own)
        if not len(texts):
            return torch.zeros(stop - start, dtype=torch.float32, device=device)
        counts = np.array([len(batch) for batch in own])
        owner = np.repeat(np.arange(stop - start), counts)
        before = done[start:stop] * self._orders[start].batch_size
        place = np.concatenate([first + np.arange(count) for first, count in zip(before, counts, strict=True)])
        weights = self._weights(texts, owner, stop - start)
        lengths = self._tokens.lengths[texts]
        slices = length_slices(lengths) if self._sort and self._unpadding is None else [np.arange(len(texts))]
        losses = torch.zeros(len(texts), dtype=torch.float32, device=device)
        with self._bank.group(start, stop):
            for part, rows in enumerate(slices):
                batch = self._tokens.batch(texts[rows], device)
                computing = self._bank.owners.computing(
                    len(rows),
                    owner=None if stop - start == 1 else to_device(owner[rows], device),
                    unpadded=None if self._unpadding is None else unpadded_batch(lengths, counts, device),
                    clients=(owner[rows] + start).astype(np.uint32),
                    samples=place[rows].astype(np.uint32),
                    round=step.plan.event,
                    training=True,
                )
                with computing, self._dropout_stream(step, start, part):
                    weighted = batch_losses(self._model, batch, self._head) * to_device(weights[rows], device)
                    weighted.sum().backward()
                losses.index_copy_(0, to_device(rows, device), weighted.detach())
        return self._by_client(losses, counts)

    def _by_client(self, losses: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Returns the sums of what follows each other client by client, in one order on every device."""
        rows = ByClient(counts, losses.device)
        places = losses.new_zeros(len(counts) * rows.most).index_copy(0, rows.place, losses)
        return places.view(len(counts), -1).sum(dim=1)

    def _weights(self, texts: NDArray[np.int64], owner: NDArray[np.int64], clients: int) -> NDArray[np.float32]:
        """Returns what each row's summed loss counts, float32 `[rows]`: a client's add up to its batch's mean loss.

        The mean is over targets (texts; tokens of a causal LM), not over rows: a long answer counts more than a short
        one, as in the model's own loss of that batch.
        """
        targets = np.bincount(owner, weights=self._tokens.targets(texts), minlength=clients)
        return (1.0 / np.maximum(targets, 1.0))[owner].astype(np.float32)

    @contextmanager
    def _dropout_stream(self, step: Step, start: int, part: int) -> Iterator[None]:
        """Seeds the base's own dropout, where it is on, by (round, step, group, slice).

        The way back draws, too, where activations are computed anew for it.
        """
        if not self._base_dropout:
            yield
            return
        seed = seeds.derive(self._seed, "base-dropout", step.plan.event, step.number, start, part)
        with process.seeded(seed, self._bank.P.device):
            yield

    def _advice(self) -> str:
        """Returns what to do about numbers that are not finite: it is the base's fault where its weights are not."""
        broken = [
            name.replace(".base.", ".")  # where a batched layer keeps what it adapts
            for name, weight in self._model.named_parameters()
            if weight.is_floating_point() and not torch.isfinite(weight).all()
        ]
        if not broken:
            return "Lower learning_rate, or check its data."
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        return f"The base model itself has weights that are not finite, in {broken[0]}{more}. Load a sound copy of it."


class _Checks:
    """Numbers of a round that must be finite. They are read once, at its end: a GPU would wait for every look."""

    def __init__(self, advice: Callable[[], str]) -> None:
        self._advice = advice
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
                    f"{what} of client {bad[0]} is {float(row[bad[0]])} in round {step.plan.event + 1} (local step "
                    f"{step.number + 1}; {len(bad)} of {len(holds)} clients). {self._advice()}"
                )


def _steps_of(plan: Plan) -> Iterator[tuple[Phase, NDArray[np.bool_]]]:
    """Yields for each step of a round its phase, and who takes it, bool `[clients]`."""
    for phase in plan.phases:
        for step in range(int(phase.steps.max(initial=0))):
            yield phase, phase.steps > step


_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@functools.cache
def _hear_out_torch() -> None:
    """Lets torch say, where nobody listens, what it says once in a process: that gradients are views, as ours of G."""
    with process.alone(), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        leaf, gradient = torch.zeros(2, 2)[:, :1].requires_grad_(), torch.zeros(2, 2)[:, :1]
        leaf.grad = gradient
        leaf.sum().backward()
