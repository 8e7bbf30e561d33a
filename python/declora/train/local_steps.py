"""Local steps: K optimizer steps of every client, group by group over one frozen base."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import process, seeds
from declora.errors import TrainingError
from declora.model.bank import AdapterBank
from declora.model.unpad import Unpadding
from declora.train.loss import forward, row_losses
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder, length_slices
from declora.train.packing import packed_batch
from declora.train.tokens import Tokens

__all__ = ["LocalRound", "LocalTrainer"]


@dataclass(frozen=True)
class LocalRound:
    """What one round of local steps was."""

    losses: NDArray[np.float64]
    """`[clients]`: each client's training loss, the mean over its steps."""
    samples: NDArray[np.int64]
    """int64 `[clients]`: samples seen; of packed rows, those that begin in them."""


class LocalTrainer:
    """Trains all clients of this process.

    A round lasts as long as the longest client's local steps. A client with fewer takes its own from the beginning of
    the round on and then waits: its row, its moments and its schedule stand still, and its group's step is computed
    without it.

    A *group* is a fixed run of clients whose step is computed together: their tokens are packed, or where the model
    needs its padding, their sequences are sorted by length across clients and computed in a few slices, each with its
    own client's adapter. Packing, padding, sorting and masks depend on the group alone, so the same config gives the
    same adapters however groups are spread over processes.
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
        seed: int = 0,
    ) -> None:
        """Takes each client's local `steps` of a round, int64 `[clients]`, beside model, bank, optimizer and data.

        With `unpadding` (of that model), sequences are packed and `sort_by_length` has no effect.
        """
        self._model = model
        self._bank = bank
        self._optimizer = optimizer
        self._tokens = tokens
        self._orders = orders
        self._steps = steps
        self._groups = [(i, min(i + group_size, bank.clients)) for i in range(0, bank.clients, group_size)]
        self._sort = sort_by_length
        self._base_dropout = base_dropout
        self._unpadding = unpadding
        self._seed = seed
        self._round = 0
        _hear_out_torch()

    def run(self, *, round_index: int) -> LocalRound:
        """Takes every client's local steps of the next round (`round_index` is for error messages).

        Raises:
            TrainingError: A loss, gradient or adapter is not finite; names the client and the round.
        """
        losses = torch.zeros(self._bank.clients, dtype=torch.float64)
        samples = np.zeros(self._bank.clients, dtype=np.int64)
        with self._training():
            for step in range(int(self._steps.max())):
                active = self._steps > step
                batches = [
                    order.batch(self._round * int(own) + step) if step < own else _NOTHING
                    for order, own in zip(self._orders, self._steps, strict=True)
                ]
                self._optimizer.zero_grad()
                step_losses = torch.cat([self._group_step(group, step, batches) for group in self._groups])
                norms = self._optimizer.gradient_norms()
                self._check("loss", step_losses, round_index, step)
                self._check("gradient", norms, round_index, step)
                self._optimizer.step(norms, active)
                self._check("adapter", self._bank.P.sum(dim=1), round_index, step)
                losses += step_losses.double()
                samples += [self._tokens.samples(batch) for batch in batches]
        self._round += 1
        return LocalRound(losses.numpy() / self._steps, samples)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Switches LoRA dropout on, and the base's own where it is asked for."""
        self._model.train(self._base_dropout)
        self._bank.rows.training = True
        try:
            with nullcontext() if self._unpadding is None else self._unpadding.installed():
                yield
        finally:
            self._model.eval()
            self._bank.rows.training = False

    def _group_step(self, group: tuple[int, int], step: int, batches: Sequence[NDArray[np.int64]]) -> torch.Tensor:
        """Accumulates the gradients of the clients `start:stop` of `group` into G.

        Returns:
            Their losses, float32 `[stop - start]` on the CPU; 0 for those that wait.
        """
        (start, stop), device = group, self._bank.P.device
        own = batches[start:stop]
        texts = np.concatenate(own)
        if not len(texts):
            return torch.zeros(stop - start, dtype=torch.float32)
        counts = np.array([len(batch) for batch in own])
        owner = np.repeat(np.arange(stop - start), counts)
        place = np.concatenate([step * self._orders[start].batch_size + np.arange(count) for count in counts])
        weights = self._weights(texts, owner, stop - start)
        lengths = self._tokens.lengths[texts]
        slices = length_slices(lengths) if self._sort and self._unpadding is None else [np.arange(len(texts))]
        losses = torch.zeros(stop - start, dtype=torch.float32, device=device)
        with self._bank.group(start, stop):
            for part, rows in enumerate(slices):
                batch = self._tokens.batch(texts[rows], device)
                self._set_rows(owner[rows], place[rows], start, stop - start)
                if self._unpadding is not None:
                    self._bank.rows.packed = packed_batch(lengths, counts, device)
                with self._dropout_stream(step, start, part):
                    weighted = row_losses(forward(self._model, batch), batch.labels) * weights[rows].to(device)
                    weighted.sum().backward()
                losses.index_add_(0, torch.from_numpy(owner[rows]).to(device), weighted.detach())
        return losses.cpu()

    def _weights(self, texts: NDArray[np.int64], owner: NDArray[np.int64], clients: int) -> torch.Tensor:
        """Returns what each row's summed loss counts, so that a client's rows add up to its batch's mean loss.

        The mean is over targets (texts; tokens of a causal LM), not over rows: a long answer counts more than a short
        one, as in the model's own loss of that batch.
        """
        targets = np.bincount(owner, weights=self._tokens.targets(texts), minlength=clients)
        return torch.from_numpy((1.0 / np.maximum(targets, 1.0))[owner]).float()

    @contextmanager
    def _dropout_stream(self, step: int, start: int, part: int) -> Iterator[None]:
        """Seeds the base's own dropout, where it is on, by (round, step, group, slice).

        The way back draws, too, where activations are computed anew for it.
        """
        if not self._base_dropout:
            yield
            return
        seed = seeds.derive(self._seed, "base-dropout", self._round, step, start, part)
        with process.seeded(seed, self._bank.P.device):
            yield

    def _check(self, what: str, values: torch.Tensor, round_index: int, step: int) -> None:
        bad = torch.nonzero(~torch.isfinite(values)).flatten().tolist()
        if bad:
            raise TrainingError(
                f"{what} of client {bad[0]} is {float(values[bad[0]])} in round {round_index} (local step {step + 1}; "
                f"{len(bad)} of {len(values)} clients). {self._advice()}"
            )

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

    def _set_rows(self, owner: NDArray[np.int64], place: NDArray[np.int64], start: int, clients: int) -> None:
        rows = self._bank.rows
        rows.count = len(owner)
        rows.owner = None if clients == 1 else torch.from_numpy(owner).to(self._bank.P.device)
        rows.clients = (owner + start).astype(np.uint32)
        rows.samples = place.astype(np.uint32)
        rows.round = self._round


_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@functools.cache
def _hear_out_torch() -> None:
    """Lets torch say, where nobody listens, what it says once in a process: that gradients are views, as ours of G."""
    with process.alone(), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        leaf, gradient = torch.zeros(2, 2)[:, :1].requires_grad_(), torch.zeros(2, 2)[:, :1]
        leaf.grad = gradient
        leaf.sum().backward()
