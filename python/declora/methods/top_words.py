"""The most likely next words of a language model: found, pooled over clients, and learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["distillation", "most_likely", "pooled"]

_PAIRS = 1 << 20
"""So many are sorted at a time."""


def most_likely(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Returns the k most likely words of each row of `logits [n, V]`, then their probabilities, float32 `[n, 2 k]`."""
    import torch

    found, words = logits.log_softmax(dim=1).topk(k, dim=1)
    return torch.cat([words.float(), found.exp()], dim=1)


def pooled(said: NDArray[np.float32], shares: NDArray[np.float64], vocabulary: int) -> NDArray[np.float32]:
    """Returns the k most likely words of a mean of distributions, with their probabilities, float32 `[2, S, k]`.

    Args:
        said: float32 `[m, 2, S, k]`: k words at each of S places with the probabilities that each of m clients gives
            them; the first client's are k different words. What is no word, or no probability, counts nothing.
        shares: float64 `[m]`, what each client counts.
        vocabulary: Words are whole numbers below it.
    """
    clients, _, places, k = said.shape
    out = np.empty(said.shape[1:], dtype=np.float32)
    step = max(1, _PAIRS // (clients * k))
    for start in range(0, places, step):
        words, chances = said[:, :, start : start + step].transpose(1, 2, 0, 3)
        known = (words >= 0) & (words < vocabulary)
        counts = np.where(known, chances.clip(0.0, 1.0), 0.0) * shares[:, None]
        flat = (len(words), clients * k)
        named = np.where(known, words, 0).reshape(flat)
        order = named.argsort(axis=1, kind="stable")
        named, counts = (np.take_along_axis(of.reshape(flat), order, axis=1) for of in (named, counts))
        first = np.diff(named, axis=1, prepend=-1.0) != 0
        sums = np.full(flat, -1.0)  # of a word that was there before
        sums[first] = np.bincount(first.ravel().cumsum() - 1, weights=counts.ravel())
        best = (-sums).argsort(axis=1, kind="stable")[:, :k]
        out[0, start : start + step] = np.take_along_axis(named, best, axis=1)
        out[1, start : start + step] = np.take_along_axis(sums, best, axis=1)
    return out


def distillation(words: torch.Tensor, wanted: torch.Tensor, logits: torch.Tensor, tau: float) -> torch.Tensor:
    """Returns tau^2 KL(wanted || softmax(logits / tau)) over some words and a bucket of all others, float32 `[R]`.

    Args:
        words: int64 `[R, k]`, different ones where they are wanted.
        wanted: float32 `[R, k]`, their probabilities; what is missing to 1 is the bucket's. More than 1 in all, which
            a codec can make of them, is scaled down to it.
        logits: float32 `[R, V]`, with V > k.
        tau: Temperature.
    """
    import torch
    from torch.special import xlogy

    wanted = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1.0)
    missing = (1.0 - wanted.sum(dim=1)).clamp(min=0.0)
    words = words.where(wanted > 0, words[:, :1])  # a word that nobody wants belongs to the bucket
    scores = logits / tau
    total = scores.logsumexp(dim=1)
    found = scores.gather(1, words) - total[:, None]
    others = scores.scatter(1, words, -torch.inf).logsumexp(dim=1) - total
    named = (xlogy(wanted, wanted) - wanted * found).sum(dim=1)
    divergence: torch.Tensor = named + xlogy(missing, missing) - missing * others
    return tau**2 * divergence
