"""LoRA-FAIR: the closed form of its correction (V10), and what gossip makes of it."""

import itertools

import numpy as np
import pytest
import torch

from declora.methods.lora_fair import correction
from declora.model import Layout
from declora.topology import Topology
from federations import federation_of, gossip_of, rows_of

CLIENTS, D, K, RANK = 6, 7, 5, 2
DRAWS = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=DRAWS, dtype=torch.float64)


def problem(sources=3):
    """Factors of a few sources that count unlike, their weighted means, and the mean product."""
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)[:sources]
    b, a = normal(sources, D, RANK), normal(sources, RANK, K)
    mean_b, mean_a = (torch.einsum("s,sij->ij", shares, factor) for factor in (b, a))
    return b, a, shares, mean_b, mean_a, torch.einsum("s,sdr,srk->dk", shares, b, a)


@pytest.mark.parametrize("strength", [1e-3, 0.01, 1.0, 100.0])
def test_the_gradient_of_what_it_minimises_is_zero(strength):
    b, a, shares, mean_b, mean_a, target = problem()
    delta = correction(b, a, shares, mean_b, mean_a, strength)
    gradient = -(target - (mean_b + delta) @ mean_a) @ mean_a.T + strength * delta
    assert gradient.norm() <= 1e-8 * target.norm()


def test_the_error_falls_with_lambda_from_that_of_the_means_to_that_of_a_projection():
    b, a, shares, mean_b, mean_a, target = problem()

    def error(strength):
        return float((target - (mean_b + correction(b, a, shares, mean_b, mean_a, strength)) @ mean_a).norm())

    errors = [error(10.0**power) for power in range(6, -7, -1)]
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(errors))
    assert errors[0] == pytest.approx(float((target - mean_b @ mean_a).norm()), rel=1e-4)
    onto = mean_a.T @ torch.linalg.solve(mean_a @ mean_a.T, mean_a)
    assert errors[-1] == pytest.approx(float((target - target @ onto).norm()), rel=1e-4)
    assert errors[-1] < 0.9 * errors[0]


def test_nothing_is_corrected_where_all_have_the_same_a():
    b, _, shares, mean_b, mean_a, _ = problem()
    delta = correction(b, mean_a.expand(3, -1, -1), shares, mean_b, mean_a, 0.01)
    assert delta.norm() <= 1e-12 * mean_b.norm()


def layout():
    tensors = {"head.weight": torch.empty(2, 3)}
    for layer in "xy":
        tensors |= {f"{layer}.lora_A.weight": torch.empty(RANK, K), f"{layer}.lora_B.weight": torch.empty(D, RANK)}
    return Layout.of(tensors)


@pytest.mark.parametrize(("codec", "gamma"), [("none", 1.0), ("none", 0.6), ("q4", 0.7), ("q4+choco", 0.3)])
def test_gossip_is_that_of_dec_lora_but_for_b_which_is_corrected(codec, gamma):
    of, start = layout(), rows_of(CLIENTS, layout().columns)
    plain = gossip_of(federation_of(clients=CLIENTS, codec=codec), start, layout=of, gamma=gamma)
    fair = gossip_of(
        federation_of(clients=CLIENTS, codec=codec), start, layout=of, gamma=gamma, method="lora-fair:strength=0.5"
    )
    mixed, rows = start.clone(), start.clone()
    plain.round(0, mixed)
    z = torch.from_numpy(fair.round(0, rows).public()).double()
    w = torch.from_numpy(Topology.build("ring", CLIENTS).weights(0).toarray())
    for b, a in of.pairs:
        own_b, own_a, z_b, z_a = (of.view(x, block.name).double() for x in (start, z) for block in (b, a))
        heard, own = z_b @ z_a, own_b @ own_a
        target = own + gamma * (torch.einsum("ij,jdk->idk", w, heard) - heard)
        mean_b, mean_a = of.view(mixed, b.name).double(), of.view(mixed, a.name).double()
        inverse = torch.linalg.inv(mean_a @ mean_a.mT + 0.5 * torch.eye(RANK, dtype=torch.float64))
        expected = mean_b + (target - mean_b @ mean_a) @ mean_a.mT @ inverse
        # B was rounded to float32.
        torch.testing.assert_close(of.view(rows, b.name).double(), expected, atol=1e-5, rtol=0)
        assert torch.equal(of.view(rows, a.name), of.view(mixed, a.name))
        assert not torch.equal(of.view(rows, b.name), of.view(mixed, b.name))
    assert torch.equal(rows[:, :6], mixed[:, :6])


def test_it_is_dec_lora_for_a_large_lambda():
    of, start = layout(), rows_of(CLIENTS, layout().columns)
    found = []
    for method in ("dec-lora", "lora-fair:strength=1e12"):
        rows = start.clone()
        gossip_of(federation_of(clients=CLIENTS), start, layout=of, method=method).round(0, rows)
        found.append(rows.numpy())
    np.testing.assert_allclose(*found, atol=1e-6)
