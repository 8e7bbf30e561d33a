"""RW-LoRA: one token walks, uniformly in the long run (V14), and only its holder trains."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from declora.errors import ConfigError
from declora.methods.rw_lora import Walk
from declora.run import Run
from declora.topology import Topology

CLIENTS, ROUNDS = 4, 8


@pytest.mark.parametrize("topology", ["ring", "star", "erdos-renyi:0.6", "path"])
def test_every_client_holds_the_token_equally_often(topology):
    """Chi-square of visits of five clients, 31 steps apart: of the second eigenvalue, at most .81 in size, as good as
    nothing is left. The seed is fixed, so p > .01 holds always or never.
    """
    walk = Walk(Topology.build(topology, 5, seed=3), seed=0)
    visits = np.bincount([walk.place(31 * t) for t in range(1, 401)], minlength=5)
    assert stats.chisquare(visits).pvalue > 0.01


def test_the_walk_goes_along_edges_and_is_a_function_of_the_seed_and_the_round():
    graph = Topology.build("erdos-renyi:0.5", 8, seed=3)
    walk, edges = Walk(graph, seed=1), set(map(tuple, graph.edges(0).tolist()))
    places = [walk.place(t) for t in range(200)]
    assert all(one == other or (one, other) in edges for one, other in itertools.pairwise(places))
    assert places[0] == 0
    assert [Walk(graph, seed=1).place(t) for t in (150, 30, 199)] == [places[t] for t in (150, 30, 199)]
    assert [Walk(graph, seed=2).place(t) for t in range(200)] != places


@pytest.fixture
def run(tiny_run):
    return partial(tiny_run, method="rw-lora", rounds=ROUNDS)


def test_only_the_holder_trains_and_only_the_next_one_hears_it(run, monkeypatch):
    after, ends, original = [], [], Run._round

    def watched(self, event, before):
        if not after:
            after.append(self.state.adapter.clone())
        record = original(self, event, before)
        after.append(self.state.adapter.clone())
        ends.append(self._measuring.endpoint(self.state))
        return record

    monkeypatch.setattr(Run, "_round", watched)
    result = run(topology="complete")
    walk = Walk(result.federation.topology, result.config.seed)
    hops = 0
    for event in range(ROUNDS):
        holder, following = walk.place(event), walk.place(event + 1)
        hops += holder != following
        for client in range(CLIENTS):
            moved = not torch.equal(after[event][client], after[event + 1][client])
            assert moved == (client in (holder, following))
        assert torch.equal(after[event + 1][holder], after[event + 1][following])
        assert torch.equal(ends[event], after[event + 1][following])
        record = result.history.iloc[event]
        message = 96 + 4 * result.average.layout.columns
        assert record["bytes_sent"] == (message if holder != following else 0)
        assert record["samples_seen"] == 8
        own = result.clients[result.clients["round"] == event + 1].set_index("client")
        assert own["local_steps"].tolist() == [2 * (client == holder) for client in range(CLIENTS)]
        assert record["train_loss"] == own["train_loss"][holder]
        assert own["train_loss"].isna().sum() == CLIENTS - 1
    assert hops > ROUNDS / 2


def test_of_one_client_it_is_local_training(run):
    alone, local = (run(method=m, clients=1, topology="complete", reset_moments=True) for m in ("rw-lora", "local"))
    assert torch.equal(alone.average.row, local.average.row)


def test_a_message_that_loses_something_arrives_as_it_was_decoded(run):
    result = run(codec="q8", rounds=1, topology="complete")
    walk = Walk(result.federation.topology, result.config.seed)
    sender, receiver = result.client(walk.place(0)).row, result.client(walk.place(1)).row
    assert walk.place(0) != walk.place(1)
    error = (sender - receiver).abs().max()
    assert 0 < error <= sender.abs().max() / 127


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "q4+choco"}, "one client hears a message. Use a codec without a memory, e.g. codec='q4"),
        ({"mixer": "median", "topology": "complete"}, "mixer='median' would have no effect"),
        ({"attack": "sign-flip", "attackers": [1]}, "no rule can outvote it"),
        ({"topology": "exponential"}, "topology='exponential' has edges of one way"),
        ({"method": "fedavg+rw-lora"}, "both 'fedavg' and 'rw-lora' say who talks to whom"),
    ],
)
def test_what_makes_no_sense_for_a_walk_is_refused(run, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(**settings)
