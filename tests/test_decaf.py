"""DeCAF: products are averaged and factored again, the head as it is; what it cannot be combined with is refused."""

import datasets
import numpy as np
import pytest
import torch

import declora
from declora.errors import ConfigError
from declora.methods import build_method
from declora.methods.products import refactor
from declora.model import Layout
from declora.plan import Columns, Plan
from declora.topology import Topology
from declora.train.optimizer import ClientOptimizer
from federations import Damaged, federation_of, gossip_of, rows_of
from tiny import tiny_bert, tiny_texts

CLIENTS = 6


def layout(d=5, k=4, rank=4):
    """Two layers and a head; of these sizes their rank is full, so that nothing is cut."""
    tensors = {"head.weight": torch.empty(2, 3)}
    for layer in "xy":
        tensors |= {f"{layer}.lora_A.weight": torch.empty(rank, k), f"{layer}.lora_B.weight": torch.empty(d, rank)}
    return Layout.of(tensors)


def products(rows, of):
    """float64 `[clients, layers, d, k]`."""
    return torch.stack([of.view(rows, b.name).double() @ of.view(rows, a.name).double() for b, a in of.pairs], dim=1)


def gossip(method="decaf", *, of=None, start=None, gamma=None, **settings):
    of = of or layout()
    start = rows_of(CLIENTS, of.columns) if start is None else start
    return gossip_of(federation_of(clients=CLIENTS, **settings), start, method=method, layout=of, gamma=gamma), start


@pytest.mark.parametrize("codec", ["none", "q4", "eden:bits=4"])
@pytest.mark.parametrize(("method", "gamma"), [("decaf", 1.0), ("decaf:left=1", 0.6)])
def test_products_and_heads_are_averaged_with_what_neighbours_make_of_the_messages(method, gamma, codec):
    of = layout()
    alone, rows = gossip(method, codec=codec, gamma=gamma)
    x = rows.clone()
    inbox = alone.round(0, rows)
    z, w = (
        torch.from_numpy(inbox.public()),
        torch.from_numpy(Topology.build("ring", CLIENTS).weights(0).toarray()),
    )
    mine, public = products(x, of), products(z, of)
    expected = mine + gamma * (torch.einsum("ij,jldk->ildk", w, public) - public)
    # Entries of factors and products are below 10: 4 products of two float32 each, rounded by 2^-24.
    torch.testing.assert_close(products(rows, of), expected, atol=10 * 4 * 2 * 2.0**-24 * 10, rtol=0)
    torch.testing.assert_close(products(rows, of).mean(0), mine.mean(0), atol=1e-4, rtol=0)
    head = x[:, :6].double() + gamma * (w @ z[:, :6].double() - z[:, :6].double())
    torch.testing.assert_close(rows[:, :6].double(), head, atol=1e-5, rtol=0)
    assert (codec == "none") == torch.equal(z, x)


def test_on_a_complete_graph_without_loss_one_client_factors_for_all(monkeypatch):
    factored = []
    monkeypatch.setattr(
        "declora.methods.products.refactor", lambda b, *rest: factored.append(len(b)) or refactor(b, *rest)
    )
    alone, rows = gossip(topology="complete")
    alone.round(0, rows)
    assert sum(factored) == len(layout().pairs)
    assert torch.equal(rows[:, 6:], rows[:1, 6:].expand(CLIENTS, -1))


def test_without_rounding_clients_come_to_the_truncated_mean_product():
    """At full rank nothing is cut, and gossip converges to the mean; dec-lora converges to something else."""
    of = layout()
    start = rows_of(CLIENTS, of.columns, centre=1.0)
    mean = products(start, of).mean(0)
    for method, reaches in (("decaf", True), ("dec-lora", False)):
        alone, rows = gossip(method, start=start.clone())
        for t in range(100):
            alone.round(t, rows)
        assert ((products(rows, of) - mean).abs().max() < 1e-3) == reaches


def test_what_is_evaluated_is_the_mean_product_and_the_mean_head():
    of, method = layout(rank=2), build_method("decaf")
    alone, rows = gossip(of=of)
    law = np.array([0.1, 0.3, 0.1, 0.2, 0.2, 0.1])
    end = method.endpoint(alone.state, of, [0, 1, 4], law)
    torch.testing.assert_close(end[:6], (rows[0, :6] + 3 * rows[1, :6] + 2 * rows[4, :6]) / 6)
    mean = torch.einsum("i,ildk->ldk", torch.tensor([1, 3, 2]).double() / 6, products(rows[[0, 1, 4]], of))
    u, s, v = torch.linalg.svd(mean)
    best = (u[..., :2] * s[:, None, :2]) @ v[:, :2]
    torch.testing.assert_close(products(end[None], of)[0], best, atol=1e-5, rtol=0)


def test_the_weight_of_a_message_that_is_refused_stays_at_home():
    of = layout()
    alone, rows = gossip(exchange=Damaged([2], rounds=[0]), attack="gaussian", attackers=[2])
    before = products(rows, of)
    alone.round(0, rows)
    after = products(rows, of)
    torch.testing.assert_close(after[1], (2 * before[1] + before[0]) / 3, atol=1e-4, rtol=0)


def test_moments_of_factors_begin_anew_each_round_and_those_of_the_head_go_on(tokenizer, monkeypatch):
    forgotten, reset = [], ClientOptimizer.reset_moments
    monkeypatch.setattr(ClientOptimizer, "reset_moments", lambda own, c: forgotten.append(c) or reset(own, c))
    data = datasets.DatasetDict(train=tiny_texts(24), validation=tiny_texts(8))
    few = {"model": tiny_bert(), "tokenizer": tokenizer, "data": data, "clients": 3, "rounds": 2, "lora": {"r": 2}}
    result = declora.simulate(method="decaf", local_steps=1, client_eval_samples=0, **few)
    of = result._outcome.layout
    assert forgotten == [of.of_kinds("A", "B")] * 2
    assert 0 < of.size("head") == of.columns - forgotten[0].count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixer": "median", "topology": "complete"}, "combines adapters by a rule of its own.* mixer='median'"),
        ({"mixer": "clipped:tau=1"}, "mixer='clipped:tau=1'"),
        ({"codec": "q4+choco"}, r"codec='q4\+choco' remembers the numbers of factors"),
        ({"codec": "q2+ef"}, r"codec='q2\+ef' remembers"),
    ],
)
def test_what_works_on_numbers_of_factors_is_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ConfigError, match=message):
        declora.simulate(method="decaf", model="no/such-model", **settings)


def test_a_part_that_sends_only_some_columns_is_refused():
    of = layout()
    plan = Plan.of_clients(of.columns, np.ones(3, dtype=np.int64))
    assert build_method("decaf").plan(plan, of).fresh == of.of_kinds("A", "B")
    part = Plan(0, plan.phases, of.of_kinds("B", "head"), plan.graph)
    with pytest.raises(ConfigError, match="another part of the method sends only"):
        build_method("decaf").plan(part, of)


def test_columns_are_joined_with_others():
    one, other = Columns(10, ((0, 2), (5, 7))), Columns(10, ((1, 3), (7, 8)))
    assert one | other == Columns(10, ((0, 3), (5, 8)))
    assert one | Columns(10, ()) == one == Columns(0, ()) | one
