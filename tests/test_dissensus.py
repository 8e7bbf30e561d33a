"""Different lies to different neighbours: each hears its own, in messages, memories and bytes of their own."""

import numpy as np
import pytest
import torch

from declora.attacks import parse_attack
from declora.errors import ConfigError
from declora.exchange import Routes
from declora.methods import build_method
from declora.topology import Topology
from federations import Recorded, federation_of, gossip_of, rows_of

CLIENTS, COLUMNS = 12, 40
ATTACKERS = [2, 7]
HONEST = [client for client in range(CLIENTS) if client not in ATTACKERS]


def attacked(topology, scale=1.0, *, exchange=None, **settings):
    federation = federation_of(
        topology, clients=CLIENTS, attack=f"dissensus:scale={scale}", attackers=ATTACKERS, exchange=exchange, **settings
    )
    return gossip_of(federation, torch.zeros(CLIENTS, COLUMNS))


def pulls(weights, rows):
    """What the honest alone would move client i by: sum over honest j of w_ij (x_j - x_i)."""
    honest = weights[:, HONEST]
    return honest @ rows[HONEST] - honest.sum(axis=1, keepdims=True) * rows


@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("topology", ["erdos-renyi:0.4", "complete", "one-peer-exponential"])
def test_whoever_hears_a_liar_is_moved_by_one_minus_scale_times_what_the_honest_say(topology, scale):
    graph = Topology.build(topology, CLIENTS, seed=1)
    gossip, rows = attacked(graph, scale), rows_of(CLIENTS, COLUMNS)
    for t in range(graph.period + 1):
        weights, before = graph.weights(t).toarray(), rows.double().numpy()
        gossip.round(t, rows)
        hears = weights[:, ATTACKERS].any(axis=1)
        factor = np.where(hears, 1 - scale, 1.0)[:, None]
        expected = before + factor * pulls(weights, before)
        np.testing.assert_allclose(rows.numpy()[HONEST], expected[HONEST], atol=1e-5)


def test_it_keeps_linear_gossip_from_agreeing_and_clipped_gossip_agrees():
    apart = {}
    for mixer in ("linear", "clipped:f=2"):
        gossip, rows = attacked("complete", mixer=mixer), rows_of(CLIENTS, COLUMNS)
        for t in range(20):
            gossip.round(t, rows)
        apart[mixer] = float(rows[HONEST].std(dim=0).mean())
    assert apart["linear"] > 0.8
    assert apart["clipped:f=2"] < 0.1


def test_each_edge_from_a_liar_carries_a_message_of_its_own_and_the_same_bytes_as_any_other():
    recorded = Recorded()
    graph = Topology.build("erdos-renyi:0.4", CLIENTS, seed=1)
    traffic = attacked(graph, exchange=recorded).round(0, rows_of(CLIENTS, COLUMNS))
    frames, edges = recorded.frames[0], recorded.edges[0]
    private = [(a, i) for a, i in graph.edges(0).tolist() if a in ATTACKERS and i in HONEST]
    assert len(frames) == CLIENTS + len(private)
    assert edges[edges[:, 0] >= CLIENTS].tolist() == [[CLIENTS + p, i] for p, (_, i) in enumerate(private)]
    senders = frames[:, 48:52].copy().view("<u4")[:, 0].tolist()
    assert senders == [*range(CLIENTS), *(a for a, _ in private)]
    assert len({bytes(frame[96:]) for frame in frames[CLIENTS:]}) == len({i for _, i in private})
    degrees = np.bincount(graph.edges(0)[:, 0], minlength=CLIENTS)
    assert traffic.bytes_sent.tolist() == (degrees * (96 + 4 * COLUMNS)).tolist()


@pytest.mark.parametrize("codec", ["q8+choco", "q8+ef"])
def test_every_holder_keeps_its_own_copy_of_a_liar(codec):
    """With scale 1 the honest around a liar stay where they are, but for the codec: q8 on differences of about 1."""
    gossip, rows = attacked("complete", codec=codec), rows_of(CLIENTS, COLUMNS)
    before = rows.clone()
    for t in range(6):
        gossip.round(t, rows)
    assert len(gossip.memory.state) == CLIENTS + len(ATTACKERS) * len(HONEST)
    assert (rows - before)[HONEST].abs().max() < 0.2


def test_without_private_messages_routes_are_the_clients_themselves():
    routes, graph = Routes(CLIENTS), Topology.build("ring", CLIENTS)
    rows = rows_of(CLIENTS, COLUMNS).numpy()
    assert routes.edges(graph.edges(0)) is graph.edges(0)
    assert routes.weights(graph.weights(0)) is graph.weights(0)
    assert routes.spread(rows) is rows
    assert routes.senders.tolist() == list(range(CLIENTS))


def test_a_server_cannot_be_told_different_things():
    federation = federation_of("ring", clients=CLIENTS, attack="dissensus", attackers=ATTACKERS)
    with pytest.raises(ConfigError, match="all tell one server"):
        build_method("fedavg").arrange(federation)


def test_an_attack_forgets_the_graph_of_the_run_before():
    attack = parse_attack("dissensus", ATTACKERS, clients=CLIENTS, seed=0)
    for name, count in (("complete", 20), ("ring", 4)):
        attack.start(Topology.build(name, CLIENTS).matrices, {})
        assert len(attack.private) == count
