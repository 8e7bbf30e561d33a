"""HetLoRA: weights by norms, zeros for what a message lacks, and tails that are dropped."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import declora
from declora.errors import ConfigError
from declora.methods import build_method
from declora.methods.norm_weights import product_norms, weigh
from declora.methods.part import Step
from declora.model import Layout
from declora.model.ranks import beyond
from declora.plan import Plan
from declora.topology import Topology
from federations import federation_of, gossip_of, rows_of

CLIENTS, RANKS = 5, [1, 2, 4, 3, 4]
CPU = torch.device("cpu")


@pytest.fixture
def run(tiny_run):
    lora = {"r": 4, "target_modules": ["query", "value"]}
    return partial(tiny_run, method="hetlora", clients=CLIENTS, rounds=4, learning_rate=1e-2, lora=lora, ranks=RANKS)


class Watching(declora.Part):
    """Notes the ranks and adapters after each round."""

    name = "watching"

    def __init__(self):
        self.ranks, self.rows = [], []

    def after_round(self, state, plan, inbox):
        self.ranks.append(state.room("hetlora")["ranks"].tolist())
        self.rows.append(state.adapter.clone())


def layout_of(rank=4):
    tensors = {f"{layer}.lora_{factor}.weight": torch.empty(shape) for layer in "xy"
               for factor, shape in (("A", (rank, 5)), ("B", (7, rank)))}  # fmt: skip
    return Layout.of({**tensors, "head.weight": torch.empty(2, 3)})


def norms(layout, rows):
    """Of the dense products, float64."""
    dense = [layout.view(rows, b.name).double() @ layout.view(rows, a.name).double() for b, a in layout.pairs]
    return torch.stack([product.flatten(1).square().sum(1) for product in dense]).sum(0).sqrt()


def gossip(ranks=RANKS, method="hetlora", codec="none", rows=None):
    layout = layout_of()
    rows = rows_of(CLIENTS, layout.columns) if rows is None else rows
    stack = build_method(method)
    federation = stack.arrange(replace(federation_of(clients=CLIENTS, codec=codec), ranks=tuple(ranks)))
    rows = rows.masked_fill(beyond(layout, ranks, CPU), 0.0)
    alone = gossip_of(federation, rows, method=stack, layout=layout, gamma=1.0)
    return alone, rows, torch.from_numpy(Topology.build("ring", CLIENTS).weights(0).toarray())


def test_norms_of_products_are_found_without_them():
    layout = layout_of()
    rows = rows_of(3, layout.columns)
    np.testing.assert_allclose(product_norms(layout, rows.numpy()), norms(layout, rows), rtol=1e-12)


def test_weights_sum_to_1_and_are_the_graphs_own_where_norms_are_equal_or_nothing():
    w = Topology.build("ring", CLIENTS).weights(0)
    sizes = np.array([1.0, 2.0, 0.0, 5.0, 0.5])
    found = weigh(w, sizes).toarray()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-15)
    np.testing.assert_allclose(found, w.toarray() * sizes / (w.toarray() @ sizes)[:, None], atol=1e-15)
    for equal in (np.full(CLIENTS, 3.0), np.zeros(CLIENTS)):
        np.testing.assert_allclose(weigh(w, equal).toarray(), w.toarray(), atol=1e-15)
    alone = np.array([0.0, 0.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(weigh(w, alone).toarray()[0], w.toarray()[0], atol=1e-15)


@pytest.mark.parametrize("codec", ["none", "q4"])
def test_factors_are_padded_weighed_by_norms_and_cut_and_the_head_is_averaged(codec):
    alone, x, w = gossip(codec=codec)
    rows = x.clone()
    inbox = alone.round(0, rows)
    layout, z = alone.layout, torch.from_numpy(inbox.public())
    assert not z[beyond(layout, RANKS, CPU)].any()
    v = w * norms(layout, z)
    v = v / v.sum(1, keepdim=True)
    expected = torch.cat([x.double() + (u @ z.double() - z.double()) for u in (v, w)]).view(2, CLIENTS, -1)
    head = torch.zeros(layout.columns, dtype=torch.bool)
    for start, stop in layout.of_kinds("head").spans:
        head[start:stop] = True
    expected = torch.where(head, expected[1], expected[0]).masked_fill(beyond(layout, RANKS, CPU), 0.0)
    torch.testing.assert_close(rows.double(), expected, atol=2e-6, rtol=0)


def test_padding_and_cutting_leaves_a_client_what_it_has():
    """Where all have one adapter, cut to their ranks, nothing within the least rank of a neighbourhood moves."""
    layout = layout_of()
    alone, x, _ = gossip(rows=rows_of(1, layout.columns).expand(CLIENTS, -1))
    rows = x.clone()
    alone.round(0, rows)
    least = ~beyond(layout, [1], CPU)[0]
    torch.testing.assert_close(rows[:, least], x[:, least], atol=1e-6, rtol=0)


def test_equal_ranks_and_norms_are_plain_gossip():
    layout = layout_of()
    rows = rows_of(CLIENTS, layout.columns)
    scale = norms(layout, rows).float()
    for b, _ in layout.pairs:
        layout.view(rows, b.name).div_(scale[:, None, None])
    alone, x, w = gossip(ranks=[4] * CLIENTS, rows=rows)
    mixed = x.clone()
    alone.round(0, mixed)
    torch.testing.assert_close(mixed.double(), w @ x.double(), atol=5e-6, rtol=0)


def test_the_pull_is_the_gradient_of_the_product_of_the_tails_norms():
    """Float32 against autograd in float64; gamma .5 of rank 3 keeps 1 component, of rank 1 all."""
    alone, x, _ = gossip(method="hetlora:gamma=0.5,decay=0.7")
    layout, part = alone.layout, alone.method.parts[0]
    plan = Plan.of_clients(layout.columns, np.ones(CLIENTS, dtype=np.int64))
    gradients = torch.zeros_like(x)
    step = Step(plan, plan.phases[0], 0, gradients, torch.ones(CLIENTS))
    assert part.gradient(lambda: torch.arange(CLIENTS), alone.state, step).tolist() == [*range(CLIENTS)]
    free = x.double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for client, (first, stop) in enumerate(zip([1, 1, 2, 1, 2], RANKS, strict=True)):
        for b, a in layout.pairs:
            tail = slice(first, stop)
            if first < stop:
                in_b, in_a = layout.view(free, b.name)[client][:, tail], layout.view(free, a.name)[client][tail]
                total = total + 0.7 * in_b.norm() * in_a.norm()
    total.backward()
    torch.testing.assert_close(gradients.double(), free.grad, atol=1e-5, rtol=0)
    assert gradients[1:].any(1).all()


def test_tails_that_shrink_are_dropped_and_no_longer_sent(run):
    watching = Watching()
    result = run(method=["hetlora:gamma=0.5,decay=3", watching])
    layout, ranks = result.average.layout, np.array([RANKS, *watching.ranks])
    assert watching.ranks[0] == RANKS  # B was 0: no tail can shrink
    for before, after in itertools.pairwise(ranks):
        assert ((after == before) | (after == np.maximum(before // 2, 1))).all()
    assert (ranks[-1] < ranks[0]).any()
    for own, rows in zip(watching.ranks, watching.rows, strict=True):
        assert not rows[beyond(layout, own, CPU)].any()
    sent = result.clients.pivot(index="round", columns="client", values="bytes_sent").to_numpy()
    bits = [-(-len(layout.pairs) * rank // 8) for rank in RANKS]
    each = (layout.columns - layout.size("head")) // 4  # columns of one component of every layer
    expected = 2 * (96 + np.array(bits) + 4 * (each * ranks[1:] + layout.size("head")))
    assert sent.tolist() == expected.tolist()


def test_gamma_of_1_drops_and_pulls_nothing(run):
    watching = Watching()
    run(method=["hetlora:gamma=1,decay=100", watching], rounds=2)
    assert watching.ranks == [RANKS] * 2


def test_that_the_mean_is_not_kept_is_said(run):
    assert any("mean over clients is not kept" in note for note in run(rounds=1).notes)
    assert not any("hetlora" in note for note in run(method=["local", build_method("hetlora")], rounds=1).notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "hetlora:gamma=0"}, "gamma='?0'? must be a number above 0 and at most 1"),
        ({"method": "hetlora+decaf"}, "both 'hetlora:.*' and 'decaf' say how clients' values are combined"),
        ({"method": "hetlora", "mixer": "median", "topology": "complete"}, "compares whole messages"),
        ({"method": "hetlora", "codec": "q4+choco"}, "remembers what was sent of each column"),
    ],
    ids=str,
)
def test_what_it_cannot_be_combined_with_is_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ConfigError, match=message):
        declora.simulate(model="no/such-model", **settings)


def test_a_part_that_sends_one_factor_alone_is_refused(run):
    with pytest.raises(ConfigError, match="another part of the method sends only"):
        run(method="ffa-lora+hetlora")
