"""Products of LoRA factors: combined over clients without forming them, and factored again at any rank.

FlexLoRA (arXiv 2402.11505) and DeCAF (arXiv 2505.21382) combine what an adapter does to its layer, the product B A,
where Dec-LoRA combines B and A by themselves. A sum of m products of rank r is one product of stacked factors,

    sum_j c_j B_j A_j = [B_1 ... B_m] [c_1 A_1; ...; c_m A_m],

so thin QRs of both and an SVD of the core, m r by m r, give its exact singular values and vectors. The best
approximation of rank r keeps the r largest (Eckart and Young 1936). All is computed in float64.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch.nn import functional

from declora.model import Layout

__all__ = ["Split", "combine_products", "difference_form", "heard_sums", "refactor", "write_mean_product"]

Split = Literal["balanced", "left"]
"""Who gets S of U S V^T: both factors half of it (B = U sqrt(S), A = sqrt(S) V^T), or B all (B = U S, A = V^T)."""

_AT_ONCE = 1 << 24
"""Most numbers of stacked factors that a GPU factors at once, unless one product has more. On a CPU products are
factored one by one: LAPACK does so anyway, and its last bits depend on where in memory a matrix of a batch begins."""


def refactor(
    b: torch.Tensor, a: torch.Tensor, rank: int, split: Split = "balanced"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the factors of rank `rank` whose product is nearest to `b @ a` in the Frobenius norm.

    Each column of B has its largest entry positive. A component whose singular value is 0 to rounding has a column of
    zeros in B and a row of length 1 in A, as LoRA begins: were that zero, too, no gradient would ever reach either.
    Where the stacked rank R is at least min(d, k), the product itself is formed: as exact, and cheaper then.

    Args:
        b: float64 `[..., d, R]`, finite.
        a: float64 `[..., R, k]`, finite.
        rank: How many components are kept. There are min(d, k, R); what is beyond is zeros.
        split: Which factor gets the singular values.

    Returns:
        B `[..., d, rank]` and A `[..., rank, k]`, float64.
    """
    d, stacked, k = *b.shape[-2:], a.shape[-1]
    if stacked < min(d, k):
        (left_basis, left_core), (right_basis, right_core) = torch.linalg.qr(b), torch.linalg.qr(a.mT)
        u, values, v = torch.linalg.svd(left_core @ right_core.mT)
        left, right = (u[..., :rank].mT @ left_basis.mT).mT, v[..., :rank, :] @ right_basis.mT
    else:
        u, values, v = torch.linalg.svd(b @ a, full_matrices=False)
        left, right = u[..., :rank], v[..., :rank, :]
    signs = left.gather(-2, left.abs().argmax(dim=-2, keepdim=True)).sign()
    alive = values[..., :rank] > values[..., :1] * max(d, k) * torch.finfo(values.dtype).eps
    values = values[..., :rank]
    in_b, in_a = (values.sqrt(), values.sqrt()) if split == "balanced" else (values, torch.ones_like(values))
    left = left * signs * torch.where(alive, in_b, 0.0).unsqueeze(-2)
    right = right * signs.mT * torch.where(alive, in_a, 1.0).unsqueeze(-1)
    missing = rank - values.shape[-1]
    return functional.pad(left, (0, missing)), functional.pad(right, (0, 0, 0, missing))


def combine_products(
    layout: Layout,
    values: Sequence[torch.Tensor],
    coefficients: sp.csr_array,
    out: torch.Tensor,
    *,
    split: Split = "balanced",
) -> None:
    """Writes the factors nearest to sum_s c_is B_s A_s, for each receiver i and adapted layer, into `out`.

    They have the rank of the layout. Components come by their size, so that the first r_i of them are the best of rank
    r_i, too. Receivers with the same coefficients share the work. On a CPU a receiver's bits depend on its coefficients
    and the sources they belong to, in their order, not on who else is computed.

    Args:
        layout: The columns of `values` and `out`; the head's are neither read nor written.
        values: Matrices float32 `[..., D]`; their rows, one after the other, are the S sources s.
        coefficients: float64 `[receivers, S]`, of any sign.
        out: float32 `[receivers, D]`; may be one of `values`.
        split: Which factor gets the singular values.
    """
    sums, whose = _distinct(coefficients)
    for b, a in layout.pairs:
        of_b, of_a = (torch.cat([layout.view(rows, block.name) for rows in values]) for block in (b, a))
        new_b, new_a = of_b.new_empty(len(sums), *b.shape), of_a.new_empty(len(sums), *a.shape)
        for batch in _batches(sums, numbers=b.size + a.size, alone=out.device.type == "cpu"):
            sources = torch.from_numpy(np.stack([sums[i][0] for i in batch])).to(out.device)  # [batch, terms]
            shares = torch.from_numpy(np.stack([sums[i][1] for i in batch])).to(out.device)
            stacked_b = of_b[sources].double().transpose(1, 2).flatten(2)
            stacked_a = (of_a[sources].double() * shares[..., None, None]).flatten(1, 2)
            found_b, found_a = refactor(stacked_b, stacked_a, a.shape[0], split)
            new_b[batch], new_a[batch] = found_b.float(), found_a.float()
        layout.view(out, b.name).copy_(new_b[whose])
        layout.view(out, a.name).copy_(new_a[whose])


def write_mean_product(
    layout: Layout,
    rows: torch.Tensor,
    clients: Sequence[int],
    law: NDArray[np.float64] | None,
    out: torch.Tensor,
    *,
    split: Split = "balanced",
) -> None:
    """Writes the factors nearest to the mean product of `clients` into `out`, float32 `[D]`; not the head.

    Args:
        layout: The columns.
        rows: float32 `[all clients, D]`.
        clients: Whose products count.
        law: float64 `[all clients]`, what each counts; None: all the same.
        out: What has the mean head.
        split: Which factor gets the singular values.
    """
    counts = np.ones(len(clients)) if law is None else law[list(clients)]
    shares = sp.csr_array((counts / counts.sum(), (np.zeros_like(clients), clients)), (1, len(rows)))
    combine_products(layout, [rows], shares, out.unsqueeze(0), split=split)


def difference_form(
    weights: sp.csr_array, own: NDArray[np.int64], exact: NDArray[np.bool_], gamma: float = 1.0
) -> sp.csr_array:
    """Returns the coefficients of gossip in difference form, x_i + gamma sum_j w_ij (z_j - z_i).

    The mean over all clients is kept, whatever the codec did to the public values z, until each is cut to its rank.
    Where the codec did nothing, x_i and z_i are one source.

    Args:
        weights: float64 `[local, known]`; each row sums to 1.
        own: int64 `[local]`: the place of each local client among the known.
        exact: bool `[local]`: whose public value is equal to its own.
        gamma: Consensus step size.

    Returns:
        float64 `[local, known + local]`: of the public values, then of the clients' own.
    """
    local = np.arange(len(own))
    of_own = sp.csr_array((np.where(exact, 1.0 - gamma, -gamma), (local, own)), shape=weights.shape)
    of_exact = sp.diags_array(np.where(exact, 0.0, 1.0))
    return sp.csr_array(sp.hstack([gamma * weights + of_own, of_exact]))


def heard_sums(
    weights: sp.csr_array, public: NDArray[np.float32], rows: NDArray[np.float32], gamma: float
) -> sp.csr_array:
    """Returns what gossip in difference form adds up for each client, of the messages and of the clients' own values.

    Args:
        weights: float64 `[clients, messages]`; message i is client i's own for i < clients.
        public: z, float32 `[messages, D]`.
        rows: float32 `[clients, D]`, what clients themselves have.
        gamma: Consensus step size.

    Returns:
        float64 `[clients, messages + clients]`: coefficients of `public`, then of `rows`, as `difference_form`.
    """
    exact = np.array([np.array_equal(own, heard) for own, heard in zip(rows, public, strict=False)])
    return difference_form(weights, np.arange(len(rows)), exact, gamma)


_Sum = tuple[NDArray[np.int64], NDArray[np.float64]]
"""The sources of a sum, `[terms]`, and their coefficients."""


def _distinct(coefficients: sp.csr_array) -> tuple[list[_Sum], list[int]]:
    """Returns the different rows as sums, and for each receiver which of them is its own."""
    rows = coefficients.copy()
    rows.sum_duplicates()
    rows.eliminate_zeros()
    sums: list[_Sum] = []
    places: dict[bytes, int] = {}
    whose = []
    for start, stop in zip(rows.indptr[:-1].tolist(), rows.indptr[1:].tolist(), strict=True):
        sources, shares = rows.indices[start:stop].astype(np.int64), rows.data[start:stop]
        place = places.setdefault(sources.tobytes() + shares.tobytes(), len(sums))
        if place == len(sums):
            sums.append((sources, shares))
        whose.append(place)
    return sums, whose


def _batches(sums: Sequence[_Sum], *, numbers: int, alone: bool) -> Iterator[list[int]]:
    """Yields which sums are factored together: each alone, or those of equally many terms of `numbers` numbers each."""
    by_terms = sorted(range(len(sums)), key=lambda i: len(sums[i][0]))
    for terms, alike in groupby(by_terms, key=lambda i: len(sums[i][0])):
        group = list(alike)
        most = 1 if alone else max(1, _AT_ONCE // (max(terms, 1) * numbers))
        yield from (group[start : start + most] for start in range(0, len(group), most))
