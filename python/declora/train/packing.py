"""Packing: short texts share rows of `max_length` tokens, so that little of a batch is padding."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import seeds
from declora.errors import DataError, ModelError
from declora.model.unpadded import UnpaddedBatch, unpad
from declora.train.tokens import Tokens

__all__ = ["check_packing", "pack_blocks", "pack_examples", "unpadded_batch"]

Shards = tuple[NDArray[np.int64], ...]

# Tokens that attend in one row of a batch without padding, where no text is longer. Attention costs their square, and
# shorter rows are harder to fill: on SST-2, 32 to 48 made no difference.
ROW_TOKENS = 48


def pack_blocks(
    tokens: Tokens, shards: Sequence[NDArray[np.int64]], *, max_length: int, first: int = 0
) -> tuple[Tokens, Shards]:
    """Returns the texts of each client as one stream, cut into rows of `max_length` tokens, and each client's rows.

    The last row of a client is shorter; left out where it has no target. A text may begin in one row and go on in the
    next, and attends to what stands before it in its row, as in pretraining. The first client has the number `first`.

    Raises:
        DataError: A client's texts have a single token in all.
    """
    places: list[NDArray[np.int64]] = []
    begun: list[NDArray[np.int64]] = []
    counts: list[int] = []
    for client, shard in enumerate(shards, first):
        stream = np.concatenate([np.arange(tokens.starts[text], tokens.starts[text + 1]) for text in shard])
        rows = [stream[i : i + max_length] for i in range(0, len(stream), max_length)]
        rows = [row for row in rows if len(row) > 1]
        if not rows:
            raise DataError(
                f"The texts of client {client} have too few tokens for a row. Give it more, or fewer clients."
            )
        places += rows
        counts.append(len(rows))
        starting = np.cumsum(tokens.lengths[shard]) - tokens.lengths[shard]
        begun.append(np.bincount(starting // max_length, minlength=len(rows))[: len(rows)])
    starts = np.concatenate([[0], np.cumsum([len(row) for row in places])]).astype(np.int64)
    scored = np.ones(starts[-1], dtype=np.bool_)
    scored[starts[:-1]] = False
    packed = replace(
        tokens,
        ids=tokens.ids[np.concatenate(places)],
        starts=starts,
        scored=scored,
        counts=np.concatenate(begun),
    )
    return packed, _shards(counts)


def pack_examples(
    tokens: Tokens, shards: Sequence[NDArray[np.int64]], *, max_length: int, first: int = 0
) -> tuple[Tokens, Shards]:
    """Returns whole examples of each client packed into rows of at most `max_length` tokens, and each client's rows.

    The examples of a row do not see each other (`Tokens.positions`), so each has the losses that it has alone.
    Best fit decreasing: the longest example first, each into the fullest row that has room for it (as in Ding et al.
    2024, arXiv 2404.10830).
    """
    order: list[NDArray[np.int64]] = []
    counts: list[int] = []
    lengths: list[int] = []
    for shard in shards:
        rows = [shard[row] for row in best_fit(tokens.lengths[shard], max_length)]
        order += rows
        lengths += [int(tokens.lengths[row].sum()) for row in rows]
        counts.append(len(rows))
    texts = np.concatenate(order)
    places = np.concatenate([np.arange(tokens.starts[text], tokens.starts[text + 1]) for text in texts])
    packed = replace(
        tokens,
        ids=tokens.ids[places],
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        scored=None if tokens.scored is None else tokens.scored[places],
        positions=np.concatenate([np.arange(length) for length in tokens.lengths[texts]]),
        counts=np.array([len(row) for row in order], dtype=np.int64),
    )
    return packed, _shards(counts)


def best_fit(lengths: NDArray[np.int64], capacity: int) -> list[NDArray[np.int64]]:
    """Returns bins of indices, each of at most `capacity` in all: the longest first, into the fullest bin with room."""
    bins: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, bin), ascending
    for i in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[i])
        at = bisect_left(free, (length, -1))
        room, chosen = free.pop(at) if at < len(free) else (capacity, len(bins))
        if chosen == len(bins):
            bins.append([])
        bins[chosen].append(i)
        if room > length:
            insort(free, (room - length, chosen))
    return [np.asarray(members, dtype=np.int64) for members in bins]


def unpadded_batch(lengths: NDArray[np.int64], clients: NDArray[np.int64], device: torch.device) -> UnpaddedBatch:
    """Returns where the tokens of a batch go that is padded to its longest text.

    Args:
        lengths: `[R]`: tokens of each text.
        clients: `[C]`: how many of the texts each client has; they follow each other client by client.
        device: Where the indices are needed.
    """
    longest = int(lengths.max())
    # A GPU would wait longer for full rows to be found than it takes for what they leave free.
    alone = device.type == "cuda"
    bins = list(np.arange(len(lengths))[:, None]) if alone else best_fit(lengths, max(ROW_TOKENS, longest))
    return unpad(lengths, bins, clients, width=longest, device=device)


def check_packing(model: PreTrainedModel) -> None:
    """Checks on the model itself that packed examples do not see each other.

    Two short examples in one row must have the logits that each has alone, and those of the second must not change
    with the first. Architectures differ in what they make of `position_ids`, so this is measured, not looked up.

    Raises:
        ModelError: They do see each other.
    """
    if not _packs(model):
        raise ModelError(
            f"packing=True: in {type(model).__name__} the examples of one row see each other (its attention takes no "
            "account of position_ids that begin anew). Set packing=False."
        )


def _packs(model: PreTrainedModel) -> bool:
    vocabulary: Any = model.get_input_embeddings().num_embeddings
    draw = seeds.generator(0, "packing check").integers(0, vocabulary, (2, 16))
    one, other = torch.from_numpy(draw).to(model.device)
    places = torch.tensor([*range(9), *range(7)], device=model.device)
    alone = torch.cat([_logits(model, one[:9]), _logits(model, one[9:])])
    try:
        packed = _logits(model, one, places)
        changed = _logits(model, torch.cat([other[:9], one[9:]]), places)
    except TypeError:  # it takes no position_ids
        return False
    scale = alone.abs().max()
    # Masked attention adds exact zeros, so the second example changes by no more than the last bits (of a mixture of
    # experts); measured on tiny models, what packs right was within 3e-7 of alone in float32 and what does not off by
    # 6e-3 or more. Half precision has 2^-8.
    close = 1e-4 if model.dtype == torch.float32 else 5e-2
    unmoved = (changed[9:] - packed[9:]).abs().max() <= close / 10 * scale
    return bool(unmoved and (packed - alone).abs().max() <= close * scale)


def _logits(model: PreTrainedModel, ids: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
    """Returns the logits `[T, vocabulary]` of one row, float32."""
    inputs = {"input_ids": ids.unsqueeze(0)}
    if places is not None:
        inputs["position_ids"] = places.unsqueeze(0)
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits[0].float()


def _shards(counts: Sequence[int]) -> Shards:
    """Returns each client's rows, which follow each other client by client."""
    ends = np.cumsum(counts)
    return tuple(np.arange(end - count, end) for end, count in zip(ends, counts, strict=True))
