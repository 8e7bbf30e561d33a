"""Local steps: K optimizer steps of every client, group by group over one frozen base."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import seeds
from declora.errors import TrainingError
from declora.model.bank import AdapterBank
from declora.train.loss import forward, row_losses
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder, length_slices
from declora.train.tokens import Tokens

__all__ = ["LocalTrainer"]


class LocalTrainer:
    """Trains all clients of this process.

    A *group* is a fixed run of clients whose step is computed together: their sequences are sorted by length across
    clients and computed in a few slices, each row with its own client's adapter. Padding, sorting and masks depend on
    the group alone, so the same config gives the same adapters however groups are spread over processes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        bank: AdapterBank,
        optimizer: ClientOptimizer,
        tokens: Tokens,
        orders: Sequence[ClientOrder],
        *,
        group_size: int,
        sort_by_length: bool = True,
        base_dropout: bool = False,
        seed: int = 0,
    ) -> None:
        self._model = model
        self._bank = bank
        self._optimizer = optimizer
        self._tokens = tokens
        self._orders = orders
        self._groups = [(i, min(i + group_size, bank.clients)) for i in range(0, bank.clients, group_size)]
        self._sort = sort_by_length
        self._base_dropout = base_dropout
        self._seed = seed
        self._step = 0

    def run(self, steps: int, *, round_index: int) -> NDArray[np.float64]:
        """Takes `steps` local steps; returns each client's mean training loss over them, `[clients]`.

        Raises:
            TrainingError: A loss, gradient or adapter is not finite; names the client and the round.
        """
        losses = torch.zeros(self._bank.clients, dtype=torch.float64)
        with self._training():
            for _ in range(steps):
                self._optimizer.zero_grad()
                step_losses = torch.cat([self._group_step(start, stop) for start, stop in self._groups])
                norms = self._optimizer.gradient_norms()
                self._check("loss", step_losses, round_index)
                self._check("gradient", norms, round_index)
                self._optimizer.step(norms)
                losses += step_losses.double()
                self._step += 1
        self._check("adapter", self._bank.P.sum(dim=1), round_index)
        return (losses / steps).numpy()

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Switches LoRA dropout on, and the base's own where it is asked for."""
        self._model.train(self._base_dropout)
        self._bank.rows.training = True
        try:
            yield
        finally:
            self._model.eval()
            self._bank.rows.training = False

    def _group_step(self, start: int, stop: int) -> torch.Tensor:
        """Accumulates the gradients of clients `start:stop` into G; returns their losses, float32 `[C]` on the CPU."""
        device = self._bank.P.device
        batches = [self._orders[client].batch(self._step) for client in range(start, stop)]
        texts = np.concatenate(batches)
        owner = np.repeat(np.arange(stop - start), [len(batch) for batch in batches])
        sample = np.concatenate([np.arange(len(batch)) for batch in batches])
        weights = self._weights(texts, owner, stop - start)
        lengths = self._tokens.lengths[texts]
        slices = length_slices(lengths) if self._sort else [np.arange(len(texts))]
        losses = torch.zeros(stop - start, device=device)
        with self._bank.group(start, stop), warnings.catch_warnings():
            # The leaves' gradients are views of G on purpose; torch remarks on their strides.
            warnings.filterwarnings("ignore", message="grad and param do not obey")
            for part, rows in enumerate(slices):
                batch = self._tokens.batch(texts[rows], device)
                self._set_rows(owner[rows], sample[rows], start, stop - start)
                with self._dropout_stream(start, part):
                    losses_of_rows = row_losses(forward(self._model, batch), batch.labels)
                weighted = losses_of_rows * weights[rows].to(device)
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
    def _dropout_stream(self, start: int, part: int) -> Iterator[None]:
        """Seeds the base's own dropout, where it is on, by (step, group, slice)."""
        if not self._base_dropout:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(seeds.derive(self._seed, "base-dropout", self._step, start, part))
            yield

    def _check(self, what: str, values: torch.Tensor, round_index: int) -> None:
        bad = torch.nonzero(~torch.isfinite(values)).flatten().tolist()
        if bad:
            raise TrainingError(
                f"{what} of client {bad[0]} is {float(values[bad[0]])} in round {round_index} (local step "
                f"{self._step + 1}; {len(bad)} of {len(values)} clients). Lower learning_rate, or check its data."
            )

    def _set_rows(self, owner: NDArray[np.int64], sample: NDArray[np.int64], start: int, clients: int) -> None:
        rows = self._bank.rows
        rows.count = len(owner)
        rows.owner = None if clients == 1 else torch.from_numpy(owner).to(self._bank.P.device)
        rows.clients = (owner + start).astype(np.uint32)
        rows.samples = sample.astype(np.uint32)
        rows.step = self._step
