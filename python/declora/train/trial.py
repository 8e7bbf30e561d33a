"""A trial of a model before a run begins: passes over a few short texts of three clients."""

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora.methods import build_method
from declora.model.bank import AdapterBank
from declora.model.batched import PerClient
from declora.model.compilation import Compilation
from declora.model.recompute import Recomputation
from declora.model.row_axes import per_client
from declora.model.unpad import Unpadding
from declora.plan import Plan
from declora.state import State
from declora.train.local_steps import LocalTrainer
from declora.train.loss import forward
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder
from declora.train.scored import ScoredHead
from declora.train.tokens import Tokens

__all__ = ["Trial", "one_step"]

# Five texts in all, and no row of five tokens: sizes tell which axis of a layer's input counts the sequences. The
# client whose texts are changed is between the others, and has the longest.
_SHARDS = (np.arange(0, 2), np.arange(2, 3), np.arange(3, 5))
_LENGTHS = np.array([5, 6, 8, 7, 4])
_CHANGED = 1


class Trial:
    """Three clients with adapters of their own, and texts made of those that a run trains on.

    Args:
        model: With batched layers in place.
        bank: Of the run, whose first adapter counts; its layers are left bound to those of the trial.
        tokens: What the run trains on.
        special: Token ids that stay where they are, since a model may look for them.

    Attributes:
        tokens: The texts.
        changed: Likewise, but with other ordinary tokens in those of the client `others` are not.
        continued: Likewise, but with another last token in each.
        others: Clients whose texts are the same in `tokens` and `changed`.
        reached: Names of the per-client layers that a gradient has come back to so far.
    """

    def __init__(self, model: PreTrainedModel, bank: AdapterBank, tokens: Tokens, special: Sequence[int]) -> None:
        self._model = model
        self._bank = copy.copy(bank)
        self._bank.fill(bank.P[0], len(_SHARDS), bank.P.device)
        noise = torch.randn(self._bank.P.shape, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
        self._bank.P += 0.02 * noise.to(bank.P.device)
        self.tokens = _short_texts(tokens)
        self.changed = _with_others(self.tokens, np.arange(*self.tokens.starts[2:4]), special)
        self.continued = _with_others(self.tokens, self.tokens.starts[1:] - 1, ())
        self.others = [client for client in range(len(_SHARDS)) if client != _CHANGED]
        self.reached: set[str] = set()

    def logits(self, tokens: Tokens) -> torch.Tensor:
        """Returns what the model makes of all `tokens` in one pass with the first client's adapter, float32."""
        self._bank.bind(self._bank.P[:1])
        batch = tokens.batch(np.arange(len(tokens)), self._bank.P.device)
        # Not in inference mode: a 4-bit layer casts its bias in its first pass, for good.
        with torch.no_grad(), self._bank.owners.computing(len(tokens)):
            return forward(self._model, batch).float()

    def gradients(self, tokens: Tokens, *, watched: bool = True, **options: Any) -> list[torch.Tensor]:
        """Returns each client's gradient on its own `tokens`, in one pass of all of them or in a pass for each.

        Args:
            tokens: Some of this trial.
            watched: Whether `reached` is told, by hooks in the layers.
            **options: Those of `one_step`.

        Returns:
            Of each block of the layout, float32 `[3, ...]`.

        Raises:
            TrainingError: A loss or gradient is not finite.
        """
        with ExitStack() as hooks:
            for layer in per_client(self._model) if watched else ():
                hooks.callback(layer.register_forward_hook(self._watch).remove)
            one_step(self._model, self._bank, tokens, _SHARDS, **options)
        bank = self._bank
        return [bank.layout.view(bank.G, block.name) for block in bank.layout]

    def _watch(self, layer: PerClient, args: object, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: self.reached.add(layer.name))

    def head(self) -> ScoredHead | None:
        """Returns what scores targets alone, None where the model has no such head."""
        self._bank.bind(self._bank.P[:1])
        batch = self.tokens.batch(np.arange(len(self.tokens)), self._bank.P.device)
        with self._bank.owners.computing(len(self.tokens)):
            return ScoredHead.of(self._model, batch)

    def unpadding(self) -> Unpadding | None:
        """Returns what leaves out the padding of the model, None where that does not work."""
        self._bank.bind(self._bank.P[:1])
        return Unpadding.of(self._model, self._bank.owners)


def one_step(
    model: PreTrainedModel,
    bank: AdapterBank,
    tokens: Tokens,
    shards: Sequence[NDArray[np.int64]],
    *,
    together: bool,
    unpadding: Unpadding | None = None,
    head: ScoredHead | None = None,
    recomputation: Recomputation | None = None,
    compilation: Compilation | None = None,
    base_dropout: bool = False,
) -> None:
    """Computes the gradients of a local step, after which they are in G; nobody moves.

    Args:
        model: With batched layers in place.
        bank: With a row for each client.
        tokens: Texts.
        shards: Which of them are each client's: all are a batch.
        together: Whether all clients are computed in one pass, or each in one of its own.
        unpadding: Of the model.
        head: Of the model.
        recomputation: Of the model.
        compilation: Of the model.
        base_dropout: Whether the base's own dropout is on.

    Raises:
        TrainingError: A loss or gradient is not finite.
    """
    clients = len(shards)
    steps = np.ones(clients, dtype=np.int64)
    bank.G = torch.zeros_like(bank.P)
    # At a rate of 0, so that no client moves.
    optimizer = ClientOptimizer(
        bank.P, bank.G, name="sgd", learning_rate=0.0, weight_decay=np.zeros(bank.P.shape[1]), momentum=0.0,
        schedule="constant", warmup=0.0, steps=steps, clip_norm=None,
    )  # fmt: skip
    trainer = LocalTrainer(
        model,
        bank,
        optimizer,
        tokens,
        [ClientOrder(shard, batch_size=len(shard), seed=0, client=i) for i, shard in enumerate(shards)],
        steps=steps,
        group_size=clients if together else 1,
        base_dropout=base_dropout,
        unpadding=unpadding,
        head=head,
        recomputation=recomputation,
        compilation=compilation,
    )
    plan = Plan.of_clients(bank.layout.columns, steps)
    trainer.run(plan, State(bank.P), build_method("local"))


def _short_texts(tokens: Tokens) -> Tokens:
    """Returns the longest texts shortened to `_LENGTHS`: their beginnings and ends, where special tokens are."""
    texts = np.resize(np.argsort(-tokens.lengths, kind="stable")[: len(_LENGTHS)], len(_LENGTHS))
    lengths = np.minimum(_LENGTHS, tokens.lengths[texts])
    if lengths.max() == len(lengths):
        lengths = np.minimum(lengths, len(lengths) - 1)
    places = [
        np.concatenate([np.arange(start, start + length - length // 2), np.arange(stop - length // 2, stop)])
        for start, stop, length in zip(tokens.starts[texts], tokens.starts[texts + 1], lengths, strict=True)
    ]
    place = np.concatenate(places)
    given = {field.name: getattr(tokens, field.name) for field in fields(tokens)}
    arrays = {name: values for name, values in given.items() if isinstance(values, np.ndarray)}
    taken = {name: values[place if len(values) == len(tokens.ids) else texts] for name, values in arrays.items()}
    return replace(tokens, **taken | {"starts": np.concatenate([[0], np.cumsum(lengths)])})


def _with_others(tokens: Tokens, places: NDArray[np.int64], special: Sequence[int]) -> Tokens:
    """Returns `tokens` with other ids of theirs at `places`, but for `special` ones."""
    known = np.setdiff1d(tokens.ids, special)
    ordinary = places[np.isin(tokens.ids[places], known)]
    ids = tokens.ids.copy()
    ids[ordinary] = known[(np.searchsorted(known, ids[ordinary]) + 1) % max(len(known), 1)]
    return replace(tokens, ids=ids)
