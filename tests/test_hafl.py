"""HAFL: which components clients train and send, and what becomes of the others, in hooks and in tiny runs (V15)."""

from functools import partial

import numpy as np
import pytest
import torch

import declora
from declora.errors import ConfigError
from declora.methods import build_method
from declora.methods.components import Components
from declora.model import Layout
from federations import federation_of, gossip_of, rows_of

CLIENTS, ROUNDS, RANKS = 4, 3, [1, 2, 4, 3]


@pytest.fixture
def run(tiny_run):
    lora = {"r": 4, "target_modules": ["query", "value"]}
    return partial(tiny_run, method="hafl", rounds=ROUNDS, learning_rate=1e-2, weight_decay=0.1, lora=lora)


class Watching(declora.Part):
    """Notes what clients have before and after the steps of each round, and what each step computed."""

    name = "watching"

    def __init__(self):
        self.starts, self.end, self.after, self.steps, self.room = [], [], [], [], {}

    def before_round(self, state, plan):
        self.starts.append(state.adapter.clone())
        self.end.append(None)

    def gradient(self, compute, state, step):
        losses = compute()
        self.steps.append((state.adapter.clone(), step.gradients.clone()))
        return losses

    def after_step(self, state, step):
        self.end[-1] = state.adapter.clone()

    def after_round(self, state, plan, inbox):
        self.carried = inbox.carried
        self.after.append(state.adapter.clone())
        self.room = {name: array.clone() for name, array in state.room("hafl").items()}


def layout_of(rank=4):
    tensors = {f"{layer}.lora_{factor}.weight": torch.empty(shape) for layer in "xy"
               for factor, shape in (("A", (rank, 5)), ("B", (7, rank)))}  # fmt: skip
    return Layout.of({**tensors, "head.weight": torch.empty(2, 3)})


def test_components_are_the_columns_of_b_and_the_rows_of_a():
    layout = layout_of()
    components = Components(layout)
    assert components.ranks == [4, 4]
    for layer, (b, a) in enumerate(layout.pairs):
        ids = torch.from_numpy(components.units[None])
        assert layout.view(ids, b.name)[0].tolist() == [[4 * layer + q for q in range(4)]] * 7
        assert layout.view(ids, a.name)[0].tolist() == [[4 * layer + q] * 5 for q in range(4)]
    assert (components.units < 0).sum() == layout.size("head")
    chosen = np.eye(8, dtype=bool)[[0, 5]]
    columns = components.columns(chosen)
    assert columns.sum(1).tolist() == [7 + 5 + 6] * 2
    values = rows_of(2, layout.columns)
    means = components.means(values)
    b, a = layout.pairs[1]
    expected = layout.view(values, b.name)[1, :, 2].mean() + layout.view(values, a.name)[1, 2].mean()
    torch.testing.assert_close(means[1, 6], expected)


def test_the_best_of_each_layer_are_chosen_and_draws_decide_between_equal_ones():
    components = Components(layout_of())
    scores = np.array([[0, 3, 2, 3, 9, 0, 0, 0]], dtype=np.float32)
    draws = np.array([[0, 5, 0, 1, 0, 3, 1, 2]], dtype=np.float32)
    for counts, expected in (([1, 1], [3, 4]), ([2, 2], [1, 3, 4, 6]), ([3, 3], [1, 2, 3, 4, 6, 7])):
        assert np.flatnonzero(components.best(scores, [counts], draws)[0]).tolist() == expected


def test_what_is_frozen_gets_no_step_and_each_client_trains_as_many_components_as_its_rank(run):
    watching = Watching()
    result = run(method=["hafl", watching], ranks=RANKS)
    layout = result.average.layout
    assert {block.shape[0] for block in layout if block.kind == "A"} == {4}
    components = Components(layout)
    for begin, end in zip(watching.starts, watching.end, strict=True):
        moved = torch.from_numpy(components.units) == torch.arange(sum(components.ranks))[:, None]
        steps = torch.stack([(begin != end)[:, own].any(1) for own in moved], dim=1)
        assert steps.view(CLIENTS, -1, 4).sum(2).tolist() == [[rank] * len(components.ranks) for rank in RANKS]
    assert [result.client(i).config.r for i in range(CLIENTS)] == [4] * CLIENTS
    assert any("all adapters have rank 4" in note for note in result.notes)


def test_bytes_are_header_bits_and_chosen_components_and_what_nobody_near_sent_keeps_its_bits(run):
    watching = Watching()
    result = run(method=["hafl:keep=0.25", watching], clients=5)
    layout = result.average.layout
    units = sum(a.shape[0] for _, a in layout.pairs)
    sent = 96 + -(-units // 8) + 4 * ((layout.columns - layout.size("head")) // 4 + layout.size("head"))
    assert set(result.clients["bytes_sent"]) == {2 * sent}
    weights = result.federation.topology.weights(0).toarray()
    unheard = torch.from_numpy((weights > 0).astype(float) @ watching.carried == 0)
    assert unheard.any()
    assert torch.equal(watching.after[-1][unheard], watching.end[-1][unheard])
    assert result.facts()["one message"].endswith("and a bitmap")


def test_scores_are_those_of_adalora(run):
    """Float64, from the adapters and gradients of all steps, before what is frozen is left out."""
    watching, b1, b2 = Watching(), 0.7, 0.6
    run(method=[f"hafl:b1={b1},b2={b2}", watching])
    s = u = torch.zeros(())
    for adapter, gradients in watching.steps:
        importance = (adapter.double() * gradients.double()).abs()
        s = b1 * s + (1 - b1) * importance
        u = b2 * u + (1 - b2) * (importance - s).abs()
    torch.testing.assert_close(watching.room["sensitivity"].double(), s, rtol=1e-4, atol=1e-12)
    torch.testing.assert_close(watching.room["uncertainty"].double(), u, rtol=1e-3, atol=1e-9)
    assert len(watching.steps) == 2 * ROUNDS
    assert s.any()


def test_the_components_of_the_next_round_are_those_of_the_highest_scores(run):
    watching = Watching()
    result = run(method=["hafl:keep=0.5", watching], rounds=ROUNDS)
    layout = result.average.layout
    part = build_method("hafl:keep=0.5")
    part.arrange(result.federation)
    alone = gossip_of(result.federation, watching.after[-1], method=part, layout=layout)
    for name, array in watching.room.items():
        alone.state.room("hafl")[name].copy_(array)
    plan = declora.plan.Plan.of_clients(layout.columns, np.ones(CLIENTS, dtype=np.int64), ROUNDS)
    part.before_round(alone.state, plan)
    carried = torch.from_numpy(part.carried(alone.state, plan) > 0)
    scores = watching.room["sensitivity"] * watching.room["uncertainty"]
    for b, a in layout.pairs:
        own = layout.view(scores, b.name).mean(1) + layout.view(scores, a.name).mean(2)
        chosen = layout.view(carried, a.name)[:, :, 0]
        assert chosen.sum(1).tolist() == [2] * CLIENTS
        assert (own.where(chosen, torch.inf).amin(1) >= own.where(~chosen, -1.0).amax(1)).all()


def test_clients_begin_with_components_of_their_own_draw(run):
    watching = Watching()
    run(method=["hafl:keep=0.25", watching], rounds=1)
    assert len(np.unique(watching.carried, axis=0)) > 1


def test_who_selects_all_runs_dec_lora(run):
    one, other = run(method="hafl:keep=1"), run(method="dec-lora")
    for client in range(CLIENTS):
        # The same steps; gossip rounds float64 once, and float32 after each term.
        torch.testing.assert_close(one.client(client).row, other.client(client).row, atol=1e-5, rtol=1e-4)


class Chosen(declora.Part):
    """Sends the components that it is told."""

    name = "chosen"

    def __init__(self, layout, chosen):
        self._components = Components(layout)
        self._carried = self._components.columns(chosen)

    def units(self, layout):
        return self._components.units

    def carried(self, state, plan):
        return self._carried


def test_components_in_another_order_on_all_clients_mix_to_the_same_in_that_order():
    layout, order = layout_of(), [2, 0, 3, 1]
    rows, chosen = rows_of(CLIENTS, layout.columns), np.random.default_rng(0).random((CLIENTS, 8)) < 0.5

    def permuted(of):
        found = of.clone()
        for b, a in layout.pairs:
            layout.view(found, b.name)[:] = layout.view(of, b.name)[:, :, order]
            layout.view(found, a.name)[:] = layout.view(of, a.name)[:, order]
        return found

    other = permuted(rows)
    names = np.r_[order, 4 + np.array(order)]
    for own, values in ((chosen, rows), (chosen[:, names], other)):
        alone = gossip_of(federation_of(clients=CLIENTS), values, method=Chosen(layout, own), layout=layout)
        alone.round(0, values)
    assert torch.equal(permuted(rows), other)


def test_a_component_of_one_sender_is_taken_as_it_is_and_not_scaled():
    """What tells it from padding with zeros."""
    layout = layout_of()
    chosen = np.zeros((CLIENTS, 8), dtype=bool)
    chosen[1, 3] = True
    rows = rows_of(CLIENTS, layout.columns)
    before = rows.clone()
    alone = gossip_of(federation_of(clients=CLIENTS), rows, method=Chosen(layout, chosen), layout=layout)
    alone.round(0, rows)
    own, others = Components(layout).units == 3, Components(layout).units >= 0
    assert torch.equal(rows[:3, own], before[1, own].expand(3, -1))  # clients 0 to 2, a neighbourhood of the ring
    assert torch.equal(rows[3, others], before[3, others])
    assert torch.equal(rows[:, others & ~own], before[:, others & ~own])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "hafl:keep=0"}, "keep='?0'? must be a number above 0 and at most 1"),
        ({"method": "hafl:keep=0.5", "ranks": RANKS}, "both say how many components clients train"),
        ({"method": "fedavg+hafl"}, "a server's answer"),
        ({"method": "hafl+dis-pfl"}, "both 'hafl:.*' and 'dis-pfl:.*' say how clients' values are combined"),
        ({"method": "hafl", "mixer": "push-sum"}, "compares whole messages"),
        ({"method": "hafl", "codec": "q2+ef"}, "remembers what was sent of each column"),
    ],
    ids=str,
)
def test_what_it_cannot_be_combined_with_is_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ConfigError, match=message):
        declora.simulate(clients=CLIENTS, model="no/such-model", **settings)
