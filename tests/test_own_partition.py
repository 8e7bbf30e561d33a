"""Partitioners of the user's own: what they may do, and what is said of a mistake."""

import numpy as np
import pytest

import declora
from data_rows import text_data
from declora.data import partition
from declora.errors import ConfigError


def divided(function, rows=12, clients=3):
    return partition(function, text_data([0, 1] * (rows // 2)), clients, seed=0)


def test_a_partitioner_gets_data_clients_and_draws_of_the_seed():
    def halves(data, clients, rng):
        assert data.labels().tolist() == [0, 1] * 6
        return np.split(rng.permutation(12)[:9], clients)

    found, again = divided(halves), divided(halves)
    assert found.name == "halves"
    assert [shard.tolist() for shard in found.shards] == [shard.tolist() for shard in again.shards]
    assert [len(shard) for shard in found.shards] == [3, 3, 3]
    assert all((np.diff(shard) > 0).all() and shard.dtype == np.int64 for shard in found.shards)


def test_a_partitioner_may_be_an_object_with_options_and_give_lists():
    class Every:
        def __init__(self, step):
            self.step = step

        def __call__(self, data, clients, rng):
            return [range(client, 12, self.step) for client in range(clients)]

    assert divided(Every(3)).name == "Every(step=3)"
    assert divided(Every(4)).shards[1].tolist() == [1, 5, 9]
    assert declora.SimulationConfig(partition=Every(3)).describe()["partition"] == "<Every(step=3)>"
    with pytest.raises(ConfigError, match=r"partition='Every' is a class. Give an object of it, Every\(...\)"):
        divided(Every)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "partition='mine' gives a NoneType; it must give the rows of each client, in a list"),
        ([[0], [1]], "gives the rows of 2 clients, but clients=3"),
        ([[0], [], [2]], "partition='mine', client 1 has no rows"),
        ([[0], [0.5], [2]], r"client 1: the rows are float64 \[1\]; they must be a list of whole numbers"),
        ([[0], [True, False], [2]], r"client 1: the rows are bool \[2\].*numpy.flatnonzero"),
        ([[0], [[1], [2, 3]], [2]], "client 1: the rows are .*they must be a list of whole numbers"),
        ([[0], [[1, 2]], [3]], r"client 1: the rows are int64 \[1, 2\]"),
        ([[0], [12], [2]], "client 1: row 12 is none of the training rows 0..11"),
        ([[0], [-1], [2]], "client 1: row -1 is none of"),
        ([[0], [5, 5], [2]], "client 1 has row 5 twice"),
        ([[0, 7], [5], [3, 7]], "gives row 7 to client 0 and to client 2"),
        ([0, 1, 2], r"client 0: the rows are int64 \[\]"),
    ],
)
def test_what_a_partitioner_gives_is_checked(given, message):
    def mine(data, clients, rng):
        return given

    with pytest.raises(ConfigError, match=message):
        divided(mine)


def test_an_exception_of_a_partitioner_passes_through():
    def fail(data, clients, rng):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        divided(fail)
