"""What each scheme promises of its shards, against closed forms; together with `test_partition` on what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_rows import text_data
from declora.data import partition
from declora.data.schemes import by_proportions, by_value, dirichlet, iid, label_shards, quantity


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 60), clients=st.integers(1, 12), seed=st.integers(0, 99))
def test_iid_sizes_are_the_quotient_and_the_first_clients_have_the_rest(rows: int, clients: int, seed: int) -> None:
    sizes = [len(shard) for shard in iid(rows, clients, rng(seed))]
    assert sizes == [rows // clients + (client < rows % clients) for client in range(clients)]


def test_iid_puts_every_row_with_every_client_equally_often() -> None:
    # 4,000 draws: how often row 0 is with client 0 of 4 is binomial, deviation sqrt(4000 * 1/4 * 3/4) = 27.4.
    draws = rng(3)
    found = sum(0 in iid(8, 4, draws)[0] for _ in range(4000))
    assert abs(found - 1000) < 4 * 27.4


def test_dirichlet_pieces_are_the_shares_to_the_row() -> None:
    # The scheme draws, class after class, an order of the class's rows and then the shares; so does this test.
    labels, clients, alpha = np.arange(300) % 3, 4, 0.7
    shards, draws = dirichlet(labels, clients, alpha, rng(5)), rng(5)
    for label in range(3):
        members = draws.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(draws.dirichlet(np.full(clients, alpha)))[:-1] * len(members)).astype(int)
        for shard, piece in zip(shards, np.split(members, cuts), strict=True):
            assert set(piece.tolist()) == set(shard[labels[shard] == label].tolist())


@pytest.mark.parametrize("alpha", [1e-3, 1e-100, 1e-300])
def test_a_tiny_alpha_gives_each_class_to_a_single_client(alpha: float) -> None:
    # P(a share between 1 in 1000 and 999 in 1000) is about alpha * clients * ln(10^6), below 0.05 at the largest.
    labels = np.repeat(np.arange(3), 100)
    shards = dirichlet(labels, 4, alpha, rng(1))
    for label in range(3):
        # 97 and not 100: of four clients at least one gets a row of another only because it would have none.
        assert max(int((labels[shard] == label).sum()) for shard in shards) >= 97


@pytest.mark.parametrize("alpha", [1e12, 1e300, 1e308, 1.7e308])
def test_a_huge_alpha_gives_every_client_an_equal_share_of_every_class(alpha: float) -> None:
    labels = np.repeat(np.arange(3), 100)
    for shard in dirichlet(labels, 4, alpha, rng(1)):
        assert np.bincount(labels[shard]).tolist() == [25, 25, 25]
    assert [len(shard) for shard in quantity(100, 4, alpha, rng(1))] == [25, 25, 25, 25]


def test_quantity_sizes_are_the_shares_to_the_row() -> None:
    sizes, draws = [len(shard) for shard in quantity(1000, 5, 2.0, rng(7))], rng(7)
    draws.permutation(1000)
    cuts = np.rint(np.cumsum(draws.dirichlet(np.full(5, 2.0)))[:-1] * 1000)
    assert sizes == np.diff([0, *cuts, 1000]).astype(int).tolist()


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=12, max_size=60), hands=st.sampled_from([(3, 1), (3, 2), (2, 3)]))
def test_label_shards_deal_out_equal_pieces_of_the_sorted_rows(labels: list[int], hands: tuple[int, int]) -> None:
    clients, per_client = hands
    found = label_shards(np.array(labels), clients, per_client, rng(2))
    pieces = [piece.tolist() for piece in np.array_split(np.sort(labels), clients * per_client)]
    # Each hand is `per_client` of the pieces, each piece is in one hand: the hands' labels are some dealing of them.
    dealt = sorted(sorted(np.array(labels)[shard].tolist()) for shard in found)

    def hands_of(order: tuple[int, ...]) -> list[list[int]]:
        starts = range(0, len(order), per_client)
        return sorted(sorted(itertools.chain(*(pieces[i] for i in order[at : at + per_client]))) for at in starts)

    assert any(dealt == hands_of(order) for order in itertools.permutations(range(len(pieces))))


@pytest.mark.parametrize(
    ("proportions", "classes", "size"),
    [
        # 0.1 + 0.2 is above 0.3 in floating point, and 30 / (0.1 + 0.2) below 100: the quotient must not lose a row.
        ([[0.1, 0.9], [0.2, 0.8]], [30, 170], 100),
        ([[0.7, 0.3], [0.1, 0.9], [0.2, 0.8]], [100, 200], 100),
        ([[1, 0], [0, 1]], [7, 5], 5),
        ([[0.5, 0.5]], [9, 9], 18),
        ([[1, 0], [0, 1]], [1, 1], 1),
        ([[1, 0, 0], [0, 1, 0]], [4, 4, 0], 4),  # a class that nobody has and nobody wants
        ([[0.5, 0.5], [0.5, 0.5]], [3, 3], 2),  # of three rows each, both clients would round up in class 0
    ],
)
def test_proportions_take_as_many_rows_as_the_scarcest_class_allows(
    proportions: list[list[float]], classes: list[int], size: int
) -> None:
    labels = np.repeat(np.arange(len(classes)), classes)
    wanted = np.array(proportions)
    shards = by_proportions(labels, wanted, rng())
    assert shards is not None
    counts = np.array([np.bincount(labels[shard], minlength=len(classes)) for shard in shards])
    assert counts.tolist() == np.rint(wanted * size).astype(int).tolist()


def test_proportions_round_by_largest_remainder_and_ties_go_to_the_first_class() -> None:
    # Class 2 allows 4 / 0.34 = 11 rows: 3.63 3.63 3.74, of which the last is rounded up first, then the first.
    labels = np.repeat(np.arange(3), [10, 10, 4])
    shards = by_proportions(labels, np.array([[0.33, 0.33, 0.34]]), rng())
    assert shards is not None
    assert np.bincount(labels[shards[0]]).tolist() == [4, 3, 4]


def test_groups_go_largest_first_to_the_client_with_the_fewest_rows() -> None:
    # By size 10, 6, 5, 4, 3: the first client gets 10 and 4, the second 6, 5 and 3; in sorted order it were 3 4 5 6 10.
    values = [value for value, size in enumerate((3, 4, 5, 6, 10)) for _ in range(size)]
    shards = by_value(values, 2)
    assert [sorted({values[row] for row in shard}) for shard in shards] == [[1, 4], [0, 2, 3]]


def test_groups_of_one_size_go_in_sorted_order_to_the_lowest_client() -> None:
    assert [shard.tolist() for shard in by_value(["d", "c", "b", "a"], 2)] == [[3, 1], [2, 0]]
    assert [shard.tolist() for shard in by_value([2, 1, 10], 3)] == [[1], [0], [2]]


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.integers(0, 6), min_size=3, max_size=60), clients=st.integers(1, 3), seed=st.integers(0, 9))
def test_a_column_keeps_every_row_once_and_every_value_whole(values: list[int], clients: int, seed: int) -> None:
    if len(set(values)) < clients:
        return
    parts = partition("column:site", text_data([i % 2 for i in range(len(values))], site=values), clients, seed=seed)
    assert sorted(np.concatenate(parts.shards).tolist()) == list(range(len(values)))
    owners = [{values[row] for row in shard} for shard in parts.shards]
    assert sum(map(len, owners)) == len(set(values))


def test_a_class_named_total_does_not_hide_the_rows_of_a_client() -> None:
    data = text_data([0, 1] * 6)
    named = type(data)(**{**data.__dict__, "label_names": ("total", "client")})
    counts = partition("iid", named, 3, seed=0).counts
    assert counts.columns.tolist() == ["'total'", "client", "total"]
    assert counts["total"].tolist() == [4, 4, 4]
