"""What methods train, send and combine: in runs of a tiny model, and in plans without one."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

import declora
from declora.errors import ConfigError
from declora.methods import METHODS, NAMED, build_method
from declora.methods.stack import RESERVED
from declora.model import Block, Layout
from declora.plan import Columns, Phase, Plan
from declora.run import Run
from tiny import tiny_bert

CLIENTS, ROUNDS = 4, 4
LAYOUT = Layout(
    [Block("q.lora_A", (2, 4), "A", 0), Block("q.lora_B", (3, 2), "B", 8), Block("v.lora_A", (2, 4), "A", 14),
     Block("v.lora_B", (3, 2), "B", 22), Block("head", (2, 3), "head", 28)]
)  # fmt: skip
A, B = LAYOUT.of_kinds("A"), LAYOUT.of_kinds("B")


@pytest.fixture
def run(tokenizer, texts):
    """Returns `simulate` for four clients on a ring whose messages lose nothing."""

    def simulate(**settings):
        defaults = {
            "model": tiny_bert(), "tokenizer": tokenizer, "data": texts, "clients": CLIENTS, "rounds": ROUNDS,
            "local_steps": 2, "batch_size": 4, "codec": "none", "client_eval_samples": 0, "progress": False,
            "lora": {"r": 2, "target_modules": ["query", "value"]}, "warmup": 0.0, "schedule": "constant",
        }  # fmt: skip
        return declora.simulate(**{**defaults, **settings})

    return simulate


@pytest.fixture
def rounds(run, monkeypatch):
    """Returns `simulate`, of which it gives every client's adapter after each round, `[rounds, clients, D]`."""
    after, original = [], Run._round

    def watched(self, event, before):
        record = original(self, event, before)
        after.append(self.state.adapter.clone().cpu())
        return record

    def simulate(**settings):
        after.clear()
        monkeypatch.setattr(Run, "_round", watched)
        result = run(**settings)
        return result, torch.stack(after)

    return simulate


def plan_of(event, clients=CLIENTS, layout=LAYOUT):
    whole = Plan.of_clients(layout.columns, np.full(clients, 3), event)
    return whole


def planned(method, event):
    return build_method(method).plan(plan_of(event), LAYOUT)


def factors(result, row):
    """(B, A) of every adapted layer of an adapter `[D]`, float64."""
    tensors = {name: tensor.double() for name, tensor in result.average.layout.unflatten(row).items()}
    names = [name for name in tensors if ".lora_A." in name]
    return [(tensors[name.replace(".lora_A.", ".lora_B.")], tensors[name]) for name in names]


def test_dec_lora_trains_and_sends_everything_in_every_round():
    for event in range(4):
        plan = planned("dec-lora", event)
        assert plan.sent.whole
        assert [phase.trained.whole for phase in plan.phases] == [True]


def test_ffa_lora_trains_and_sends_b_and_the_head_in_every_round():
    for event in range(4):
        plan = planned("ffa-lora", event)
        assert plan.sent == plan.phases[0].trained == LAYOUT.of_kinds("B", "head")
        assert plan.sent.count == LAYOUT.columns - A.count
        assert plan.phases[0].steps.tolist() == [3] * CLIENTS


@pytest.mark.parametrize("method", ["adf-lora", "tad-lora", "rolora"])
@pytest.mark.parametrize("interval", [1, 2, 5])
def test_the_phase_is_a_function_of_the_round(method, interval):
    for event in [*range(12), 10**6, 10**6 + interval]:
        plan = planned(f"{method}:interval={interval}", event)
        trained = LAYOUT.of_kinds("B" if (event // interval) % 2 == 0 else "A", "head")
        assert plan.phases[0].trained == trained
        assert plan.sent == (trained if method == "rolora" else LAYOUT.whole)


def test_a_is_bit_identical_for_all_clients_and_rounds_under_ffa_lora(rounds):
    """V12; and the mean of the products is the product of the means."""
    result, after = rounds(method="ffa-lora")
    layout, first = result.average.layout, after[0, 0]
    for start, stop in layout.of_kinds("A").spans:
        assert torch.equal(after[..., start:stop], first[start:stop].expand(ROUNDS, CLIENTS, -1))
    for start, stop in layout.of_kinds("B", "head").spans:
        assert (after[-1, 0, start:stop] != first[start:stop]).any()
    own = [factors(result, row) for row in after[-1]]
    for layer, (mean_b, mean_a) in enumerate(factors(result, result.average.row)):
        mean = sum(b @ a for b, a in (client[layer] for client in own)) / CLIENTS
        # The mean of B was rounded to float32: 2^-24 of its entries, times the norm of A.
        assert (mean - mean_b @ mean_a).norm() <= 2**-23 * mean_b.norm() * mean_a.norm()


def test_a_message_of_ffa_lora_has_no_a(run):
    result = run(method="ffa-lora")
    layout = result.average.layout
    sent = 96 + 4 * (layout.columns - layout.size("A"))
    assert result.history["bytes_sent"].tolist() == [CLIENTS * 2 * sent] * ROUNDS
    assert f"({sent:,} bytes)" in result.facts()["one message"]


def test_a_round_in_which_nobody_trains_has_no_loss(run):
    class Idle(declora.Part):
        name = "idle"

        def plan(self, plan, layout):
            phases = tuple(Phase(phase.steps * (plan.event % 2), phase.trained) for phase in plan.phases)
            return dataclasses.replace(plan, phases=phases)

    result = run(method=Idle())
    assert result.history["train_loss"].isna().tolist() == [True, False] * (ROUNDS // 2)
    assert result.history["samples_seen"].tolist() == [0, CLIENTS * 2 * 4] * (ROUNDS // 2)


def test_a_factor_at_rest_is_not_trained(rounds):
    """V13, without gossip: the columns that a round does not train keep their bits, and all others move."""
    result, after = rounds(method="adf-lora:interval=1+local", optimizer="adamw", weight_decay=0.1)
    layout = result.average.layout
    for event in range(1, ROUNDS):
        resting = layout.of_kinds("B" if event % 2 else "A")
        for start, stop in resting.spans:
            assert torch.equal(after[event, :, start:stop], after[event - 1, :, start:stop])
        for start, stop in layout.of_kinds("A" if event % 2 else "B", "head").spans:
            assert (after[event, :, start:stop] != after[event - 1, :, start:stop]).any()


@pytest.mark.parametrize("method", ["adf-lora:interval=1", "rolora:interval=1"])
def test_on_a_graph_the_factor_at_rest_is_moved_by_mixing_alone(rounds, method):
    """V13: ADF-LoRA mixes it, so what clients have of it comes closer; RoLoRA leaves it, and clients apart."""
    result, after = rounds(method=method, topology="ring", learning_rate=0.02)
    layout, w = result.average.layout, torch.from_numpy(result.federation.topology.weights(0).toarray())
    for event in range(1, ROUNDS):
        for start, stop in layout.of_kinds("B" if event % 2 else "A").spans:
            before, now = (after[t, :, start:stop].double() for t in (event - 1, event))
            if method.startswith("rolora"):
                assert torch.equal(now, before)
            else:
                torch.testing.assert_close(now, w @ before, atol=1e-6, rtol=1e-5)
    (start, stop) = layout.of_kinds("B").spans[0]
    b = after[1, :, start:stop]
    assert (b - b.mean(0)).norm() > 1e-4


def test_the_moments_of_a_factor_at_rest_do_not_age(run, monkeypatch):
    """Each phase continues AdamW where its last one ended: after 2 + 2 rounds of 2 steps every block has taken 4."""
    ages, original = [], Run._round

    def watched(self, event, before):
        record = original(self, event, before)
        ages.append(self.state.room("optimizer")["ages"].clone())
        return record

    monkeypatch.setattr(Run, "_round", watched)
    result = run(method="adf-lora:interval=1")
    kinds = [block.kind for block in result.average.layout]
    for event, found in enumerate(ages):
        steps = {"A": 2 * ((event + 1) // 2), "B": 2 * ((event + 2) // 2), "head": 2 * (event + 1)}
        assert found.tolist() == [[steps[kind] for kind in kinds]] * CLIENTS


def test_tad_lora_takes_longer_phases_the_worse_the_graph_mixes(run):
    intervals = {}
    for clients, topology in ((4, "complete"), (4, "ring"), (16, "ring")):
        result = run(method="tad-lora", clients=clients, topology=topology, rounds=1)
        rho = result.federation.topology.slem
        intervals[clients, topology] = round((1 - rho) ** -0.5)
        assert any(f"interval={intervals[clients, topology]} rounds" in note for note in result.notes)
    assert list(intervals.values()) == [1, 1, 4]


def test_parts_are_combined_in_any_order(run):
    """FFA-LoRA decides what is sent, gradient tracking sends it twice."""
    one, other = (run(method=text) for text in ("ffa-lora+gradient-tracking", "gradient-tracking+ffa-lora"))
    for client in range(CLIENTS):
        assert torch.equal(one.client(client).row, other.client(client).row)
    columns = one.average.layout.columns - one.average.layout.size("A")
    assert one.history["bytes_sent"].iloc[0] == 2 * CLIENTS * (96 + 8 * columns)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "d2+gradient-tracking"}, "both 'd2' and 'gradient-tracking' say how clients' values are combined"),
        ({"method": "ffa-lora+ffa-lora"}, "has ffa-lora twice"),
        ({"method": "ffa-lora+"}, "method='ffa-lora\\+'"),
        ({"method": "ffa-loar"}, "method='ffa-loar' is not known. Did you mean 'ffa-lora'"),
        ({"method": "tad-lora:interval=0"}, "interval='?0'? must be a whole number of at least 1"),
        ({"method": "ffa-lora:interval=2"}, "ffa-lora takes no options"),
        ({"method": "rolora", "mixer": "push-sum"}, "sends other columns in other rounds"),
        ({"method": "rolora", "attack": "stale"}, "repeats what was sent in an earlier round"),
        ({"method": "d2", "mixer": "median", "topology": "complete"}, "d2' needs corrections whose sum stays 0"),
        ({"method": "d2", "topology": "one-peer-exponential"}, "needs one symmetric mixing matrix"),
        ({"method": "d2", "weights": "samples"}, "needs one symmetric mixing matrix"),
        ({"method": "gradient-tracking", "mixer": "median", "topology": "complete"}, "corrections whose sum stays 0"),
        (
            {"method": "gradient-tracking", "ranks": [2, 4, 4, 2]},
            r"ranks=\[2, 4, 4, 2\]: this method needs corrections",
        ),
        ({"method": "fedavg+d2"}, "which topology='complete' has not"),
        ({"method": "d2+fedavg"}, "which topology='complete' has not"),
        ({"method": "fedavg+local"}, "both 'fedavg' and 'local' say who talks to whom"),
    ],
    ids=str,
)
def test_a_method_that_cannot_be_run_like_that_is_refused_before_anything_is_loaded(monkeypatch, settings, message):
    monkeypatch.setattr("declora.simulation.prepare", lambda config: pytest.fail("something was loaded"))
    with pytest.raises(ConfigError, match=message):
        declora.simulate(clients=CLIENTS, **settings)


@pytest.mark.parametrize("method", ["local+gradient-tracking", "gradient-tracking+local"])
def test_who_talks_is_settled_before_what_depends_on_it(run, method):
    """Nobody talks, so it is no matter that the mixer is no mean, and corrections stay 0: local training."""
    result, local = run(method=method, mixer="median", topology="complete"), run(method="local")
    assert all(torch.equal(result.client(i).row, local.client(i).row) for i in range(CLIENTS))


def test_names_are_written_back_with_their_options():
    for name in METHODS:
        assert str(build_method(str(build_method(name)))) == str(build_method(name))
    assert str(build_method("tad-lora:interval=3+local")) == "tad-lora:interval=3+local"
    assert str(build_method("tad-lora")) == "tad-lora"


def test_names_of_the_field_stand_for_what_they_are_here():
    assert str(build_method("con-lora")) == "ffa-lora"
    assert str(build_method("flexlora")) == "fedavg+decaf:left=1"
    assert str(build_method("scaffold+local")) == "gradient-tracking+local"
    assert not NAMED.keys() & METHODS.keys()
    with pytest.raises(ConfigError, match="has 'ffa-lora' twice"):
        build_method("con-lora+ffa-lora")


def part_of(**members):
    return type("Mine", (declora.Part,), {"name": "mine", **members})()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"name": None}, "method part Mine: name=None must be a word"),
        ({"name": "a/b"}, "method part Mine: name='a/b' must be a word"),
        ({"name": "memory"}, "name='memory' must be a word of letters, digits and dashes, none of adapter"),
        ({"arrange": lambda self, federation: None}, "'mine': arrange gives a NoneType; it must return a Federation"),
        ({"plan": lambda self, plan, layout: None}, "'mine': plan gives a NoneType; it must return a Plan"),
        ({"extra": lambda self, state, layout: None}, "'mine': extra gives a NoneType; it must return a Mapping"),
        ({"extra": lambda self, state, layout: {"x": [1]}}, "'mine': extra gives a list for 'x'; it must give arrays"),
    ],
    ids=["no name", "a path", "a room", "arrange", "plan", "extra", "no array"],
)
def test_what_a_part_of_the_users_own_gives_is_checked(run, members, message):
    with pytest.raises(ConfigError, match=message):
        run(method=part_of(**members))


def test_a_part_that_does_not_fit_the_model_is_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(ConfigError, match=r"decaf.* sends only some columns"):
        run(method="ffa-lora+decaf", out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_every_room_of_a_runs_own_is_one_that_no_part_can_be_called_like(run, monkeypatch):
    rooms, original = set(), Run._round

    def watched(self, event, before):
        rooms.update(self.state.rooms)
        return original(self, event, before)

    monkeypatch.setattr(Run, "_round", watched)
    run(rounds=1)
    assert rooms == set(RESERVED)


def test_the_hooks_of_all_parts_are_called_in_order(run):
    called = []

    class Watching(declora.Part):
        def __init__(self, name):
            self.name = name

        def plan(self, plan, layout):
            called.append(f"{self.name} plan")
            return plan

        def before_round(self, state, plan):
            called.append(f"{self.name} before")

        def gradient(self, compute, state, step):
            called.append(f"{self.name} in")
            losses = compute()
            called.append(f"{self.name} out")
            return losses

        def after_step(self, state, step):
            called.append(f"{self.name} step")

        def after_round(self, state, plan, inbox):
            called.append(f"{self.name} after")

    result = run(method=declora.methods.Stack([Watching("one"), Watching("two")]), rounds=1, local_steps=2)
    step = ["one in", "two in", "two out", "one out", "one step", "two step"]
    once = ["one plan", "two plan"]
    expected = [*once, "one before", "two before", *step, *step, "one after", "two after"]
    assert called[-len(expected) :] == expected
    plain = run(rounds=1, local_steps=2)
    assert all(torch.equal(result.client(i).row, plain.client(i).row) for i in range(CLIENTS))


def test_phases_of_one_round_train_what_each_says_in_the_order_of_the_data(run):
    """Two phases of one step each see the samples of a round of two steps."""

    class Twofold(declora.Part):
        name = "twofold"

        def plan(self, plan, layout):
            one = np.ones_like(plan.steps)
            parts = [Phase(one, layout.of_kinds("B", "head")), Phase(one, layout.of_kinds("A"))]
            return Plan(plan.event, tuple(parts), plan.sent, plan.graph)

    twofold, plain = run(method=Twofold(), rounds=2), run(rounds=2)
    assert twofold.history["samples_seen"].tolist() == plain.history["samples_seen"].tolist()
    assert twofold.clients["local_steps"].tolist() == plain.clients["local_steps"].tolist()
    assert not torch.equal(twofold.average.row, plain.average.row)


def test_the_lazy_matrix_of_d2_is_said_and_used(run):
    even, odd = (run(method="d2", clients=clients, topology="ring", rounds=1) for clients in (4, 5))
    assert any("-1/3" in note for note in even.notes)
    assert not any("-1/3" in note for note in odd.notes)
    np.testing.assert_allclose(even.federation.topology.weights(0).diagonal(), 2 / 3)
    np.testing.assert_allclose(odd.federation.topology.weights(0).diagonal(), 1 / 3)


def test_spans_join_where_they_touch_and_leave_the_rest():
    assert A.spans == ((0, 8), (14, 22))
    assert A.rest.spans == ((8, 14), (22, 34))
    assert LAYOUT.of_kinds("A", "B", "head") == LAYOUT.whole
    assert LAYOUT.whole.rest.spans == ()
    assert (A | B).spans == (B | A).spans == ((0, 28),)
    assert Columns.of(9, [(4, 6), (0, 2), (5, 8), (3, 3)]).spans == ((0, 2), (4, 8))
    rows = np.arange(2 * 34, dtype=np.float32).reshape(2, 34)
    taken = A.take(rows)
    assert taken.flags.c_contiguous
    assert taken.tolist() == rows[:, [*range(8), *range(14, 22)]].tolist()
    changed = rows.copy()
    A.put(changed, -taken)
    np.testing.assert_array_equal(A.take(changed), -taken)
    np.testing.assert_array_equal(A.rest.take(changed), A.rest.take(rows))
    assert LAYOUT.whole.take(rows) is rows
    for start, stop in itertools.chain(A.repeated(2).spans):
        assert start // 34 == (stop - 1) // 34
    assert A.repeated(2).count == 2 * A.count
