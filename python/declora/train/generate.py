"""Greedy generation through the batched layers: many prompts, each with its own client's adapter."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, PreTrainedModel

from declora.model.bank import AdapterBank

__all__ = ["greedy"]

# Prompt and new tokens of one batch. A step of generation reads every weight for one token a row, so batches are larger
# than those of a forward pass over whole texts.
TOKENS_PER_BATCH = {"cpu": 8192, "cuda": 131072}


def greedy(
    model: PreTrainedModel,
    bank: AdapterBank,
    values: torch.Tensor,
    prompts: Sequence[NDArray[np.int64]],
    owners: NDArray[np.int64],
    *,
    max_new_tokens: int,
    stop: Sequence[int],
    pad_id: int,
) -> list[NDArray[np.int64]]:
    """Returns the tokens that follow each prompt, the most likely one at each step, without the one that stopped it.

    Args:
        model: A causal LM whose adapted layers are bound to `bank`.
        bank: Binds the layers; left bound to `values`.
        values: float32 `[C, D]`, adapters.
        prompts: Token ids of each prompt, int64 `[length]`.
        owners: `[prompts]`, the row of `values` that each prompt is continued with.
        max_new_tokens: Tokens after which a prompt is given up.
        stop: Token ids that end an answer.
        pad_id: Fills short prompts on the left.
    """
    device = bank.P.device
    bank.bind(values.to(device))
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    budget = TOKENS_PER_BATCH.get(device.type, 8192)
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stop) or None,
        pad_token_id=pad_id,
    )
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(prompts)
    with _own_generation_config(model, config):
        at = 0
        while at < len(order):
            length = int(lengths[order[at]])
            rows = order[at : at + max(1, budget // (length + max_new_tokens))]
            at += len(rows)
            owner = None if len(values) == 1 else torch.from_numpy(owners[rows]).to(device)
            ids = np.full((len(rows), length), pad_id, dtype=np.int64)
            inside = np.arange(length) >= length - lengths[rows][:, None]
            ids[inside] = np.concatenate([prompts[row] for row in rows])
            with bank.owners.computing(len(rows), owner=owner):
                output: torch.Tensor = model.generate(  # type: ignore[operator]
                    torch.from_numpy(ids).to(device),
                    attention_mask=torch.from_numpy(inside.astype(np.int64)).to(device),
                    generation_config=config,
                )
            for row, tokens in zip(rows, output[:, length:].cpu().numpy(), strict=True):
                ends = np.flatnonzero(np.isin(tokens, stop))
                found[row] = tokens[: ends[0]] if len(ends) else tokens
    return found


@contextmanager
def _own_generation_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Puts `config` in place of the model's own, whose penalties and sampling would otherwise be filled in."""
    before, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = before
