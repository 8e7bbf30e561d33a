"""Runs in which clients count by their samples: fedavg as its paper has it, gossip where it is asked for."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch

import declora
from declora.errors import ConfigError, TopologyError
from declora.methods import Part
from declora.model import Layout
from declora.state import State
from tiny import tiny_bert, tiny_texts

SIZES = [4, 40, 10, 26]
SHARES = torch.tensor(SIZES, dtype=torch.float64) / sum(SIZES)


@pytest.fixture
def run(tokenizer):
    """Returns `simulate` for clients of unequal size; one SGD step a round, so that nothing is clipped or adapted."""

    def simulate(**settings):
        rows, at = tiny_texts(sum(SIZES)), np.cumsum([0, *SIZES])
        defaults = {
            "model": tiny_bert(),
            "tokenizer": tokenizer,
            "data": [rows.select(range(a, b)) for a, b in itertools.pairwise(at)],
            "eval_data": tiny_texts(24, seed=1),
            "clients": len(SIZES),
            "rounds": 1,
            "local_steps": 2,
            "lora": {"r": 2, "target_modules": ["query", "value"]},
            "codec": "none",
            "optimizer": "sgd",
            "learning_rate": 0.5,
            "client_eval_samples": 0,
            "progress": False,
        }
        return declora.simulate(**{**defaults, **settings})

    return simulate


def adapters(result):
    return torch.stack([result.client(i).row for i in range(result.federation.clients)]).double()


def test_fedavg_weighs_each_client_by_its_samples_and_on_request_all_the_same(run):
    alone = adapters(run(method="local"))
    weighted, plain = run(method="fedavg"), run(method="fedavg", weights="uniform")
    for result, mean in ((weighted, SHARES @ alone), (plain, alone.mean(0))):
        torch.testing.assert_close(adapters(result), mean.expand(len(SIZES), -1), atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(result.average.row.double(), mean, atol=1e-7, rtol=1e-6)
    assert (SHARES @ alone - alone.mean(0)).abs().max() > 1e-3
    assert weighted.facts()["weights"].startswith("samples: clients count by theirs")
    assert "0.05 to 0.5 of the whole" in weighted.federation.notes[0]
    assert plain.facts()["weights"] == "uniform"
    assert plain.federation.notes == ()


@pytest.mark.parametrize("topology", ["ring", "star", "complete"])
def test_gossip_by_samples_keeps_the_weighted_mean_which_is_the_averaged_model(run, topology):
    alone = adapters(run(method="local"))
    result = run(topology=topology, weights="samples", rounds=1)
    torch.testing.assert_close(SHARES @ adapters(result), SHARES @ alone, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(result.average.row.double(), SHARES @ alone, atol=1e-7, rtol=1e-6)
    metropolis = run(topology=topology)
    assert metropolis.facts()["weights"] == "metropolis"
    torch.testing.assert_close(metropolis.average.row.double(), alone.mean(0), atol=1e-7, rtol=1e-6)


def test_what_is_evaluated_as_the_average_is_the_weighted_mean(run):
    """Gossip keeps that mean, so on any graph it scores as fedavg's does; the plain mean scores otherwise."""
    weighted, fedavg, plain = (
        run(**settings).history["average_loss"].iloc[-1]
        for settings in ({"weights": "samples", "topology": "ring"}, {"method": "fedavg"}, {"topology": "ring"})
    )
    assert weighted == pytest.approx(fedavg, abs=1e-6)
    assert abs(plain - fedavg) > 1e-4


def test_equal_shards_give_fedavg_the_bits_of_the_plain_mean(tokenizer):
    settings = {"data": tiny_texts(80), "eval_data": tiny_texts(24, seed=1), "tokenizer": tokenizer, "partition": "iid"}
    few = {"clients": 4, "rounds": 2, "client_eval_samples": 0, "progress": False, "lora": {"r": 2}}
    weighted, plain = (
        declora.simulate(model=tiny_bert(), method="fedavg", weights=weights, **settings, **few)
        for weights in (None, "uniform")
    )
    assert torch.equal(adapters(weighted), adapters(plain))
    assert torch.equal(weighted.average.row, plain.average.row)


def test_attackers_do_not_count_in_the_weighted_average(run):
    result = run(weights="samples", topology="complete", mixer="clipped:f=1", attack="alie", attackers=[1])
    honest = [0, 2, 3]
    expected = (SHARES[honest] @ adapters(result)[honest]) / SHARES[honest].sum()
    torch.testing.assert_close(result.average.row.double(), expected, atol=1e-7, rtol=1e-6)


def test_the_mean_is_weighted_by_the_law_over_those_it_is_asked_for():
    state = State(torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [100.0, 200.0, 300.0]]))
    law = np.array([0.5, 0.3, 0.2])
    assert Part().endpoint(state, Layout([]), [0, 2], law).tolist() == pytest.approx([20.5 / 0.7, 41 / 0.7, 61.5 / 0.7])
    assert Part().endpoint(state, Layout([]), [0, 2], None).tolist() == [50.5, 101.0, 151.5]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"method": "fedavg", "weights": "laplacian"}, ConfigError, "weighs the edges of a graph.*weights='samples'"),
        ({"method": "fedavg", "weights": "metropolis"}, ConfigError, "weighs the edges of a graph"),
        ({"method": "fedavg", "weights": "samples", "mixer": "median"}, ConfigError, "counts all neighbours alike"),
        ({"method": "fedavg", "mixer": "push-sum"}, ConfigError, "finds the plain mean.*weights='uniform'"),
        ({"weights": "samples", "mixer": "push-sum"}, TopologyError, "weights='samples' has no effect"),
        ({"weights": "samples", "topology": "base:1"}, TopologyError, "has no effect on topology='base:1'"),
        ({"weights": "samples", "topology": "exponential"}, TopologyError, "needs an undirected graph"),
        (
            {"weights": "samples", "mixer": "krum:f=1", "topology": "complete"},
            ConfigError,
            "counts all neighbours alike",
        ),
        ({"attack": "dissensus", "mixer": "push-sum"}, ConfigError, "tells all the same"),
        ({"attack": "dissensus", "method": "fedavg"}, ConfigError, "all tell one server"),
    ],
    ids=str,
)
def test_weights_that_mean_nothing_are_refused(run, settings, error, message):
    with pytest.raises(error, match=message):
        run(**settings)


def test_fedavg_has_no_use_for_the_graph_of_the_settings(run):
    """Nor for its weights: a matrix brings its own, and fedavg takes samples all the same."""
    result = run(method="fedavg", topology=np.full((4, 4), 0.25), mixer="median")
    assert "weights" not in result.facts()
    assert run(method="fedavg", topology=np.full((4, 4), 0.25)).facts()["weights"].startswith("samples")


def named(*order):
    return nx.relabel_nodes(nx.path_graph(4), dict(enumerate(order)))


def test_names_that_do_not_say_which_client_they_are_are_refused_where_each_has_data_of_its_own(run, tokenizer):
    with pytest.raises(TopologyError, match=r"relabel_nodes\(graph, \{'zurich': 0, 'bern': 1, ...\}\)"):
        run(topology=named("zurich", "bern", "genf", "chur"))
    for order in (("bern", "chur", "genf", "zurich"), ("3", "1", "0", "2"), (9, 4, 6, 5)):
        result = run(topology=named(*order))
        assert (result.federation.notes == ()) == (order == ("3", "1", "0", "2"))
    result = run(topology=named("zurich", "bern", "genf", "chur"), partition="iid")
    assert "0 is 'zurich', 1 is 'bern'" in result.federation.notes[0]


def test_the_nodes_of_an_edge_list_join_their_own_data(run):
    """Texts in order of appearance, 3 1 0 2: the same run as with the numbers."""
    numbers, texts = named(3, 1, 0, 2), named("3", "1", "0", "2")
    assert torch.equal(adapters(run(topology=numbers)), adapters(run(topology=texts)))


def test_a_float32_matrix_is_said_to_have_been_scaled(run):
    ring = declora.Topology.build("ring", 4).weights(0).toarray().astype(np.float32)
    assert "float32 weights" in run(topology=ring).federation.notes[0]
