"""Dis-PFL: how many entries are active, where, and what becomes of the others, in functions and tiny runs (V16)."""

from functools import partial

import numpy as np
import pytest
import torch

import declora
from declora.errors import ConfigError, RunFolderError
from declora.methods import build_method
from declora.methods.components import Components
from declora.methods.sparse import erk_counts, regrown, unit_counts
from declora.model import Layout
from federations import federation_of, gossip_of, rows_of

CLIENTS, ROUNDS = 4, 4
SHAPES = [(4, 16), (16, 4), (4, 40), (24, 4)]


@pytest.fixture
def run(tiny_run):
    lora = {"r": 4, "target_modules": ["query", "value"]}
    return partial(tiny_run, method="dis-pfl", rounds=ROUNDS, learning_rate=1e-2, weight_decay=0.1, lora=lora)


class Watching(declora.Part):
    """Notes masks and adapters after each step and each round."""

    name = "watching"

    def __init__(self):
        self.steps, self.rounds, self.gradients = [], [], []

    def _seen(self, state):
        return state.room("dis-pfl")["mask"].clone(), state.adapter.clone()

    def after_step(self, state, step):
        self.steps.append(self._seen(state))

    def after_round(self, state, plan, inbox):
        self.rounds.append(self._seen(state))


def published(shapes, density):
    """The rule as the authors' code has it: layers that would be more than full are taken out one kind at a time."""
    full, raw = set(), {i: (a + b) / (a * b) for i, (a, b) in enumerate(shapes)}
    while True:
        right = sum(a * b * (density - 1 if i in full else density) for i, (a, b) in enumerate(shapes))
        rest = [i for i in raw if i not in full]
        if not rest:
            return [float(a * b) for a, b in shapes]
        eps = right / sum(raw[i] * shapes[i][0] * shapes[i][1] for i in rest)
        highest = max(raw[i] for i in rest)
        if highest * eps <= 1:
            return [a * b * (1.0 if i in full else eps * raw[i]) for i, (a, b) in enumerate(shapes)]
        full |= {i for i in rest if raw[i] == highest}


@pytest.mark.parametrize("density", [0.03, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shapes", [SHAPES, [(2, 3), (1, 50), (100, 100)], [(8, 8)]], ids=str)
def test_layers_are_as_dense_as_the_rule_says(shapes, density):
    found, expected = erk_counts(shapes, density), published(shapes, density)
    assert found == [max(1, round(count)) for count in expected]
    sizes = [a * b for a, b in shapes]
    assert all(1 <= count <= size for count, size in zip(found, sizes, strict=True))
    assert abs(sum(found) - density * sum(sizes)) <= len(shapes) / 2 + sum(1 for count in expected if count < 0.5)


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_a_mask_drops_the_smallest_and_has_as_many_of_the_highest_in_their_place(count):
    rng = torch.Generator().manual_seed(0)
    mask = torch.rand(3, 50, generator=rng).argsort(dim=1) < 20
    values, scores = torch.randn(3, 50, generator=rng) * mask, torch.rand(3, 50, generator=rng)
    new = regrown(mask, values, scores, count)
    assert new.sum(1).tolist() == [20] * 3
    for row in range(3):
        active = torch.where(mask[row])[0].tolist()
        kept = sorted(active, key=lambda k: abs(values[row, k]))[count:]
        others = [k for k in range(50) if k not in kept]
        grown = sorted(others, key=lambda k: -scores[row, k])[:count]
        assert torch.where(new[row])[0].tolist() == sorted(kept + grown)


def test_a_full_mask_stays_full():
    mask = torch.ones(2, 9, dtype=torch.bool)
    assert regrown(mask, torch.randn(2, 9), torch.rand(2, 9), 4).all()


def test_the_share_that_moves_falls_from_half_of_drop_twice_to_nothing():
    part = build_method("dis-pfl:drop=0.6").parts[0]
    part._rounds = 8
    rates = [part.rate(event) for event in range(9)]
    assert rates[0] == 0.6
    assert rates[4] == pytest.approx(0.3)
    assert rates[8] == 0
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("method", ["dis-pfl", "dis-pfl:density=0.2,regrow=gradient,masks=common"])
def test_as_many_entries_are_active_in_each_layer_all_along_and_all_others_are_zero(run, method):
    watching = Watching()
    result = run(method=[method, watching])
    layout, density = result.average.layout, build_method(method).parts[0].density
    matrices = [block for block in layout if block.kind != "head"]
    counts = erk_counts([block.shape for block in matrices], density)
    for mask, adapter in [*watching.steps, *watching.rounds]:
        assert not adapter[~mask].any()
        for block, count in zip(matrices, counts, strict=True):
            assert mask[:, block.start : block.stop].sum(1).tolist() == [count] * CLIENTS
        for start, stop in layout.of_kinds("head").spans:
            assert mask[:, start:stop].all()
    moved = [(one[0] != other[0]).any() for one, other in zip(watching.rounds[:-1], watching.rounds[1:], strict=True)]
    assert all(moved)
    assert (watching.steps[0][0][0] == watching.steps[0][0][1]).all() == ("common" in method)
    assert torch.equal(watching.rounds[0][0], watching.steps[1][0])  # they move after the last step, before gossip


def test_components_are_active_as_a_whole_and_those_that_grow_learn(run):
    watching = Watching()
    lora = {"r": 4, "target_modules": ["query", "intermediate.dense"]}
    result = run(method=["dis-pfl:density=0.4,unit=component,regrow=gradient", watching], lora=lora)
    layout = result.average.layout
    units = Components(layout)
    shapes = [(4, 32 + 32), (4, 64 + 32)] * 2
    counts = [round(count / size) for count, (_, size) in zip(erk_counts(shapes, 0.4), shapes, strict=True)]
    assert counts == unit_counts(units, 0.4) == [2, 2, 2, 2]
    first_mask, first = watching.steps[0]
    for mask, adapter in [*watching.steps, *watching.rounds]:
        inside = mask[:, units.firsts]
        assert torch.equal(mask, torch.from_numpy(units.columns(inside.numpy())))
        assert [inside[:, start:stop].sum(1).tolist() for start, stop in units.layers] == [[2] * CLIENTS] * 4
        outside = ~mask & ~first_mask
        for b, a in layout.pairs:
            assert not layout.view(adapter, b.name)[layout.view(~mask, b.name)].any()
            as_drawn = layout.view(adapter, a.name)[layout.view(outside, a.name)]
            assert as_drawn.all()
            assert torch.equal(as_drawn, layout.view(first, a.name)[layout.view(outside, a.name)])
    (before, _), (after, _), (_, next_step) = watching.steps[:3]
    grown = after & ~before
    for b, _ in layout.pairs:
        assert layout.view(next_step, b.name)[layout.view(grown, b.name)].all()
    sent = 96 + -(-len(units.firsts) // 8) + 4 * watching.rounds[0][0].sum(1)
    by_client = result.clients.pivot(index="round", columns="client", values="bytes_sent").to_numpy()
    assert by_client.tolist() == [(2 * sent).tolist()] * ROUNDS


def test_bytes_are_header_active_numbers_and_a_bit_for_each_entry(run):
    watching = Watching()
    result = run(method=["dis-pfl:density=0.4", watching])
    layout = result.average.layout
    entries = layout.columns - layout.size("head")
    sent = 96 + -(-entries // 8) + 4 * watching.rounds[0][0].sum(1)
    by_client = result.clients.pivot(index="round", columns="client", values="bytes_sent").to_numpy()
    assert by_client.tolist() == [(2 * sent).tolist()] * ROUNDS
    assert result.facts()["one message"].startswith("up to ")


def test_everything_active_is_dec_lora(run):
    one, other = run(method="dis-pfl:density=1"), run(method="dec-lora")
    for client in range(CLIENTS):
        # The same steps; gossip rounds float64 once, and float32 after each term.
        torch.testing.assert_close(one.client(client).row, other.client(client).row, atol=1e-5, rtol=1e-4)


def test_what_grows_is_where_the_last_gradient_is_largest(run):
    class Gradients(Watching):
        def gradient(self, compute, state, step):
            losses = compute()
            self.gradients.append(step.gradients.clone())
            return losses

    watching = Gradients()
    result = run(method=["dis-pfl:regrow=gradient", watching], rounds=1)
    (before, _), (after, _) = watching.steps
    for block in result.average.layout:
        if block.kind == "head":
            continue
        own = slice(block.start, block.stop)
        gradients = watching.gradients[-1][:, own].abs()
        grown, passed = after[:, own] & ~before[:, own], ~after[:, own] & ~before[:, own]
        assert (gradients.where(grown, torch.inf).amin(1) >= gradients.where(passed, 0.0).amax(1)).all()


def layout_of():
    tensors = {"x.lora_A.weight": torch.empty(4, 12), "x.lora_B.weight": torch.empty(9, 4)}
    return Layout.of({**tensors, "head.weight": torch.empty(2, 9)})


def gossip(method):
    federation, layout = federation_of(clients=CLIENTS), layout_of()
    stack = build_method(method)
    arranged = stack.arrange(federation)
    alone = gossip_of(arranged, rows_of(CLIENTS, layout.columns), method=stack, layout=layout)
    stack.before_round(alone.state, None)
    return alone, alone.state.room("dis-pfl")["mask"]


def test_with_one_mask_for_all_gossip_is_plain_where_it_is_active():
    alone, mask = gossip("dis-pfl:masks=common")
    rows = alone.state.adapter.clone()
    plain = rows.clone()
    gossip_of(federation_of(clients=CLIENTS), plain, layout=layout_of()).round(0, plain)
    alone.round(0, rows)
    torch.testing.assert_close(rows, plain, atol=1e-6, rtol=0)
    assert not rows[~mask].any()


def test_an_entry_that_neighbours_lack_stays_and_the_mean_is_over_those_who_have_one():
    alone, mask = gossip("dis-pfl:density=0.3")
    rows = alone.state.adapter.clone()
    x = rows.double()
    alone.round(0, rows)
    w = torch.from_numpy(alone.federation.topology.weights(0).toarray())
    heard = w @ mask.double()
    expected = torch.where(mask, (w @ x) / heard, 0.0)
    torch.testing.assert_close(rows.double(), expected, atol=1e-6, rtol=0, equal_nan=True)
    lonely = mask & ((w > 0).double() @ mask.double() == 1)
    assert lonely.any()
    assert torch.equal(rows[lonely], x[lonely].float())


def test_what_is_evaluated_for_all_is_the_mean_over_those_who_have_an_entry():
    alone, mask = gossip("dis-pfl:density=0.3")
    law = np.array([0.4, 0.3, 0.2, 0.1])
    found = alone.method.endpoint(alone.state, alone.layout, [0, 1, 3], law)
    counts = torch.tensor([4.0, 3.0, 1.0])[:, None] * mask[[0, 1, 3]]
    expected = (counts * alone.state.adapter[[0, 1, 3]]).sum(0) / counts.sum(0)
    torch.testing.assert_close(found, expected.nan_to_num(0.0), atol=1e-6, rtol=0)
    assert (counts.sum(0) == 0).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "dis-pfl:density=0"}, "density='?0'? must be a number above 0 and at most 1"),
        ({"method": "dis-pfl:regrow=magnitude"}, "must be one of random, gradient"),
        ({"method": "dis-pfl+decaf"}, "both 'dis-pfl:.*' and 'decaf' say how clients' values are combined"),
        ({"method": "dis-pfl", "ranks": [2, 4, 4, 2]}, r"ranks=\[2, 4, 4, 2\]: method='dis-pfl' draws"),
        ({"method": "dis-pfl", "mixer": "median", "topology": "complete"}, "compares whole messages"),
        ({"method": "dis-pfl", "codec": "q4+choco"}, "remembers what was sent of each column"),
    ],
    ids=str,
)
def test_what_it_cannot_be_combined_with_is_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ConfigError, match=message):
        declora.simulate(clients=CLIENTS, model="no/such-model", **settings)


def test_it_cannot_go_on_with_other_rounds_by_which_its_masks_move(run, tmp_path):
    assert build_method("dis-pfl").plans_ahead
    run(out=str(tmp_path / "run"), checkpoint_every=2)
    objects = {name: run.keywords[name] for name in ("model", "tokenizer", "data")}
    with pytest.raises(RunFolderError, match="rounds"):
        declora.resume(tmp_path / "run", rounds=2 * ROUNDS, **objects)
