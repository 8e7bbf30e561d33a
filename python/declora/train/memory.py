"""How many clients to compute at once."""

from torch import nn
from transformers import PreTrainedModel

__all__ = ["choose_group_size"]

# Activations kept for the backward pass of one transformer layer, in multiples of (tokens x hidden size) values: the
# inputs of its norms, projections and activation function (Korthikanti et al. 2022, arXiv 2205.05198, eq. 1: about 34
# bytes per value in half precision without attention scores, hence about 17 values).
_VALUES_PER_HIDDEN = 17
_BUDGET_BYTES = {"cpu": 2 * 2**30, "cuda": 16 * 2**30}
_MOST_ROWS = {"cpu": 128, "cuda": 4096}


def choose_group_size(model: PreTrainedModel, *, clients: int, batch_size: int, max_length: int, device: str) -> int:
    """Returns how many clients make a group where the config does not say.

    A function of the config alone, not of the memory that happens to be free: the group decides padding and so the last
    bits of a result. It keeps one group's activations under 2 GiB on a CPU (16 GiB on a GPU) with every text at
    `max_length`, and its rows few enough (128, 4096) that a larger group would no longer be faster.
    """
    hidden, layers = _size(model)
    per_row = max_length * hidden * layers * _VALUES_PER_HIDDEN * 4
    vocabulary = int(model.config.get_text_config().vocab_size) if hasattr(model, "lm_head") else 0
    per_row += 2 * 4 * max_length * vocabulary  # logits and their gradient
    rows = min(_BUDGET_BYTES.get(device, 2**31) // max(per_row, 1), _MOST_ROWS.get(device, 128))
    return max(1, min(clients, rows // batch_size))


def _size(model: PreTrainedModel) -> tuple[int, int]:
    """Returns hidden size and number of layers, from the modules where the configuration has no such names."""
    config = model.config.get_text_config()
    hidden, layers = (getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers"))
    if hidden is None:
        hidden = next(model.get_input_embeddings().parameters()).shape[-1]
    if layers is None:
        layers = max((len(module) for module in model.modules() if isinstance(module, nn.ModuleList)), default=1)
    return int(hidden), int(layers)
