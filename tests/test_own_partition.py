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


def test_lists_of_rows_are_what_each_client_has():
    for given in ([[0, 5, 1], [11, 2], range(3, 5)], [np.array([1, 5, 0]), np.array([2, 11]), np.array([4, 3])]):
        found = divided([list(rows) for rows in given] if isinstance(given[0], list) else given)
        assert found.name == "rows"
        assert [shard.tolist() for shard in found.shards] == [[0, 1, 5], [2, 11], [3, 4]]
        assert found.counts["total"].tolist() == [3, 2, 2]
    square = divided([[0, 1], [2, 3]], clients=2)  # as many rows as there are classes
    assert [shard.tolist() for shard in square.shards] == [[0, 1], [2, 3]]
    described = declora.SimulationConfig(partition=[np.array([0, 1]), [2]], clients=2).describe()["partition"]
    assert described == [[0, 1], [2]]


def test_whole_numbers_that_are_proportions_stay_those():
    found = divided([[1, 0], [0, 1]], clients=2)
    assert found.name == "labels"
    assert found.counts.iloc[:, :2].to_numpy().tolist() == [[6, 0], [0, 6]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[0, 1], [2, 3]], r"^partition=\[...\] gives the rows of 2 clients, but clients=3"),
        ([[0, 1], [], [2, 3]], r"^partition=\[...\], client 1 has no rows"),
        ([[0, 1], [12], [2, 3]], r"client 1: row 12 is none of the training rows 0..11"),
        ([[0, 1], [3], [2, 3]], r"gives row 3 to client 1 and to client 2"),
        ([[True] * 12, [1], [2]], "client 0: the rows are bool .*numpy.flatnonzero"),
        ([[0.5, 0.5], [1, 0]], "label proportions of shape"),
        ([[0], [0.5], [1]], r"label proportions of shape.*or each client's rows as a list of whole numbers"),
    ],
)
def test_lists_that_are_no_partition_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        divided(given)


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
