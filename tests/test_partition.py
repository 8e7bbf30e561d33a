"""Partitions: every row has one owner, skew is what was asked for, and a wrong request says what is wrong."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets is imported: it reads the variable once

import datasets

from data_rows import text_data, unlabelled
from declora.data import Partition, TextData, load, partition
from declora.data.schemes import fill_empty
from declora.errors import ConfigError, DataError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the real text data in {SHARED}")


def assert_whole(parts: Partition, data: TextData) -> None:
    """Checks that each row has exactly one owner and each client a row."""
    assert sorted(np.concatenate(parts.shards)) == list(range(data.train.num_rows))
    assert all(len(shard) > 0 and shard.dtype == np.int64 for shard in parts.shards)
    assert all(np.all(np.diff(shard) > 0) for shard in parts.shards)


def shares(parts: Partition) -> NDArray[np.float64]:
    """Returns each client's share of each class, `[clients, classes]`."""
    table = parts.counts.iloc[:, :-1].to_numpy(dtype=np.float64)
    return table / table.sum(axis=0)


WHOLE = [
    "iid",
    "dirichlet:0.01",
    "dirichlet:0.5",
    "dirichlet:100",
    "shards:1",
    "shards:2",
    "quantity:0.1",
    "quantity:10",
]


@settings(max_examples=60, deadline=None)
@given(
    spec=st.sampled_from(WHOLE),
    labels=st.lists(st.integers(0, 4), min_size=12, max_size=80),
    clients=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_every_row_has_one_owner_and_the_seed_decides_which(
    spec: str, labels: list[int], clients: int, seed: int
) -> None:
    data = text_data(labels)
    parts = partition(spec, data, clients, seed=seed)
    assert len(parts.shards) == clients
    assert_whole(parts, data)
    again = partition(spec, data, clients, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts.shards, again.shards, strict=True))
    assert parts.name == spec


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 2), min_size=30, max_size=120),
    weights=st.lists(st.tuples(*[st.integers(0, 9)] * 3).filter(any), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_label_proportions_give_equal_sizes_within_one_row_of_each_proportion(
    labels: list[int], weights: list[tuple[int, int, int]], seed: int
) -> None:
    data = text_data([0, 1, 2] * 10 + labels)
    wanted = np.array(weights) / np.sum(weights, axis=1, keepdims=True)
    parts = partition(wanted, data, len(wanted), seed=seed)
    rows = np.concatenate(parts.shards)
    assert len(set(rows.tolist())) == len(rows)
    sizes = parts.counts["total"].to_numpy()
    assert np.ptp(sizes) == 0
    assert np.all(np.abs(parts.counts.iloc[:, :-1].to_numpy() - wanted * sizes[:, None]) < 1)
    # As large as the scarcest class allows, less the rounding of at most one row per client.
    available = np.bincount(data.train["label"][:], minlength=3)
    demand = wanted.sum(axis=0)
    limit = np.min(available[demand > 0] / demand[demand > 0])
    assert limit - (len(wanted) + 1) / demand[demand > 0].min() <= sizes[0] <= limit + 1e-9


@pytest.mark.parametrize("spec", WHOLE)
def test_another_seed_gives_other_shards(spec: str) -> None:
    data = text_data([i % 5 for i in range(200)])
    first, second = (partition(spec, data, 7, seed=seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(first.shards, second.shards, strict=True))


def test_iid_sizes_differ_by_at_most_one_and_labels_are_mixed() -> None:
    data = text_data([0] * 4000 + [1] * 4003)
    parts = partition("iid", data, 4, seed=3)
    assert np.ptp(parts.counts["total"]) == 1
    # Hypergeometric: the share of a class at a client has standard deviation sqrt(.25 * .75 / 4000) = 0.007.
    assert np.abs(shares(parts) - 0.25).max() < 5 * 0.007


def test_dirichlet_approaches_equal_shares_as_alpha_grows() -> None:
    data = text_data(np.repeat(np.arange(4), 1000).tolist())
    # One share has standard deviation sqrt((1/N)(1 - 1/N) / (N alpha + 1)), here with N = 5 clients; 20 shares.
    for alpha in (1e1, 1e3, 1e5):
        deviation = np.sqrt(0.2 * 0.8 / (5 * alpha + 1))
        found = shares(partition(f"dirichlet:{alpha}", data, 5, seed=7))
        assert np.abs(found - 0.2).max() < 5 * deviation + 1e-3  # 1e-3: one row of 1000
    assert partition("dirichlet:1e12", data, 5, seed=7).counts.iloc[:, :-1].to_numpy().tolist() == [[200] * 4] * 5


def test_dirichlet_shares_have_the_stated_mean_and_variance() -> None:
    # 8 classes x 40 seeds = 320 independent draws of Dir(0.5) over 4 clients: mean 1/4, variance (1/4)(3/4)/3 = 1/16.
    data = text_data(np.repeat(np.arange(8), 400).tolist())
    first = np.array([shares(partition("dirichlet:0.5", data, 4, seed=seed))[0] for seed in range(40)]).ravel()
    assert abs(first.mean() - 1 / 4) < 4 * np.sqrt(1 / 16 / 320)
    # A sample variance has variance (kurtosis - 1) s^4 / n, and this law (Beta(1/2, 3/2)) has a kurtosis of 3.
    assert abs(first.var() - 1 / 16) < 4 * (1 / 16) * np.sqrt(2 / 320)


def test_a_small_alpha_gives_each_class_to_one_client_and_nobody_nothing() -> None:
    data = text_data(np.repeat(np.arange(2), 50).tolist())
    for alpha in ("1e-3", "1e-300"):
        parts = partition(f"dirichlet:{alpha}", data, 8, seed=0)
        assert_whole(parts, data)
        # Two classes fill at most two clients; the six others get one row each.
        assert sorted(parts.counts["total"])[:6] == [1] * 6


def test_an_empty_shard_gets_the_last_row_of_the_largest() -> None:
    empty = np.empty(0, np.int64)
    filled = fill_empty([empty, np.array([4, 2, 9]), np.array([1, 7, 5]), empty, np.array([8])])
    # Ties go to the first: shard 1 gives 9, then shard 2 (three rows against two) gives 5.
    assert [shard.tolist() for shard in filled] == [[9], [4, 2], [1, 7], [5], [8]]


def test_label_shards_give_at_most_s_shards_of_pure_labels() -> None:
    data = text_data([i % 10 for i in range(1000)])
    parts = partition("shards:2", data, 10, seed=0)
    assert_whole(parts, data)
    # 20 pieces of 50 rows: each lies within one class of 100 rows, so a client sees one or two labels.
    table = parts.counts.iloc[:, :-1].to_numpy()
    assert np.all(np.isin(table, (0, 50, 100)))
    assert np.all(parts.counts["total"] == 100)


def test_quantity_skew_is_in_the_sizes_not_in_the_labels() -> None:
    data = text_data([i % 2 for i in range(20_000)])
    parts = partition("quantity:0.5", data, 5, seed=2)
    assert_whole(parts, data)
    sizes = parts.counts["total"].to_numpy()
    assert sizes.max() > 2 * sizes.min()
    for size, ones in zip(sizes, parts.counts["class 1"], strict=True):
        assert abs(ones / size - 0.5) < 5 * 0.5 / np.sqrt(size)  # binomial standard deviation


# --- label proportions


def test_label_proportions_as_text_list_or_array_are_the_same() -> None:
    data = text_data([0] * 300 + [1] * 300)
    rows = [[0.15, 0.85], [0.85, 0.15], [0.5, 0.5]]
    # Demand 1.5 of each class: size 300 / 1.5 = 200, so all 600 rows are used.
    expected = [[30, 170, 200], [170, 30, 200], [100, 100, 200]]
    for spec in (rows, np.array(rows), tuple(map(tuple, rows)), "labels:[[.15,.85],[.85,.15],[.5,.5]]"):
        parts = partition(spec, data, 3, seed=0)
        assert parts.counts.to_numpy().tolist() == expected
        assert parts.name == (spec if isinstance(spec, str) else "labels")
        assert_whole(parts, data)


def test_label_proportions_leave_out_what_the_scarcest_class_does_not_allow() -> None:
    parts = partition([[1, 0], [0.5, 0.5]], text_data([0] * 30 + [1] * 100), 2, seed=0)
    assert parts.counts.to_numpy().tolist() == [[20, 0, 20], [10, 10, 20]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("labels:[[.15,.85]]", r"shape \(1, 2\) do not fit 2 clients x 2 classes \['class 0', 'class 1'\]"),
        ("labels:[[1],[1]]", r"shape \(2, 1\)"),
        ("labels:[[.5,.4],[.5,.5]]", r"client 0, \[0.5, 0.4\], must be in 0..1 and sum to 1, not 0.9"),
        ("labels:[[1.5,-.5],[.5,.5]]", r"client 0.*must be in 0..1"),
        ("labels:[[.5,.5],[", r"a list of lists of numbers.*labels:\[\[.15,.85\]"),
        ("labels:a,b", "a list of lists of numbers"),
        ([[0.5, 0.5], [float("nan"), 1]], r"client 1, \[nan, 1.0\]"),
        ([["a", "b"], ["c", "d"]], "neither a known name nor label proportions"),
        ([[1, 0.5], [1]], "neither a known name nor label proportions"),
        (3.5, r"shape \(\)"),
    ],
)
def test_malformed_proportions_are_errors(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        partition(spec, text_data([0, 1] * 20), 2, seed=0)


def test_proportions_the_data_cannot_give_are_errors() -> None:
    with pytest.raises(DataError, match=r"'class 0': 1, 'class 1': 9.*do not give 3 clients one row each"):
        partition([[1, 0]] * 3, text_data([0] + [1] * 9), 3, seed=0)
    with pytest.raises(DataError, match=r"no training row has class 'class 0'"):
        partition([[0.5, 0.5]] * 2, text_data([1] * 9), 2, seed=0)


# --- columns and given shards


def test_one_client_per_value_in_sorted_order() -> None:
    data = text_data([0, 1] * 6, site=["c", "a", "b"] * 4)
    parts = partition("column:site", data, 3, seed=0)
    assert [shard.tolist() for shard in parts.shards] == [[1, 4, 7, 10], [2, 5, 8, 11], [0, 3, 6, 9]]


def test_more_values_than_clients_stay_whole_and_balance_the_sizes() -> None:
    site = [0] * 10 + [1] * 6 + [2] * 5 + [3] * 4 + [4] * 3
    data = text_data([i % 2 for i in range(28)], site=site)
    parts = partition("column:site", data, 2, seed=0)
    assert_whole(parts, data)
    owners = [{site[row] for row in shard} for shard in parts.shards]
    # Largest first to the client with the fewest: 10 | 6, 5 | then 4 to the first, 3 to the second.
    assert owners == [{0, 3}, {1, 2, 4}]
    assert parts.counts["total"].tolist() == [14, 14]


def test_columns_that_cannot_be_divided_are_errors() -> None:
    data = text_data([0, 1, 0, 1], site=["a", "a", "b", None], tags=[[1], [2], [3], [4]], pair=[1, 1, 2, 2])
    with pytest.raises(DataError, match=r"column:city.*no column 'city'.*'site'"):
        partition("column:city", data, 2, seed=0)
    with pytest.raises(DataError, match=r"row 3 \(the first is 0\) is null"):
        partition("column:site", data, 2, seed=0)
    with pytest.raises(DataError, match=r"2 different values for clients=3.*at most 2"):
        partition("column:pair", data, 3, seed=0)
    with pytest.raises(ConfigError, match=r"'tags' holds list values"):
        partition("column:tags", data, 2, seed=0)


@pytest.mark.parametrize("spec", [None, "natural", "given"])
def test_one_data_set_per_client_is_kept_as_given(spec: str | None) -> None:
    parts = [datasets.Dataset.from_dict({"text": [f"{c}{i}" for i in range(6)], "label": [0, 1] * 3}) for c in "abc"]
    data = load(parts, eval_data=parts[0])
    found = partition(spec, data, 3, seed=0)
    assert [shard.tolist() for shard in found.shards] == [list(range(6 * c, 6 * c + 6)) for c in range(3)]
    assert found.name == (spec or "natural")
    with pytest.raises(ConfigError, match=r"3 data sets for clients=2.*Set clients=3"):
        partition(spec, data, 2, seed=0)


def test_without_given_shards_none_is_iid_and_natural_an_error() -> None:
    data = text_data([0, 1] * 10)
    assert partition(None, data, 2, seed=0).name == "iid"
    with pytest.raises(ConfigError, match=r"partition='natural'.*not one data set per client"):
        partition("natural", data, 2, seed=0)


# --- requests that make no sense


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dirichlet:0", r"partition='dirichlet:0': alpha='0' must be a number above 0 .*e.g. dirichlet:alpha=1"),
        ("dirichlet:-1", "alpha='-1' must"),
        ("dirichlet:inf", "alpha='inf' must.*use iid"),
        ("dirichlet:nan", "alpha='nan' must"),
        ("quantity:x", "partition='quantity:x': alpha='x' must"),
        ("quantity:beta=1", "option of partition quantity='beta' is not known.*Known: alpha"),
        ("dirichlet", "dirichlet needs alpha, a number above 0 .*Write e.g. dirichlet:alpha=1"),
        ("iid:3", "iid takes no options. Write partition='iid'"),
        ("shards:0", "s='0' must be a whole number of at least 1"),
        ("shards:1.5", "s='1.5' must"),
        ("shards:1,2", "takes no 2 values"),
        ("column:", "column needs name, the name of a column. Write e.g. column:author"),
        ("labels:[[", r"proportions='\[\[' must be a list of lists of numbers.*e.g. labels:\[\[.15,.85\]"),
        ("dirichlett:0.5", "partition='dirichlett' is not known. Did you mean 'dirichlet'.*Known: column, dirichlet"),
        ("", "partition='' is not known"),
    ],
)
def test_malformed_specifications_are_errors(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        partition(spec, text_data([0, 1] * 10), 2, seed=0)


def test_more_clients_or_shards_than_rows_are_errors() -> None:
    data = text_data([0, 1] * 3)
    with pytest.raises(DataError, match=r"clients=7 is more than the 6 training rows"):
        partition("iid", data, 7, seed=0)
    with pytest.raises(DataError, match=r"partition='shards:4' cuts 2 x 4 shards out of 6"):
        partition("shards:4", data, 2, seed=0)
    for clients in (0, -1, 2.0, True, "3"):
        with pytest.raises(ConfigError, match=f"clients={clients!r} must be a whole number"):
            partition("iid", data, clients, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ["dirichlet:0.5", "shards:2", "labels:[[1],[1]]", [[1.0], [1.0]]])
def test_label_based_partitions_of_unlabelled_text_are_errors(spec: Any) -> None:
    with pytest.raises(ConfigError, match=r"divides by label, but task='causal-lm' has none.*quantity"):
        partition(spec, unlabelled(20), 2, seed=0)


def test_unlabelled_text_is_counted_in_total_only() -> None:
    for spec in ("iid", "quantity:1", "column:site"):
        parts = partition(spec, unlabelled(20), 4, seed=0)
        assert parts.counts.columns.tolist() == ["total"]
        assert parts.counts["total"].sum() == 20


# --- what a partition is


def test_counts_are_the_labels_of_the_shards() -> None:
    data = text_data([0, 1, 2, 2, 1, 0, 0, 0])
    parts = partition("dirichlet:0.3", data, 3, seed=1)
    labels = np.array(data.train["label"][:])
    assert parts.counts.columns.tolist() == ["class 0", "class 1", "class 2", "total"]
    assert parts.counts.index.name == "client"
    for client, shard in enumerate(parts.shards):
        row = [int((labels[shard] == c).sum()) for c in range(3)]
        assert parts.counts.iloc[client].tolist() == [*row, len(shard)]


def test_shards_cannot_be_changed_by_accident() -> None:
    shard = partition("iid", text_data([0, 1] * 4), 2, seed=0).shards[0]
    with pytest.raises(ValueError, match="read-only"):
        shard[0] = 3


GOLDEN: dict[str, list[list[int]]] = {
    "iid": [[3, 4, 7, 10], [0, 2, 5, 6], [1, 8, 9, 11]],
    "dirichlet:0.5": [[0, 1, 4, 6, 9], [2, 5, 8, 10, 11], [3, 7]],
    "shards:1": [[1, 4, 7, 10], [2, 5, 8, 11], [0, 3, 6, 9]],
    "quantity:1": [[4], [0, 1, 2, 3, 5, 6, 7, 9, 10, 11], [8]],
    "labels:[[.5,.25,.25],[.25,.5,.25],[0,.5,.5]]": [[6, 8, 10], [1, 3, 11], [4, 5, 7]],
}


def test_shards_do_not_change_between_versions() -> None:
    # Golden: a change here makes every published seed give another experiment.
    data = text_data([0, 1, 2] * 4)
    found = {spec: [s.tolist() for s in partition(spec, data, 3, seed=42).shards] for spec in GOLDEN}
    assert found == GOLDEN


@needs_shared
def test_real_reviews_divide_as_asked() -> None:
    data = load(SHARED / "sst2")
    parts = partition("labels:[[.15,.85],[.85,.15],[.5,.5]]", data, 3, seed=0)
    # 29,780 negative rows over a demand of 1.5: 19,853 rows each.
    assert parts.counts["total"].tolist() == [19_853] * 3
    assert_whole(partition("dirichlet:0.1", data, 100, seed=0), data)
