"""DFedAlt and DFedSalt: what is personal stays at home, parts are trained in turns, and SAM looks around (V19)."""

from functools import partial

import numpy as np
import pytest
import torch

import declora
from declora.errors import ConfigError
from declora.methods import Step, build_method
from declora.model import Block, Layout
from declora.plan import Columns, Plan
from declora.run import Run
from declora.state import State

CLIENTS = 4
LAYOUT = Layout(
    [Block("q.lora_A", (2, 4), "A", 0), Block("q.lora_B", (3, 2), "B", 8), Block("head", (2, 3), "head", 14)]
)


@pytest.fixture
def run(tiny_run):
    lora = {"r": 2, "target_modules": ["query"]}
    return partial(tiny_run, local_steps=4, lora=lora, warmup=0.0, schedule="constant")


@pytest.mark.parametrize(("steps", "share", "first"), [(6, 1 / 6, 1), (5, 1 / 6, 1), (2, 0.9, 1), (10, 0.5, 5)])
def test_the_steps_of_a_round_are_shared_out(steps, share, first):
    method = build_method(f"dfed-alt:share={share}")
    plan = method.plan(Plan.of_clients(LAYOUT.columns, np.full(CLIENTS, steps)), LAYOUT)
    own, shared = plan.phases
    assert (own.steps.tolist(), shared.steps.tolist()) == ([first] * CLIENTS, [steps - first] * CLIENTS)
    assert own.trained == LAYOUT.of_kinds("head")
    assert shared.trained == plan.sent == LAYOUT.of_kinds("A", "B")


@pytest.mark.parametrize("personal", ["head", "A", "B"])
def test_what_is_personal_is_never_sent_and_each_part_rests_while_the_other_is_trained(run, monkeypatch, personal):
    seen, original = [], declora.methods.dfed_alt.DFedAlt.after_step

    def watched(self, state, step):
        original(self, state, step)
        seen.append((step.number, state.adapter.clone()))

    monkeypatch.setattr(declora.methods.dfed_alt.DFedAlt, "after_step", watched)
    after, round_of = [], Run._round
    monkeypatch.setattr(
        Run, "_round", lambda self, *rest: (round_of(self, *rest), after.append(self.state.adapter.clone()))[0]
    )
    result = run(method=f"dfed-alt:personal={personal},share=0.5")
    layout = result.average.layout
    own, shared = layout.of_kinds(personal), layout.of_kinds(personal).rest
    sent = 96 + 4 * shared.count
    assert result.history["bytes_sent"].tolist() == [CLIENTS * 2 * sent] * 3

    def of(columns, rows):
        return torch.from_numpy(columns.take(rows.numpy()))

    for event in range(3):
        steps = [rows for _, rows in seen[4 * event : 4 * event + 4]]
        assert torch.equal(of(shared, steps[0]), of(shared, steps[1]))
        if event:  # while B is 0, A has no gradient
            assert not torch.equal(of(own, steps[0]), of(own, steps[1]))
        assert torch.equal(of(own, steps[1]), of(own, steps[3]))
        assert not torch.equal(of(shared, steps[2]), of(shared, steps[3]))
        assert torch.equal(of(own, steps[3]), of(own, after[event]))  # gossip does not touch it
        assert not torch.equal(of(shared, steps[3]), of(shared, after[event]))


def test_with_no_radius_sam_is_the_plain_step_to_the_bit(run):
    plain, none, some = (run(method=m) for m in ("dfed-alt", "dfed-salt:rho=0", "dfed-salt:rho=0.5"))
    for client in range(CLIENTS):
        assert torch.equal(plain.client(client).row, none.client(client).row)
        assert not torch.equal(plain.client(client).row, some.client(client).row)


def test_sam_looks_exactly_rho_away_and_comes_back():
    method, state = build_method("dfed-salt:rho=0.25"), State(torch.randn(CLIENTS, LAYOUT.columns))
    method.begin(state, LAYOUT)
    plan = method.plan(Plan.of_clients(LAYOUT.columns, np.full(CLIENTS, 4)), LAYOUT)
    before = state.adapter.clone()
    for phase, looks in zip(plan.phases, (1, 2), strict=True):
        step, at = Step(plan, phase, 0, torch.zeros(CLIENTS, LAYOUT.columns), torch.ones(CLIENTS)), []

        def compute(step=step, at=at, phase=phase):
            """The gradients of 1/2 sum x^2 over what is trained; client 2 has none."""
            at.append(state.adapter.clone())
            step.gradients.zero_()
            for start, stop in phase.trained.spans:
                step.gradients[:, start:stop] = state.adapter[:, start:stop]
            step.gradients[2] = 0.0
            return torch.full((CLIENTS,), float(len(at)))

        losses = method.gradient(compute, state, step)
        assert len(at) == looks
        assert (losses == 1.0).all()  # where the client is
        assert torch.equal(state.adapter, before)
    away = at[1] - before
    expected = torch.tensor([0.25, 0.25, 0.0, 0.25])
    torch.testing.assert_close(away.norm(dim=1), expected)
    assert not away[:, slice(*LAYOUT.of_kinds("head").spans[0])].any()
    trained = plan.phases[1].trained
    np.testing.assert_array_equal(trained.take(step.gradients.numpy())[0], trained.take(at[1].numpy())[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "dfed-alt", "local_steps": 1},
            "a client has one local step a round. Set local_steps to at least 2",
        ),
        ({"method": "dfed-alt:personal=C"}, "personal='?C'? must be one of head, A, B"),
        ({"method": "dfed-alt:share=1"}, "share='?1'? must be a number above 0 and at most 0.99"),
    ],
)
def test_what_cannot_be_done_in_turns_is_refused(run, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(**settings)


def test_a_head_that_is_not_there_cannot_be_personal():
    plan = Plan.of_clients(14, np.full(CLIENTS, 4))
    with pytest.raises(ConfigError, match=r"no trained head to keep personal\. Use personal=B"):
        build_method("dfed-alt").plan(plan, Layout(LAYOUT.blocks[:2]))


def test_columns_that_both_have():
    one, other = Columns.of(20, [(0, 4), (6, 12), (15, 20)]), Columns.of(20, [(2, 8), (10, 16)])
    assert (one & other).spans == (other & one).spans == ((2, 4), (6, 8), (10, 12), (15, 16))
    assert (one & one.rest).count == 0
    assert one & Columns.all(20) == one
