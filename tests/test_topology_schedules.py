"""Time-varying topologies: exact after their period, few peers a round."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from declora.errors import TopologyError
from declora.topology import Topology
from graphs import dense, edges, period_product


@pytest.mark.parametrize("n", range(2, 34))
def test_one_peer_exponential_is_exact_iff_n_is_a_power_of_two(n: int) -> None:
    topology = Topology.build("one-peer-exponential", n)
    assert topology.period == math.ceil(math.log2(n))
    gap = np.abs(period_product(topology) - 1 / n).max()
    if n & (n - 1) == 0:
        assert gap <= 1e-12
        assert topology.slem == 0
    else:
        assert gap > 1e-3
        assert 0 < topology.slem < 1


def test_one_peer_exponential_sends_to_the_client_two_to_the_t_ahead() -> None:
    topology = Topology.build("one-peer-exponential", 6)
    for t, hop in enumerate([1, 2, 4, 1]):
        assert edges(topology, t) == sorted((i, (i + hop) % 6) for i in range(6))
    assert topology.neighbours(2, 0) == [2]
    assert not topology.symmetric


@pytest.mark.parametrize("k", range(1, 5))
def test_base_graph_is_exact_symmetric_and_of_bounded_degree_for_every_n(k: int) -> None:
    for n in range(2, 41):
        topology = Topology.build(f"base:{k}", n)
        np.testing.assert_allclose(period_product(topology), 1 / n, atol=1e-12)
        assert topology.slem == 0
        for t in range(topology.period):
            matrix = dense(topology, t)
            np.testing.assert_array_equal(matrix, matrix.T)
            np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
            assert max(len(topology.neighbours(t, i)) for i in range(n)) <= k


@pytest.mark.parametrize(("n", "period"), [(3, 3), (5, 5), (10, 7), (20, 9), (25, 9), (16, 4)])
def test_base_graph_of_one_peer_has_the_known_period(n: int, period: int) -> None:
    assert Topology.build("base:1", n).period == period


def test_slem_of_a_schedule_is_the_mean_factor_of_a_period() -> None:
    topology = Topology.build("one-peer-exponential", 6)
    norm = np.linalg.norm(period_product(topology) - 1 / 6, 2)
    assert topology.slem == pytest.approx(norm ** (1 / 3), abs=1e-12)


def test_schedule_of_ones_own_may_be_disconnected_in_a_round_but_not_over_the_period() -> None:
    def pairs(*ends: tuple[int, int]) -> NDArray[np.float64]:
        matrix = np.eye(4)
        for i, j in ends:
            matrix[[i, i, j, j], [i, j, i, j]] = 0.5
        return matrix

    topology = Topology("mine", 4, (csr_array(pairs((0, 1), (2, 3))), csr_array(pairs((0, 2), (1, 3)))))
    assert (topology.period, topology.slem, topology.symmetric) == (2, 0, True)
    assert edges(topology, 3) == edges(topology, 1) == [(0, 2), (1, 3), (2, 0), (3, 1)]
    with pytest.raises(TopologyError, match=r"topology='mine': not connected, client 0 and client 2 .* 2 comp"):
        Topology("mine", 4, (csr_array(pairs((0, 1))), csr_array(pairs((2, 3)))))
    bad = pairs((2, 3))
    bad[3, 2] = 0
    with pytest.raises(TopologyError, match=r"'mine, matrix 1': row 3 sums to 0.5"):
        Topology("mine", 4, (csr_array(pairs((0, 1))), csr_array(bad)))
    with pytest.raises(TopologyError, match="at least one matrix"):
        Topology("mine", 4, ())


def test_every_round_has_edges_of_its_own() -> None:
    topology = Topology.build("one-peer-exponential", 8)
    hops = [{(receiver - sender) % 8 for sender, receiver in edges(topology, t)} for t in range(4)]
    assert hops == [{1}, {2}, {4}, {1}]
