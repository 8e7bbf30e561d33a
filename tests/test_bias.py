"""Methods against the bias of unlike data, on quadratics, by the gossip of a run: against float64 oracles (V28)."""

import numpy as np
import pytest
import torch

from declora.codec import parse_codec
from declora.federation import Federation
from declora.gossip import Gossip
from declora.methods import Step, build_method
from declora.model import Block, Layout
from declora.plan import Columns, Phase, Plan
from declora.state import State
from declora.topology import Topology
from quadratics import Quadratics, constant, d2, exact_diffusion, k_gt, last, plain

TASK = Quadratics()
CLIENTS, COLUMNS = TASK.start.shape
RATE, ROUNDS = 0.1, {1: 1500, 4: 600}  # by local steps


class Rounds:
    """A run of a method whose local steps are SGD on the quadratics, float32."""

    def __init__(self, method, *, clients=CLIENTS, codec="none", topology="ring", local=1, gamma=None):
        self.method, self.local = build_method(method), local
        planned = Federation(clients, 1, Topology.build(topology, clients), parse_codec(codec))
        self.federation = self.method.arrange(planned)
        self.layout = Layout([Block("x", (COLUMNS,), "A", 0)])
        self.state = State(torch.zeros(clients, COLUMNS))
        self.method.begin(self.state, self.layout)
        sent = self.plan(0).sent
        self.gossip = Gossip(
            self.federation, self.method, self.layout, self.state, sent=sent, gamma=gamma, version="1", seed=0
        )

    def plan(self, event):
        topology, whole = self.federation.topology, Columns.all(COLUMNS)
        steps = np.full(self.federation.clients, self.local)
        plan = Plan(event, (Phase(steps, whole),), whole, topology.round(event))
        return self.method.plan(plan, self.layout)

    def run(self, rounds, rate=RATE, after=lambda state: None):
        state, method = self.state, self.method
        for event in range(rounds):
            plan = self.plan(event)
            method.before_round(state, plan)
            rates = torch.full((len(state.adapter),), rate)
            for number in range(self.local):
                gradient = torch.from_numpy(TASK.gradient(state.adapter.double().numpy())).float()
                state.adapter.sub_(rate * gradient)
                method.after_step(state, Step(plan, plan.phases[0], number, gradient, rates))
            inbox = self.gossip.round(plan, state, method)
            method.after_round(state, plan, inbox)
            after(state)
        return state.adapter.double().numpy()


def matrix(rounds):
    dense = rounds.federation.topology.weights(0).toarray()
    return lambda t: dense


@pytest.mark.parametrize("local", [1, 4])
def test_plain_gossip_keeps_a_bias_that_tracking_has_not(local):
    rounds = Rounds("dec-lora", local=local)
    found = rounds.run(ROUNDS[local])
    expected = last(plain(TASK, matrix(rounds), constant(RATE, local, ROUNDS[local])))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert TASK.error(found) > 0.1
    # float32 rounds x, of magnitude 10, to 5e-7 in every step; what is added up is damped by the curvature's 0.2 x 0.1.
    assert TASK.error(Rounds("gradient-tracking", local=local).run(ROUNDS[local])) < 1e-4


@pytest.mark.parametrize("local", [1, 4])
@pytest.mark.parametrize("topology", ["ring", "exponential", "one-peer-exponential"])
def test_gradient_tracking_is_k_gt(local, topology):
    rounds, few = Rounds("gradient-tracking", local=local, topology=topology), 30
    graph = rounds.federation.topology
    expected, correction = list(k_gt(TASK, lambda t: graph.weights(t).toarray(), constant(RATE, local, few)))[-1]
    np.testing.assert_allclose(rounds.run(few), expected, atol=2e-5)
    np.testing.assert_allclose(rounds.state.room("gradient-tracking")["correction"], correction, atol=1e-4)


@pytest.mark.parametrize("method", ["gradient-tracking", "d2"])
@pytest.mark.parametrize("codec", ["none", "q8", "q4+choco", "q8+ef"])
def test_the_corrections_of_all_clients_sum_to_nothing_whatever_the_codec_does(method, codec):
    sums = []
    rounds = Rounds(method, codec=codec)
    rounds.run(50, after=lambda state: sums.append(state.room(method)["correction"].double().sum(0)))
    # Each round adds 10 x 3 roundings of numbers of magnitude up to 20.
    # D^2 divides what gossip moved by the rate: roundings are 1 / RATE times as large.
    assert torch.stack(sums).abs().max() < 50 * 30 * 20 * 2**-24 / RATE
    assert rounds.state.room(method)["correction"].abs().max() > 0.1


@pytest.mark.parametrize("local", [1, 4])
def test_d2_is_its_recurrence_on_the_lazy_ring_and_reaches_the_optimum_of_all(local):
    rounds, few = Rounds("d2", local=local), 30
    dense = rounds.federation.topology.weights(0).toarray()
    np.testing.assert_allclose(dense, (np.eye(CLIENTS) + Topology.build("ring", CLIENTS).weights(0).toarray()) / 2)
    expected, correction = list(exact_diffusion(TASK, matrix(rounds), constant(RATE, local, few)))[-1]
    np.testing.assert_allclose(rounds.run(few), expected, atol=2e-5)
    np.testing.assert_allclose(rounds.state.room("d2")["correction"], correction, atol=1e-3)
    assert TASK.error(Rounds("d2", local=local).run(ROUNDS[local])) < 1e-4


def test_d2_of_one_step_a_round_is_d2_as_it_was_published():
    rounds = Rounds("d2")
    np.testing.assert_allclose(rounds.run(30), last(d2(TASK, matrix(rounds), constant(RATE, 1, 30))), atol=2e-5)


@pytest.mark.parametrize("local", [1, 4])
@pytest.mark.parametrize("kappa", [0.2, 0.5])
def test_primal_dual_comes_to_the_optimum_of_all_and_its_duals_cancel(kappa, local):
    rounds, sums = Rounds(f"primal-dual:kappa={kappa}", local=local), []
    found = rounds.run(ROUNDS[local], after=lambda state: sums.append(state.room("primal-dual")["correction"].sum(0)))
    assert TASK.error(found) < 1e-4
    assert torch.stack(sums).abs().max() < 1e-3  # of corrections of about 2, rounded to float32 in each round


def test_primal_dual_is_dec_lora_without_a_step_of_the_duals_and_d2_with_a_whole_one():
    for kappa, other in ((0, "dec-lora"), (1, "d2")):
        found = [Rounds(method).run(30) for method in (f"primal-dual:kappa={kappa}", other)]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("kappa", "lazy"), [(0.9, False), (1.0, True)])
def test_primal_dual_is_stable_up_to_its_edge_and_made_lazy_beyond(kappa, lazy):
    """An even ring has the eigenvalue -1/3, the edge of kappa = 1."""
    rounds = Rounds(f"primal-dual:kappa={kappa}")
    assert any("gossip goes half as far" in note for note in rounds.federation.notes) == lazy
    assert TASK.error(rounds.run(ROUNDS[1])) < 1e-4
