"""Whether clients may share the passes of a model: tried on it before a run begins.

That clients are computed together must not show: a client's gradient is that of its own texts and adapter, as if it
were alone. Architectures differ in what they make of a batch (tokens first, positions that all sequences share, experts
that take tokens of all), so this is not looked up but tried, by the very path that the run takes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from declora.errors import ModelError, TrainingError
from declora.model.bank import AdapterBank
from declora.model.row_axes import learning_row_axes, per_client
from declora.model.unpad import Unpadding
from declora.train.local_steps import LocalTrainer
from declora.train.loss import forward
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder
from declora.train.tokens import Side, Tokens

__all__ = ["Sharing", "find_sharing"]

# Three clients of five short texts in all. The one whose texts are changed is between the others and has the longest.
_SHARDS = (np.arange(0, 2), np.arange(2, 3), np.arange(3, 5))
_LENGTHS = np.array([5, 6, 8, 7, 4])
_CHANGED = 1


@dataclass(frozen=True)
class Sharing:
    """How sequences share the passes of a model."""

    together: bool
    """Whether those of several clients, or a part of one client's batch, may be computed in any company."""
    unpadding: Unpadding | None
    """What leaves out the padding; None where it is kept."""
    padding_side: Side = "right"
    """Where it is: where the tokenizer has it, if that matters to the model (XLNet reads the end of a row)."""
    reason: str = ""
    """Why not together."""


def find_sharing(
    model: PreTrainedModel,
    bank: AdapterBank,
    tokens: Tokens,
    tokenizer: PreTrainedTokenizerBase,
    *,
    unpad: bool,
    base_dropout: bool,
) -> Sharing:
    """Returns how sequences can share the passes of `model`: without padding, with it, or one client's batch alone.

    Args:
        model: With batched layers in place; what they learn of their inputs stays with them.
        bank: Of the run; its layers are left bound to a client of the trial.
        tokens: What the run trains on, of which the texts of the trial are made.
        tokenizer: That of the model.
        unpad: Whether padding is to be left out, where the model allows it.
        base_dropout: Whether the base's own dropout is on in training.

    Raises:
        ModelError: The model does not train even with one client alone, not twice alike, or is to continue text and
            sees what follows.
    """
    trial = _Trial(model, bank, tokens, tokenizer.all_special_ids, base_dropout)
    trial.learn_row_axes()
    side: Side = "right"
    if tokens.task == "causal-lm":
        trial.check_causal()
    elif tokenizer.padding_side == "left":
        side = "left"
    padded = Sharing(True, None)
    unpadded = Sharing(True, trial.unpadding()) if unpad else padded
    reason = ""
    try:
        for way in dict.fromkeys([unpadded, padded, replace(padded, padding_side=side)]):
            if not (reason := trial.entangled(way)):
                return way
        trial.check_repeats()
    except TrainingError:
        return unpadded  # not finite before anything is learned: the first step says whose, and where
    return Sharing(False, None, side, reason)


class _Trial:
    """A few short texts of three clients, who have adapters of their own."""

    def __init__(
        self, model: PreTrainedModel, bank: AdapterBank, tokens: Tokens, special: Sequence[int], base_dropout: bool
    ) -> None:
        self._model = model
        self._bank = copy.copy(bank)
        self._bank.fill(bank.P[0], len(_SHARDS), bank.P.device)
        noise = torch.randn(self._bank.P.shape, generator=torch.Generator().manual_seed(0))
        self._start = self._bank.P + 0.02 * noise.to(bank.P.device)
        self._base_dropout = base_dropout
        self._tokens = _short_texts(tokens)
        self._changed = _with_others(self._tokens, np.arange(*self._tokens.starts[2:4]), special)
        self._last = _with_others(self._tokens, self._tokens.starts[1:] - 1, ())

    def learn_row_axes(self) -> None:
        """Lets the batched layers learn which axis of their input counts the sequences."""
        with learning_row_axes(self._model, len(self._tokens)):
            self._logits(self._tokens)

    def check_causal(self) -> None:
        """Raises ModelError where the logits of a token change with what follows it."""
        found, changed = self._logits(self._tokens), self._logits(self._last)
        before = torch.from_numpy(np.arange(found.shape[1]) < self._tokens.lengths[:, None] - 1).to(found.device)
        if not self._close(found[before], changed[before]):
            raise ModelError(
                f"model={type(self._model).__name__} sees the tokens that it would have to predict, so it cannot learn "
                "to continue text. Use a decoder (GPT-2, Llama), or data with labels."
            )

    def unpadding(self) -> Unpadding | None:
        """Returns what leaves out the padding of the model, None where that does not work."""
        self._bank.bind(self._start[:1])
        return Unpadding.of(self._model, self._bank.rows)

    def entangled(self, way: Sharing) -> str:
        """Returns why clients cannot share passes, nothing where they can.

        The others' gradients must be the same bits whatever the texts of one client are: on a CPU, where sums have an
        order. And all must be those of passes of their own, in which padding is another, too, but for rounding: without
        the base's own dropout, whose masks are drawn for a pass.
        """
        if unclear := [layer.name for layer in per_client(self._model) if layer.row_axis is None]:
            return f"what goes into its layer {unclear[0]!r} belongs to no sequence alone"
        try:
            together, changed = (
                self._gradients(tokens, way, base_dropout=self._base_dropout)
                for tokens in (self._tokens, self._changed)
            )
        except (ModelError, RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            return _first_line(error)
        others = [client for client in range(len(_SHARDS)) if client != _CHANGED]
        same = torch.equal if together.device.type == "cpu" else self._close
        if not same(together[others], changed[others]):
            return "what it computes for one text changes with the texts beside it"
        if self._base_dropout:
            together = self._gradients(self._tokens, way)
        if not self._close(together, self._gradients(self._tokens, replace(way, together=False, unpadding=None))):
            return "what it computes for one text changes with the padding beside it"
        return ""

    def check_repeats(self) -> None:
        """Raises ModelError where a client alone does not train, or not twice alike."""
        try:
            first, second = (self._gradients(self._tokens, Sharing(False, None)) for _ in range(2))
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ModelError(
                f"model={type(self._model).__name__} cannot be trained on text with these adapters: "
                f"{_first_line(error)} Choose other lora.target_modules or another model."
            ) from error
        if not self._close(first, second):
            raise ModelError(
                f"model={type(self._model).__name__} computes something else each time, from torch's global random "
                "generator, so no seed gives its results again. Use a model that is the same each time."
            )

    def _gradients(self, tokens: Tokens, way: Sharing, *, base_dropout: bool = False) -> torch.Tensor:
        """Returns the gradients `[3, D]` of the clients on `tokens`, in one pass, or in a pass for each of them."""
        bank = self._bank
        bank.P, bank.G = self._start, torch.zeros_like(self._start)
        nobody = np.empty(0, dtype=np.int64)
        optimizer = ClientOptimizer(
            bank.P, bank.G, name="sgd", learning_rate=0.0, weight_decay=0.0, momentum=0.0, schedule="constant",
            warmup=0.0, steps=nobody, clip_norm=None,
        )  # fmt: skip
        orders = [
            ClientOrder(shard, batch_size=len(shard), seed=0, client=client, whole_epochs=True)
            for client, shard in enumerate(_SHARDS)
        ]
        LocalTrainer(
            self._model,
            bank,
            optimizer,
            replace(tokens, padding_side=way.padding_side),
            orders,
            steps=np.ones(len(_SHARDS), dtype=np.int64),
            group_size=len(_SHARDS) if way.together else 1,
            base_dropout=base_dropout,
            unpadding=way.unpadding,
        ).run(round_index=0)
        return bank.G

    def _logits(self, tokens: Tokens) -> torch.Tensor:
        batch = tokens.batch(np.arange(len(tokens)), self._bank.P.device)
        self._bank.bind(self._start[:1])
        self._bank.rows.owner, self._bank.rows.count = None, len(tokens)
        # Not in inference mode: a 4-bit layer casts its bias in its first pass, for good.
        with torch.no_grad():
            return forward(self._model, batch).float()

    def _close(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Whether two results differ by rounding alone."""
        # As in `packing.check_packing`: what is not the same is off by thousandths of the scale and more.
        close = 1e-4 if self._model.dtype == torch.float32 else 5e-2
        return bool((one - other).abs().max() <= close * one.abs().max())


def _short_texts(tokens: Tokens) -> Tokens:
    """Returns the longest texts shortened to `_LENGTHS`: their beginnings and ends, where special tokens are."""
    texts = np.resize(np.argsort(-tokens.lengths, kind="stable")[: len(_LENGTHS)], len(_LENGTHS))
    lengths = np.minimum(_LENGTHS, tokens.lengths[texts])
    if lengths.max() == len(lengths):  # as many tokens as sequences: which axis counts which could not be told
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
    ids = tokens.ids.copy()
    ordinary = places[np.isin(ids[places], known)]
    ids[ordinary] = known[(np.searchsorted(known, ids[ordinary]) + 1) % len(known)] if len(known) else ids[ordinary]
    return replace(tokens, ids=ids)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
