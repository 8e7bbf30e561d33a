"""What split training would send for the same work: a cost model, beside the methods that are run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora.train.order import Order
from declora.train.tokens import Tokens

__all__ = ["split_bytes"]


def split_bytes(
    model: PreTrainedModel, tokens: Tokens, orders: Sequence[Order], steps: NDArray[np.int64]
) -> int | None:
    """Returns what all clients and a server would send each other in a round of split training (arXiv 2501.04436).

    A client keeps the layers below a cut. Of each of its K local steps, whose b texts have l tokens on average, it
    sends the activations at the cut, b l h numbers, and gets their gradients back: 2 K b l h float32 numbers in a
    round, wherever between two blocks of width h the cut is. The texts are those of the first round, as tokenized,
    without padding. Labels, and whatever keeps the lower layers of clients alike, would come on top.

    Args:
        model: Its config says h.
        tokens: All texts.
        orders: Of each client.
        steps: `[clients]`: K of the first round.

    Returns:
        Bytes; None where the config names no width.
    """
    width = getattr(model.config.get_text_config(), "hidden_size", None)
    if width is None:
        return None
    batches = (order.batch(step) for order, count in zip(orders, steps, strict=True) for step in range(count))
    return 2 * 4 * int(width) * sum(int(tokens.lengths[batch].sum()) for batch in batches)
