"""Whether clients may share the passes of a model: tried on it before a run begins.

That clients are computed together must not show: a client's gradient is that of its own texts and adapter, as if it
were alone. Architectures differ in what they make of a batch (tokens first, positions that all sequences share, experts
that take tokens of all), so this is not looked up but tried, by the very path that the run takes.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from declora import process
from declora.errors import ConfigError, ModelError, TrainingError, out_of_memory, translated
from declora.model.bank import AdapterBank
from declora.model.batched import BatchedLora
from declora.model.checkpoint import reason
from declora.model.compilation import Compilation, check_compiler
from declora.model.recompute import Recomputation
from declora.model.row_axes import learning_row_axes, per_client
from declora.model.unpad import Unpadding
from declora.train.scored import ScoredHead
from declora.train.tokens import Tokens
from declora.train.trial import Trial

__all__ = ["Sharing", "find_sharing"]


@dataclass(frozen=True)
class Sharing:
    """How sequences share the passes of a model."""

    together: bool
    """Whether those of several clients, or a part of one client's batch, may be computed in any company."""
    unpadding: Unpadding | None = None
    """What leaves out the padding; None where it is kept."""
    head: ScoredHead | None = None
    """What scores the targets of a causal LM alone; None where every token is scored."""
    recomputation: Recomputation | None = None
    """What keeps less of a step, and computes it again; None where all is kept."""
    compilation: Compilation | None = None
    """What has torch make programs of the blocks; None where they compute as they are written."""
    notes: tuple[str, ...] = ()
    """What is worth knowing of it, in whole sentences."""

    @property
    def computing(self) -> dict[str, Any]:
        """What a `LocalTrainer` computes steps by."""
        names = ("unpadding", "head", "recomputation", "compilation")
        return {name: getattr(self, name) for name in names}


def find_sharing(
    model: PreTrainedModel,
    bank: AdapterBank,
    tokens: Tokens,
    *,
    clients: int,
    special: Sequence[int],
    unpad: bool,
    base_dropout: bool,
    recompute: bool = False,
    compile: bool = False,
) -> Sharing:
    """Returns how sequences can share the passes of `model`: without padding, with it, or one client's batch alone.

    Args:
        model: With batched layers in place; what they learn of their inputs stays with them.
        bank: Of the run; its layers are left bound to others.
        tokens: What the run trains on.
        clients: How many are to share passes: nothing is said of passes that one alone cannot share.
        special: Token ids that stay where they are, since a model may look for them.
        unpad: Whether padding is to be left out, where the model allows it.
        base_dropout: Whether the base's own dropout is on in training.
        recompute: Whether blocks are to keep nothing of a step but what goes into them.
        compile: Whether torch is to make programs of them.

    Raises:
        ConfigError: Nothing here makes programs, or the base's own dropout would be on in them.
        ModelError: The model does not train even with one client alone, not twice alike, or no adapter of it; or it is
            to continue text and sees what follows.
    """
    if compile and base_dropout:
        raise ConfigError(
            "compile=True and base_dropout=True contradict each other: of one seed, compiled blocks would draw other "
            "masks. Leave one of them out."
        )
    if compile:
        check_compiler(model.device)
    with process.seeded(0, model.device):  # some models draw numbers whenever they compute
        trial = Trial(model, bank, tokens, special)
        _check_computes(model, trial)
        # Unpadding takes a text from where its row begins, and rows of several texts hardly have padding.
        unpadded_rows = unpad and tokens.padding_side == "right" and tokens.positions is None
        head, unpadding = trial.head(), trial.unpadding() if unpadded_rows else None
        ways = [Sharing(True, unpadding, head), Sharing(True, head=head), Sharing(True)]
        if recompute:
            ways = [replace(way, recomputation=_recomputation(model, bank, way, base_dropout)) for way in ways]
        try:
            found = _first_that_holds(model, trial, ways, base_dropout)
        except TrainingError:
            return ways[0]  # not finite before anything is learned: the first step says whose, and where
    if clients == 1:
        found = replace(found, notes=())
    if recompute and found.recomputation is None:
        kept = f"{_kind(model)} has no blocks whose activations could be computed again, or does that by itself."
        found = replace(found, notes=(*found.notes, kept))
    if compile:
        with process.seeded(0, model.device):
            found = _compiled(model, trial, found)
    return replace(found, notes=(*found.notes, *_idle_adapters(model, trial)))


def _recomputation(model: PreTrainedModel, bank: AdapterBank, way: Sharing, base_dropout: bool) -> Recomputation | None:
    return Recomputation.of(model, bank.owners, way.unpadding, random=base_dropout)


def _compiled(model: PreTrainedModel, trial: Trial, way: Sharing) -> Sharing:
    """Returns `way` with programs of the blocks, where these can be made and compute the same; else it says why not."""
    found, options = replace(way, compilation=Compilation.of(model)), {"together": way.together, "watched": False}
    why = "it has no equal blocks without hooks inside"
    if found.compilation is not None:
        try:
            expected, compiled = (trial.gradients(trial.tokens, **options, **w.computing) for w in (way, found))
        except TrainingError:
            return found  # not finite before anything is learned: the first step says whose, and where
        except Exception as error:  # whatever torch makes of code that it was not written for
            if out_of_memory(error):
                raise
            why = f"torch cannot ({reason(error).rstrip('.')})"
        else:
            if _close(expected, compiled, _other_shapes(model)):
                found.compilation.tried = True
                return found
            why = "its gradients would be others"
    return replace(way, notes=(*way.notes, f"The blocks of {_kind(model)} are not compiled: {why}."))


def _check_computes(model: PreTrainedModel, trial: Trial) -> None:
    """Raises ModelError where the model does not compute text, or is to continue it and sees what follows."""
    tokens = trial.tokens
    with _refused(model, "compute text"), learning_row_axes(model, len(tokens)):
        trial.logits(tokens)
    if tokens.task == "causal-lm":
        _check_causal(model, trial)


def _first_that_holds(model: PreTrainedModel, trial: Trial, ways: Sequence[Sharing], base_dropout: bool) -> Sharing:
    """Returns the first of `ways` in which clients can share passes, or where there is none, that they cannot."""
    reason = ""
    for way in dict.fromkeys(ways):
        if not (reason := _entangled(model, trial, way, base_dropout)):
            return way
    _check_alone(model, trial)
    return Sharing(
        False,
        recomputation=ways[-1].recomputation,
        notes=(f"{_kind(model)} is trained one client at a time, which is slower: {reason}.",),
    )


def _idle_adapters(model: PreTrainedModel, trial: Trial) -> list[str]:
    """Returns what is to be said of adapted layers that no gradient came back to.

    Raises:
        ModelError: These are all of them.
    """
    adapted = [layer.name for layer in per_client(model) if isinstance(layer, BatchedLora)]
    idle = [name for name in adapted if name not in trial.reached]
    if idle == adapted:
        raise ModelError(
            f"model={_kind(model)}: no gradient comes back to its adapters, so nothing would train them. "
            "Choose other lora.target_modules, or another model."
        )
    if not idle:
        return []
    named = ", ".join(idle[:3]) + ", ..." * (len(idle) > 3)
    return [
        f"In a trial no gradient came back to {len(idle)} of {len(adapted)} adapted layers of {_kind(model)}: {named}."
    ]


def _check_causal(model: PreTrainedModel, trial: Trial) -> None:
    """Raises ModelError where the logits of a token change with what follows it."""
    found, changed = trial.logits(trial.tokens), trial.logits(trial.continued)
    before = torch.from_numpy(np.arange(found.shape[1]) < trial.tokens.lengths[:, None] - 1).to(found.device)
    counts = before.unsqueeze(2) & found.isfinite() & changed.isfinite()
    if not _close([found[counts]], [changed[counts]], _same_shapes(model)):
        raise ModelError(
            f"model={_kind(model)} sees the tokens that it would have to predict, so it cannot learn to "
            "continue text. Use a decoder (GPT-2, Llama), or data with labels."
        )


def _entangled(model: PreTrainedModel, trial: Trial, way: Sharing, base_dropout: bool) -> str:
    """Returns why clients cannot share passes, nothing where they can.

    The others' gradients must be the same bits whatever the texts of one client are: on a CPU, where sums have an
    order. And all must be those of passes of their own, in which padding is another, too, but for rounding: without the
    base's own dropout, whose masks are drawn for a pass.
    """
    if unclear := [layer.name for layer in per_client(model) if layer.row_axis is None]:
        return f"what goes into its layer {unclear[0]!r} belongs to no sequence alone"
    try:
        one, other = (
            trial.gradients(tokens, together=True, base_dropout=base_dropout, **way.computing)
            for tokens in (trial.tokens, trial.changed)
        )
        together = trial.gradients(trial.tokens, together=True, **way.computing) if base_dropout else one
    except TrainingError:
        raise
    except Exception as error:  # whatever a model's code makes of a batch that it was not written for
        if out_of_memory(error):
            raise
        return f"its pass over several clients fails ({reason(error).rstrip('.')})"
    one, other = ([block[trial.others] for block in blocks] for blocks in (one, other))
    on_cpu = model.device.type == "cpu"
    if not (all(map(torch.equal, one, other)) if on_cpu else _close(one, other, _same_shapes(model))):
        return "what it computes for one text changes with the texts beside it"
    if not _close(trial.gradients(trial.tokens, together=False), together, _other_shapes(model)):
        return "what it computes for one text changes with the padding beside it"
    return ""


def _check_alone(model: PreTrainedModel, trial: Trial) -> None:
    """Raises ModelError where a client alone does not train, or not twice alike."""
    with _refused(model, "train these adapters on text"):
        first, second = (trial.gradients(trial.tokens, together=False) for _ in range(2))
    if not _close(first, second, _same_shapes(model)):
        raise ModelError(
            f"model={_kind(model)} computes something else each time, from torch's global random generator, so "
            "no seed gives its results again. Use a model that is the same each time."
        )


def _refused(model: PreTrainedModel, what: str) -> AbstractContextManager[None]:
    """Makes a ModelError of what the model's own code raises inside."""
    return translated(
        lambda error: ModelError(
            f"model={_kind(model)} cannot {what}: {reason(error)} Choose other lora.target_modules, or another model."
        )
    )


def _close(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor], rounding: float) -> bool:
    """Whether two results are the same, part by part, but for `rounding` in units of a part's norm."""
    # A part that is zero but for rounding is measured by the largest.
    floor = 0.01 * max(float(part.norm()) for part in one)
    return all(float((a - b).norm()) <= rounding * max(float(a.norm()), floor) for a, b in zip(one, other, strict=True))


# The gradients of tiny models of which what is computed did change with the padding were off by 0.18 of a part's norm
# and more. Of others, by 4e-5 at most in float32, and in bfloat16 by 0.04 where weights were trained (all-MiniLM-L6-v2;
# by 0.5 in 24 layers of large random ones, whose clients are then trained apart).
def _other_shapes(model: PreTrainedModel) -> float:
    """How far results may be from each other where the same sums are taken in another order, or rounded elsewhere."""
    return 1e-3 if model.dtype == torch.float32 else 0.15


def _same_shapes(model: PreTrainedModel) -> float:
    """How far they may be where shapes are the same: experts may take another number of tokens, or a GPU its time."""
    return 1e-4 if model.dtype == torch.float32 else 1e-2


def _kind(model: PreTrainedModel) -> str:
    return type(model).__name__
