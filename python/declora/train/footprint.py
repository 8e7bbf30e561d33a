"""What a run needs of memory: whether it can fit at all, and how many clients to compute at once."""

import torch
from torch import nn
from transformers import PreTrainedModel

from declora import process
from declora.errors import ConfigError

__all__ = ["check_fits", "choose_examples", "choose_group_size"]

# Activations kept for the backward pass of one transformer layer, in multiples of (tokens x hidden size) values: the
# inputs of its norms, projections and activation function (Korthikanti et al. 2022, arXiv 2205.05198, eq. 1: about 34
# bytes per value in half precision without attention scores, hence about 17 values).
_VALUES_PER_HIDDEN = 17
_BUDGET_BYTES = 2 * 2**30
_MOST_ROWS = 128
# A client's row in float32: the values, their gradients and the optimizer's two moments.
_BYTES_PER_PARAMETER = 16
# Of an example alone: a copy of its client's row, and a gradient.
_BYTES_PER_EXAMPLE = 8
# Rows that keep their padding are computed in so many slices, one after another (`order.length_slices`).
_MOST_SLICES = 4


def check_fits(
    model: PreTrainedModel,
    *,
    clients: int,
    columns: int,
    batch_size: int,
    length: float,
    device: torch.device,
    recompute: bool = False,
) -> None:
    """Refuses a run that is larger than all memory of its device, by estimates that are rather too small.

    Args:
        model: The base model.
        clients: Number of clients that train.
        columns: Trained parameters of each, D.
        batch_size: Samples of one local step of one client.
        length: Tokens of a sample, on average.
        device: Where P and the model are.
        recompute: Whether of a block only what goes into it is kept.

    Raises:
        ConfigError: The clients' rows, or the activations of one client's step, do not fit.
    """
    memory = _memory_of(device)
    rows = clients * columns * _BYTES_PER_PARAMETER
    if rows > memory:
        raise ConfigError(
            f"clients={clients} with {columns:,} trained parameters each need {_gigabytes(rows)} for values, gradients "
            f"and moments; {device} has {_gigabytes(memory)}. Use fewer clients, or a smaller lora.r."
        )
    kept = _bytes_per_token(model) // (_VALUES_PER_HIDDEN if recompute else 1)
    step = int(batch_size * length * kept) // _MOST_SLICES
    if step > memory:
        raise ConfigError(
            f"batch_size: {batch_size} samples of {length:.0f} tokens need about {_gigabytes(step)} in a local step; "
            f"{device} has {_gigabytes(memory)}. Lower batch_size"
            f"{'' if recompute else ', or set activation_checkpointing=true'}."
        )


def choose_group_size(
    model: PreTrainedModel, *, clients: int, batch_size: int, max_length: int, scored: bool = False
) -> int:
    """Returns how many clients make a group where the config does not say and no GPU is measured.

    A function of the config alone, not of the memory that happens to be free: the group decides the last bits of a
    result. It keeps one group's activations under 2 GiB with every text at `max_length`, and its rows few enough (128)
    that a larger group would no longer be faster.

    Args:
        model: The base model.
        clients: Of the run.
        batch_size: Texts of a client's step.
        max_length: Tokens of a text, at most.
        scored: Whether a causal LM has logits of a few tokens at a time only.
    """
    return max(1, min(clients, _most_rows(model, max_length, scored) // batch_size))


def choose_examples(model: PreTrainedModel, *, columns: int, max_length: int, scored: bool = False) -> int:
    """Returns how many examples are computed at once where each has a gradient of its own.

    A function of the config alone, as `choose_group_size`: as many as rows of a group, and no more than have their
    adapters and gradients in 2 GiB.

    Args:
        model: The base model.
        columns: Trained parameters, D.
        max_length: Tokens of a text, at most.
        scored: Whether a causal LM has logits of a few tokens at a time only.
    """
    return max(1, min(_most_rows(model, max_length, scored), _BUDGET_BYTES // (_BYTES_PER_EXAMPLE * columns)))


def _most_rows(model: PreTrainedModel, max_length: int, scored: bool) -> int:
    """Returns how many texts of `max_length` tokens have their activations in the memory that there is for a pass."""
    per_row = max_length * (_bytes_per_token(model) + (0 if scored else _bytes_of_logits(model)))
    return min(_BUDGET_BYTES // max(per_row, 1), _MOST_ROWS)


def _bytes_per_token(model: PreTrainedModel) -> int:
    """Returns what a token's activations take until the backward pass."""
    hidden, layers = _size(model)
    return hidden * layers * _VALUES_PER_HIDDEN * 4


def _bytes_of_logits(model: PreTrainedModel) -> int:
    """Returns what a token's logits and their gradient take, in a causal LM that has those of all tokens at once."""
    return 2 * 4 * int(model.config.get_text_config().vocab_size) if hasattr(model, "lm_head") else 0


def _size(model: PreTrainedModel) -> tuple[int, int]:
    """Returns hidden size and number of layers, from the modules where the configuration has no such names."""
    config = model.config.get_text_config()
    hidden, layers = (getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers"))
    if hidden is None:
        hidden = next(model.get_input_embeddings().parameters()).shape[-1]
    if layers is None:
        layers = max((len(module) for module in model.modules() if isinstance(module, nn.ModuleList)), default=1)
    return int(hidden), int(layers)


def _memory_of(device: torch.device) -> int:
    """Returns how many bytes the device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return process.memory()


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
