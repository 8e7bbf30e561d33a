"""How clients are computed together: how they share the passes of the model, and how many at once."""

from collections.abc import Sequence
from functools import partial

from transformers import PreTrainedModel

from declora.model.bank import AdapterBank
from declora.train.footprint import choose_examples, choose_group_size
from declora.train.probe import CardMemory, clients_that_fit
from declora.train.sharing import Sharing, find_sharing
from declora.train.tokens import Tokens

__all__ = ["examples_at_once", "find_groups"]


def find_groups(
    model: PreTrainedModel,
    bank: AdapterBank,
    tokens: Tokens,
    *,
    clients: int,
    batch_size: int,
    max_length: int,
    special: Sequence[int],
    unpad: bool,
    base_dropout: bool,
    recompute: bool | None,
    group_size: int | None,
    compile: bool = False,
) -> tuple[Sharing, int]:
    """Returns how sequences share the passes of `model`, and how many clients are computed together.

    Args:
        model: With batched layers in place.
        bank: Of the run, before it has all its rows; its layers are left bound to others.
        tokens: What the run trains on.
        clients: Of the run.
        batch_size: Texts of a client's step.
        max_length: Tokens of the longest text.
        special: Token ids that stay where they are, since a model may look for them.
        unpad: Whether padding is to be left out, where the model allows it.
        base_dropout: Whether the base's own dropout is on in training.
        recompute: Whether activations are computed again; None: on a GPU, where one client's would not fit.
        group_size: How many clients, where that was said; None: as a rule or a measurement says.
        compile: Whether torch is to make programs of the blocks.

    Raises:
        ModelError: As `find_sharing`.
    """
    find = partial(
        find_sharing,
        model,
        bank,
        tokens,
        clients=clients,
        special=special,
        unpad=unpad,
        base_dropout=base_dropout,
        compile=compile,
    )
    sharing = find(recompute=bool(recompute))
    if model.device.type != "cuda":
        rule = choose_group_size(
            model, clients=clients, batch_size=batch_size, max_length=max_length, scored=sharing.head is not None
        )
        return sharing, (group_size or rule) if sharing.together else 1
    fit = partial(
        clients_that_fit,
        model,
        bank,
        tokens,
        clients=clients,
        batch_size=batch_size,
        base_dropout=base_dropout,
        memory=CardMemory(model.device),
    )
    fitting = fit(sharing)
    if not fitting and recompute is None:
        sharing = find(recompute=True)
        fitting = fit(sharing)
    return sharing, (group_size or max(fitting, 1)) if sharing.together else 1


def examples_at_once(
    model: PreTrainedModel, sharing: Sharing, *, columns: int, max_length: int, group_size: int, batch_size: int
) -> int:
    """Returns how many examples are computed at once where each has a gradient of its own.

    Args:
        model: With batched layers in place.
        sharing: How sequences share its passes: where they do not, each is computed alone.
        columns: Trained parameters of a client, D.
        max_length: Tokens of the longest text.
        group_size: Clients that are computed together; where that was measured, no more texts than theirs fit.
        batch_size: Texts of a client's step.
    """
    if not sharing.together:
        return 1
    rule = choose_examples(model, columns=columns, max_length=max_length, scored=sharing.head is not None)
    return min(rule, group_size * batch_size) if model.device.type == "cuda" else rule
