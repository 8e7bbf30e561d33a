"""Topologies that cannot fit memory are refused before they are built."""

import time

import pytest

from declora import SimulationConfig
from declora.errors import TopologyError
from declora.prepare import plan_federation
from declora.topology import Topology, server


@pytest.mark.parametrize(
    ("spec", "clients", "size"),
    [
        ("base:2147483647", 10**6, "55,999,944,000,000 bytes"),
        ("erdos-renyi:0.5", 10**6, "89,999,910,000,000 bytes"),
        ("random-regular:500000", 10**6, "90,000,000,000,000 bytes"),
        ("watts-strogatz:500000:0.1", 10**6, "90,000,000,000,000 bytes"),
        ("star", 2**31 - 1, "257,698,037,640 bytes"),
        ("hypercube", 2**30, "1,932,735,283,200 bytes"),
    ],
)
def test_a_topology_beyond_all_memory_is_refused_with_its_bytes_at_once(spec, clients, size, monkeypatch):
    monkeypatch.setattr("declora.process.memory", lambda: 10**11)
    start = time.perf_counter()
    with pytest.raises(TopologyError, match=rf"topology='{spec.split(':')[0]}.* of {clients:,} clients needs {size}"):
        Topology.build(spec, clients)
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize(
    "needing",
    [
        {"mixer": "median"}, {"mixer": "push-sum"}, {"faults": "loss:0.1"}, {"clock": "lognormal:step=1,latency=0.1"},
        {"attack": "sign-flip", "attackers": [1]}, {"detect": "lazy"},
    ],
)  # fmt: skip
def test_what_needs_a_weight_for_each_pair_of_all_is_refused_where_these_do_not_fit(needing, monkeypatch):
    monkeypatch.setattr("declora.process.memory", lambda: 10**9)
    settings = {"clients": 10_000, "model": "tiny", "topology": "complete"}
    assert plan_federation(SimulationConfig(**settings))[0].topology.messages(0) == 99_990_000
    with pytest.raises(TopologyError, match=r"topology='complete' of 10,000 clients needs 2,000,000,000 bytes"):
        plan_federation(SimulationConfig(**settings, **needing))
    for everybody in (Topology.build("complete", 10_000), server(10_000)):
        with pytest.raises(TopologyError, match=r"topology='complete' of 10,000 clients needs 2,000,000,000 bytes"):
            everybody.weights(0)


@pytest.mark.parametrize("clients", [2**31, 10**4000])
def test_more_clients_than_int32_counts_are_refused(clients):
    with pytest.raises(TopologyError, match="must be at most 2,147,483,647"):
        Topology.build("ring", clients)


@pytest.mark.parametrize("clients", [1, 3, 12])
def test_more_peers_than_there_are_clients_are_all_of_them(clients):
    """Everybody meets everybody in one round, also where the number of peers is too large to count up to."""
    topology = Topology.build(f"base:{2**31 - 1}", clients)
    assert topology.period == 1
    assert topology.weights(0).toarray() == pytest.approx(1 / clients)


@pytest.mark.parametrize("probability", ["1e-17", "1e-320", "-0.0"])
def test_a_probability_that_is_0_beside_1_draws_no_edges(probability):
    with pytest.raises(TopologyError, match="none of 100 graphs drawn for clients=10 and seed=0 was connected"):
        Topology.build(f"erdos-renyi:{probability}", 10)
