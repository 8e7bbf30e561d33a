"""Products of LoRA factors against dense float64 algebra: V07 to V09, and what FlexLoRA and DeCAF promise.

A backward stable SVD errs by a small multiple of 40 x 2^-53, 4e-15, of the largest singular value here, which is below
40: 1e-10 leaves room for any library. What is stored as float32 errs by 2^-24 of each factor's entry.
"""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from declora.methods import products as products_module
from declora.methods.products import combine_products, difference_form, refactor
from declora.model import Layout
from declora.topology import Topology

EXACT = 1e-10
SHAPES = [(40, 30, 24), (12, 30, 24), (37, 23, 23), (5, 7, 3)]
"""(d, k, stacked rank): the second and third form the product itself."""


def factors(d, k, rank, *batch, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(*batch, d, rank))), torch.from_numpy(rng.normal(size=(*batch, rank, k)))


def stacked(b, a, shares):
    """[B_1 ... B_m] and [c_1 A_1; ...; c_m A_m] of `b [m, d, r]`, `a [m, r, k]`."""
    return torch.cat(list(b), dim=1), torch.cat([c * one for c, one in zip(shares, a, strict=True)])


def norm(matrix):
    return float(torch.linalg.matrix_norm(matrix))


def layout(*, d=9, k=7, rank=3, layers=2):
    tensors = {}
    for layer in range(layers):
        tensors |= {f"l{layer}.lora_A.weight": torch.empty(rank, k), f"l{layer}.lora_B.weight": torch.empty(d, rank)}
    return Layout.of({**tensors, "head": torch.empty(4)})


def adapters(clients, *, seed=0, **shape):
    columns = layout(**shape).columns
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(clients, columns)).astype(np.float32))


def products(rows, **shape):
    """float64 `[layers, clients, d, k]`."""
    of = layout(**shape)
    return torch.stack([of.view(rows, b.name).double() @ of.view(rows, a.name).double() for b, a in of.pairs])


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_are_those_of_the_dense_product(shape):
    """V08."""
    b, a = factors(*shape, 3)
    rank = min(shape)
    left, right = refactor(b, a, rank, split="left")
    dense = torch.linalg.svdvals(b @ a)[:, :rank]
    torch.testing.assert_close(torch.linalg.vector_norm(left, dim=1), dense, atol=EXACT, rtol=0)
    torch.testing.assert_close(right @ right.mT, torch.eye(rank).double().expand(3, -1, -1), atol=EXACT, rtol=0)
    torch.testing.assert_close(left @ right, b @ a, atol=EXACT, rtol=0)


@pytest.mark.parametrize("split", ["balanced", "left"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_cut_off_is_the_tail_of_the_singular_values(shape, split):
    """V09, FlexLoRA (b): Eckart and Young. The first components of a larger rank are those of a smaller one."""
    b, a = factors(*shape)
    wide = refactor(b, a, min(shape), split)
    values = torch.linalg.svdvals(b @ a)
    for rank in range(1, min(shape) + 1):
        narrow = refactor(b, a, rank, split)
        error = norm(b @ a - narrow[0] @ narrow[1]) ** 2
        assert error == pytest.approx(float((values[rank:] ** 2).sum()), abs=EXACT * float(values[0]) ** 2)
        torch.testing.assert_close(narrow[0], wide[0][:, :rank], atol=EXACT, rtol=0)
        torch.testing.assert_close(narrow[1], wide[1][:rank], atol=EXACT, rtol=0)


@pytest.mark.parametrize("d", [30, 12])
def test_full_rank_is_the_exact_mean_of_products(d):
    """FlexLoRA (a): the rank is the sum of the ranks, or that of the layer."""
    b, a = factors(d, 25, 4, 3)
    shares = [0.5, 0.3, 0.2]
    mean = sum(c * x @ y for c, x, y in zip(shares, b, a, strict=True))
    new = refactor(*stacked(b, a, shares), min(d, 12))
    torch.testing.assert_close(new[0] @ new[1], mean, atol=EXACT, rtol=0)


def test_products_do_not_know_the_gauge_of_their_factors_and_means_of_factors_do():
    """V07, FlexLoRA (c): (B G, G^-1 A) is the same adapter."""
    b, a = factors(30, 20, 4, 3)
    gauge = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 4, 4))) + 3 * torch.eye(4).double()
    turned = b @ gauge, torch.linalg.solve(gauge, a)
    shares = [1 / 3] * 3
    for split in ("balanced", "left"):
        one, other = (refactor(*stacked(*pair, shares), 4, split) for pair in ((b, a), turned))
        torch.testing.assert_close(one[0] @ one[1], other[0] @ other[1], atol=EXACT, rtol=0)
    means = [x.mean(0) @ y.mean(0) for x, y in ((b, a), turned)]
    assert norm(means[0] - means[1]) > 1e-3 * norm(means[0])


def test_a_scale_of_each_rank_is_undone_on_the_way_back():
    """FlexLoRA (e): client j adds s_j B_j A_j; who receives with s_r gets s_r B A = the best of its rank."""
    b, a = factors(30, 20, 6, 3)
    ranks, shares, alpha = [2, 4, 6], [0.2, 0.3, 0.5], 16.0
    for client, rank in enumerate(ranks):
        b[client, :, rank:], a[client, rank:] = 0, 0
    mean = sum(p * alpha / r * x @ y for p, r, x, y in zip(shares, ranks, b, a, strict=True))
    u, s, v = torch.linalg.svd(mean)
    for rank in ranks:
        own = alpha / rank
        new = refactor(*stacked(b, a, [p * alpha / r / own for p, r in zip(shares, ranks, strict=True)]), rank)
        best = u[:, :rank] * s[:rank] @ v[:rank]
        torch.testing.assert_close(own * new[0] @ new[1], best, atol=EXACT, rtol=0)


@pytest.mark.parametrize("split", ["balanced", "left"])
def test_what_is_in_its_form_already_stays(split):
    """DeCAF's fixed point, FlexLoRA (f): all equal and of that rank. Then the factors stay, too."""
    b, a = refactor(*factors(30, 20, 4), 4, split)
    shares = [0.2, 0.5, 0.3]
    again = refactor(*stacked(b.expand(3, -1, -1), a.expand(3, -1, -1), shares), 4, split)
    torch.testing.assert_close(again, (b, a), atol=EXACT, rtol=0)


def test_signs_are_those_that_make_the_largest_entry_of_a_column_positive():
    b, a = factors(30, 20, 4)
    left, right = refactor(b, a, 4)
    assert (left.gather(0, left.abs().argmax(0, keepdim=True)) > 0).all()
    torch.testing.assert_close(refactor(-b, -a, 4), (left, right), atol=EXACT, rtol=0)
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1), atol=EXACT, rtol=0)


@pytest.mark.parametrize("split", ["balanced", "left"])
def test_a_component_that_is_nothing_can_still_learn(split):
    """B is zero and A is not, as LoRA begins; with both zero no gradient reaches either."""
    b, a = factors(30, 20, 4)
    b[:, 2:] = 0
    new_b, new_a = refactor(b, a, 4, split)
    assert torch.equal(new_b[:, 2:], torch.zeros(30, 2).double())
    torch.testing.assert_close(new_a[2:].norm(dim=1), torch.ones(2).double(), atol=EXACT, rtol=0)
    torch.testing.assert_close(new_b @ new_a, b @ a, atol=EXACT, rtol=0)
    new_b, new_a = refactor(torch.zeros_like(b), a, 4, split)
    assert not new_b.any()
    torch.testing.assert_close(new_a @ new_a.mT, torch.eye(4).double(), atol=EXACT, rtol=0)


def test_beyond_the_rank_of_the_layer_are_zeros():
    b, a = factors(3, 20, 8)
    new_b, new_a = refactor(b, a, 5)
    assert not new_b[:, 3:].any()
    assert not new_a[3:].any()
    torch.testing.assert_close(new_b @ new_a, b @ a, atol=EXACT, rtol=0)


@pytest.mark.parametrize("exact", [True, False])
def test_gossip_of_products_is_that_of_dense_matrices(exact):
    """The rank of the layers is full, so that nothing is cut: entries are below 60, sums of 5 products of float32."""
    shape = {"d": 6, "k": 5, "rank": 5}
    x = adapters(6, **shape)
    z = x if exact else x + 0.1 * adapters(6, seed=1, **shape)
    weights = Topology.build("ring", 6).weights(0)
    out = x.clone()
    coefficients = difference_form(weights, np.arange(6), np.full(6, exact), 0.7)
    combine_products(layout(**shape), [z, out], coefficients, out)
    w, mine, public = torch.from_numpy(weights.toarray()), products(x, **shape), products(z, **shape)
    expected = mine + 0.7 * (torch.einsum("ij,ljdk->lidk", w, public) - public)
    found = products(out, **shape)
    rounding = 60 * 5 * 2 * 2.0**-24
    torch.testing.assert_close(found, expected, atol=rounding, rtol=0)
    torch.testing.assert_close(found.mean(1), mine.mean(1), atol=rounding, rtol=0)
    assert (found - mine).abs().max() > 0.1
    assert torch.equal(out[:, -4:], x[:, -4:])


def test_equal_public_and_own_values_are_one_source():
    weights = Topology.build("erdos-renyi:0.5", 8, seed=1).weights(0)
    one, two = (difference_form(weights, np.arange(8), np.full(8, exact), 0.6) for exact in (True, False))
    np.testing.assert_allclose(two.toarray()[:, :8] + two.toarray()[:, 8:], one.toarray()[:, :8], atol=1e-15)
    assert not one.toarray()[:, 8:].any()
    np.testing.assert_allclose(one.toarray()[:, :8], 0.4 * np.eye(8) + 0.6 * weights.toarray(), atol=1e-15)
    here = difference_form(weights[[5, 2]], np.array([5, 2]), np.array([False, True]), 0.6)
    np.testing.assert_array_equal(here.toarray()[:, :8], [two.toarray()[5, :8], one.toarray()[2, :8]])
    np.testing.assert_array_equal(here.toarray()[:, 8:], [[1, 0], [0, 0]])


def spy(monkeypatch):
    """How many products each call of `refactor` has, from now on."""
    calls = []
    monkeypatch.setattr(
        "declora.methods.products.refactor", lambda b, *rest: calls.append(len(b)) or refactor(b, *rest)
    )
    return calls


def test_who_else_is_computed_changes_no_bit(monkeypatch):
    """Receivers with more and with fewer neighbours. In a batch of these sizes the last bits of LAPACK's float64 change
    with the place of a matrix; as float32 that is seen once in 10^8 numbers, so the calls are looked at, too.
    """
    calls = spy(monkeypatch)
    shape = {"d": 37, "k": 53, "rank": 3}
    x = adapters(7, **shape)
    coefficients = difference_form(Topology.build("star", 7).weights(0), np.arange(7), np.full(7, True))
    together = torch.empty_like(x)
    combine_products(layout(**shape), [x, x], coefficients, together)
    for client in range(7):
        alone = torch.empty_like(x[:1])
        combine_products(layout(**shape), [x, x], coefficients[[client]], alone)
        assert torch.equal(alone[0, :-4], together[client, :-4])
    assert set(calls) == {1}


def test_receivers_with_the_same_coefficients_have_the_same_factors_computed_once(monkeypatch):
    x, calls = adapters(5), spy(monkeypatch)
    combine_products(layout(), [x], sp.csr_array(np.full((5, 5), 0.2)), x)
    assert sum(calls) == len(layout().pairs)
    assert torch.equal(x[:, :-4], x[:1, :-4].expand(5, -1))


def test_batches_as_on_a_gpu_give_what_each_product_gives_alone(monkeypatch):
    x, out, calls = adapters(7), [], spy(monkeypatch)
    coefficients = difference_form(Topology.build("star", 7).weights(0), np.arange(7), np.full(7, True))
    of = products_module._batches
    for numbers, alone in ((1, True), (1, False), (1 << 23, False)):  # of the last, one sum of 2 terms is the most
        monkeypatch.setattr(products_module, "_batches", lambda sums, **_: of(sums, numbers=numbers, alone=alone))  # noqa: B023
        out.append(torch.zeros_like(x))
        combine_products(layout(), [x, x], coefficients, out[-1])
    assert calls == [1] * 14 + [6, 1] * 2 + [1] * 14
    torch.testing.assert_close(out[1], out[0], atol=1e-6, rtol=0)
    assert torch.equal(out[2], out[0])
