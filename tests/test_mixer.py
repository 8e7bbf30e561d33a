"""Mixers: bounded by what is honest (V29), right where averaging is not (V27), and refused where they mean nothing."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from declora.errors import ConfigError, TopologyError
from declora.mixer import (
    MIXERS,
    ClippedGossip,
    Krum,
    Linear,
    Median,
    Mixer,
    MultiKrum,
    NearestNeighbours,
    PushSum,
    TrimmedMean,
    parse_mixer,
)
from declora.mixer.refusals import assumed_bad, keep_shares, sit_out
from declora.topology import Topology

CLIENTS, COLUMNS = 12, 40
DENSE = Topology.build("random-regular:6", CLIENTS, seed=3)
RULES = [
    Linear(), ClippedGossip(f=2), ClippedGossip(tau=0.5), TrimmedMean(f=2), Median(), Krum(f=2), MultiKrum(f=1, m=3),
    NearestNeighbours(f=2),
]  # fmt: skip
ROBUST = [rule for rule in RULES if rule.robust]


def normal(seed=0, columns=COLUMNS, clients=CLIENTS):
    return np.random.default_rng(seed).normal(size=(clients, columns))


def mixed(mixer, public, rows=None, *, weights=None, **options):
    result = (public if rows is None else rows).copy()
    mixer.mix(DENSE.weights(0) if weights is None else weights, public, result, **options)
    return result


def neighbourhood(client):
    return sorted([client, *DENSE.neighbours(0, client)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipped_gossip_without_a_radius_is_linear_gossip_bit_for_bit(dtype):
    """V29."""
    public, rows = normal(1).astype(dtype), normal(2).astype(dtype)
    plain = mixed(Linear(), public, rows, gamma=0.7)
    assert np.array_equal(mixed(ClippedGossip(tau=float("inf")), public, rows, gamma=0.7), plain)
    assert not np.array_equal(mixed(ClippedGossip(tau=0.1), public, rows, gamma=0.7), plain)


@given(st.floats(1e-3, 10), st.sampled_from([1.0, 1e3, 1e10, 1e37, 1e38]), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_one_neighbour_pulls_by_no_more_than_its_weight_times_the_radius(tau, size, seed):
    """V29, in the float32 that a run has: the rest is rounding of rows of about 1, 40 columns of them."""
    liar, public = 4, normal(seed).astype(np.float32)
    weights = DENSE.weights(0)
    alone = sit_out(weights, np.arange(CLIENTS) == liar)
    public[liar] = np.float32(size) * np.clip(public[liar], -1, 1)
    moved, without = mixed(ClippedGossip(tau=tau), public), mixed(ClippedGossip(tau=tau), public, weights=alone)
    for client in set(range(CLIENTS)) - {liar}:
        pull = np.linalg.norm(moved[client].astype(np.float64) - without[client])
        assert pull <= weights[client, liar] * tau * (1 + 1e-6) + 40**0.5 * 8 * 2.0**-23


@pytest.mark.parametrize("mixer", ROBUST, ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_place_and_moves_nothing(mixer, value):
    public, rows = normal(1), normal(2)
    public[7, 13] = value
    before = rows.copy()
    with pytest.raises(ConfigError, match="in row 7, column 13"):
        mixer.mix(DENSE.weights(0), public, rows)
    assert np.array_equal(rows, before)


def test_one_radius_keeps_the_mean_and_radii_of_their_own_do_not():
    """V29. Public values are not the rows here, as with a codec that loses much."""
    public, rows = normal(1) * 3, normal(2)
    common = mixed(ClippedGossip(tau=2.0), public, rows)
    assert np.abs(common - rows).max() > 0.1
    np.testing.assert_allclose(common.mean(0), rows.mean(0), atol=1e-12)
    # At 0, 1 and 10 each clips its farthest: the first pulls by 1 where the last pulls by 9.
    three = Topology.build("complete", 3).weights(0)
    result = mixed(ClippedGossip(f=1), np.array([[0.0], [1.0], [10.0]]), weights=three)
    np.testing.assert_allclose(result[:, 0], [(1 + 1) / 3, 1 + (-1 + 1) / 3, 10 + (-9 - 9) / 3], atol=1e-14)
    assert abs(result.mean() - 11 / 3) > 1


@pytest.mark.parametrize("mixer", [*RULES, PushSum()], ids=str)
def test_equal_adapters_stay_as_they_are(mixer):
    public = np.tile(normal()[0], (CLIENTS, 1)).astype(np.float32)
    result = public.copy()
    mixer.start(public)
    mixer.mix(DENSE.weights(0), mixer.sent(public).copy(), result)
    # Push-sum adds shares of 1/7, whose sum is 1 to rounding.
    np.testing.assert_allclose(result, public, atol=0 if not isinstance(mixer, PushSum) else 1e-6)


@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([1.0, 1e6, 1e30]))
@settings(max_examples=60, deadline=None)
def test_fewer_bad_values_than_half_leave_median_and_trimmed_mean_between_the_honest(seed, bad, size):
    rng = np.random.default_rng(seed)
    public = normal(seed)
    liars = rng.permutation(CLIENTS)[:bad]
    public[liars] = size * rng.normal(size=(bad, COLUMNS))
    for mixer in (Median(), TrimmedMean(f=3)):
        result = mixed(mixer, public)
        for client in set(range(CLIENTS)) - set(liars):
            honest = public[[j for j in neighbourhood(client) if j not in liars]]
            assert (result[client] >= honest.min(0) - 1e-12).all()
            assert (result[client] <= honest.max(0) + 1e-12).all()


def test_medians_and_trimmed_means_are_those_of_numpy():
    public = normal()
    median, trimmed = mixed(Median(), public), mixed(TrimmedMean(f=2), public)
    for client in range(CLIENTS):
        values = np.sort(public[neighbourhood(client)], axis=0)
        np.testing.assert_allclose(median[client], np.median(values, axis=0), atol=1e-15)
        np.testing.assert_allclose(trimmed[client], values[2:-2].mean(0), atol=1e-15)


def test_krum_and_nearest_neighbours_choose_by_distance():
    public = normal()
    krum, several, near = (mixed(m, public) for m in (Krum(f=1), MultiKrum(f=1, m=3), NearestNeighbours(f=2)))
    for client in range(CLIENTS):
        group = neighbourhood(client)
        squared = ((public[group][:, None] - public[group][None]) ** 2).sum(-1)
        scores = np.sort(squared, axis=1)[:, 1 : len(group) - 1 - 1].sum(1)
        best = np.array(group)[np.argsort(scores)]
        np.testing.assert_allclose(krum[client], public[best[0]], atol=1e-14)
        np.testing.assert_allclose(several[client], public[best[:3]].mean(0), atol=1e-14)
        nearest = np.array(group)[np.argsort(squared[group.index(client)])][: len(group) - 2]
        np.testing.assert_allclose(near[client], public[nearest].mean(0), atol=1e-14)


def test_the_own_value_counts_as_every_holder_has_it():
    """Every rule moves x by its result minus the public z: an error of the codec in one's own value cancels."""
    public, rows = normal(1), normal(2)
    for mixer in RULES:
        shift = mixed(mixer, public, rows) - rows
        np.testing.assert_allclose(shift, mixed(mixer, public) - public, atol=1e-12, err_msg=str(mixer))
        half = mixed(mixer, public, rows, gamma=0.5) - rows
        np.testing.assert_allclose(half, 0.5 * shift, atol=1e-12, err_msg=str(mixer))


def uneven_digraph(clients=7):
    """A cycle with chords that only client 0 has: strongly connected, and nobody else sends to as many."""
    graph = nx.DiGraph([(i, (i + 1) % clients) for i in range(clients)])
    graph.add_edges_from((0, i) for i in range(2, clients))
    return graph


def test_push_sum_finds_the_mean_of_a_digraph_where_averaging_by_rows_does_not():
    """V27."""
    topology = Topology.build(uneven_digraph(), 7, column_stochastic=True)
    start = normal(clients=7)
    push, adapters = PushSum(), start.copy()
    push.start(start)
    received = topology.weights(0).toarray() > 0
    by_rows = received / received.sum(axis=1, keepdims=True)
    naive = start.copy()
    for _ in range(400):
        push.mix(topology.weights(0), push.sent(adapters).copy(), adapters)
        naive = by_rows @ naive
        assert (push.weights > 0).all()
        assert push.weights.sum() == pytest.approx(7, abs=1e-12)
        np.testing.assert_allclose(push.numerators.sum(0), start.sum(0), atol=1e-12)
    assert np.abs(push.weights - 1).max() > 0.5
    np.testing.assert_allclose(adapters, np.tile(start.mean(0), (7, 1)), atol=1e-12)
    assert np.ptp(naive, axis=0).max() < 1e-9
    assert np.abs(naive - start.mean(0)).max() > 1e-2


def test_push_sum_keeps_the_mass_whatever_arrives():
    """V27 with public values that have nothing to do with the numerators, and with refused messages."""
    weights = Topology.build(uneven_digraph(), 7, column_stochastic=True).weights(0)
    push, start = PushSum(), normal(clients=7)
    push.start(start)
    for t in range(20):
        refused = np.random.default_rng(t).random(7) < 0.3
        push.mix(weights, normal(t, clients=7) * 10, start.copy(), gamma=0.6, refused=refused)
        np.testing.assert_allclose(push.numerators.sum(0), start.sum(0), atol=1e-11)
        assert push.weights.sum() == pytest.approx(7, abs=1e-12)
        assert (push.weights > 0).all()


def test_push_sum_over_a_balanced_graph_is_linear_gossip():
    """V27: doubly stochastic weights leave w at 1."""
    weights = DENSE.weights(0)
    push, adapters, plain = PushSum(), normal(), normal()
    push.start(adapters)
    for _ in range(5):
        push.mix(weights, push.sent(adapters).copy(), adapters, gamma=0.8)
        Linear().mix(weights, plain.copy(), plain, gamma=0.8)
        np.testing.assert_allclose(push.weights, 1, atol=1e-14)
    np.testing.assert_allclose(adapters, plain, atol=1e-13)


def test_local_steps_move_the_numerators_by_what_they_moved_the_adapters():
    """A step weighs the same at every client, whatever its weight: the mean numerator moves by the mean step."""
    topology = Topology.build(uneven_digraph(), 7, column_stochastic=True)
    push, adapters = PushSum(), normal(clients=7)
    push.start(adapters)
    for _ in range(5):
        push.mix(topology.weights(0), push.sent(adapters).copy(), adapters)
    before, step = push.numerators.copy(), normal(9, clients=7)
    np.testing.assert_allclose(push.sent(adapters + step) - before, step, atol=1e-13)
    np.testing.assert_allclose(adapters, before / push.weights[:, None], atol=1e-14)


def test_a_refused_message_leaves_its_weight_at_both_ends():
    weights, refused = DENSE.weights(0), np.arange(CLIENTS) == 5
    rest = sit_out(weights, refused).toarray()
    np.testing.assert_allclose(rest.sum(0), 1, atol=1e-15)
    np.testing.assert_array_equal(rest, rest.T)
    assert rest[5].tolist() == [float(i == 5) for i in range(CLIENTS)]
    others = np.flatnonzero(~refused)
    off = ~np.eye(CLIENTS - 1, dtype=bool)
    np.testing.assert_array_equal(rest[np.ix_(others, others)][off], weights.toarray()[np.ix_(others, others)][off])
    split = Topology.build(uneven_digraph(), 7, column_stochastic=True).weights(0)
    kept = keep_shares(split, np.arange(7) == 0).toarray()
    np.testing.assert_allclose(kept.sum(0), 1, atol=1e-15)
    np.testing.assert_allclose(kept[:, 0], [1, 0, 0, 0, 0, 0, 0], atol=1e-15)
    np.testing.assert_array_equal(kept[:, 1:], split.toarray()[:, 1:])
    assert sit_out(weights, None) is weights
    assert sit_out(weights, refused & False) is weights


def test_a_refused_neighbour_is_one_of_the_bad_ones():
    weights, refused = DENSE.weights(0), np.arange(CLIENTS) == 5
    expected = [0 if i == 5 else 2 - int(weights[i, 5] > 0) for i in range(CLIENTS)]
    assert assumed_bad(2, weights, refused).tolist() == expected
    assert assumed_bad(2, weights, None).tolist() == [2] * CLIENTS
    assert assumed_bad(1, weights, np.ones(CLIENTS, dtype=bool)).tolist() == [0] * CLIENTS


@pytest.mark.parametrize("mixer", RULES, ids=str)
def test_rules_go_on_without_the_refused_whoever_they_are(mixer):
    public = normal()
    for count in (1, 3, 8, CLIENTS):
        refused = np.arange(CLIENTS) < count
        result = mixed(mixer, np.where(refused[:, None], 0.0, public), public, refused=refused)
        assert np.array_equal(result[refused], public[refused])
        moved = ~refused & (np.diff(sit_out(DENSE.weights(0), refused).indptr) > 3)
        assert np.isfinite(result).all()
        if not isinstance(mixer, Krum):  # which may choose one's own
            assert (result[moved] != public[moved]).any(axis=1).all()


def test_names_are_parsed_with_their_options_and_written_back():
    for text, kind in [
        ("linear", Linear), ("clipped:f=3", ClippedGossip), ("clipped:tau=1.5", ClippedGossip), ("median", Median),
        ("trimmed-mean:f=2", TrimmedMean), ("krum:f=1", Krum), ("multi-krum:f=1,m=2", MultiKrum),
        ("multi-krum:f=2", MultiKrum), ("nna:f=1", NearestNeighbours), ("push-sum", PushSum),
    ]:  # fmt: skip
        mixer = parse_mixer(text)
        assert type(mixer) is kind
        assert str(mixer) == text
    assert set(MIXERS) == {parse_mixer(name).name for name in MIXERS}
    assert str(parse_mixer("clipped")) == "clipped:f=1"
    assert str(parse_mixer("krum")) == "krum:f=1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("medain", "Did you mean 'median'"),
        ("krum:g=1", "option of mixer krum='g' is not known.*Known: f"),
        ("median:f=1", "takes no options"),
        ("krum:f=0", "f='0' must be a whole number of at least 1"),
        ("krum:f=1.5", "f='1.5'"),
        ("krum:f", "f='f' must be"),
        ("clipped:tau=0", "above 0"),
        ("clipped:tau=nan", "tau='nan'"),
        ("clipped:tau=inf", "tau='inf'"),
        ("clipped:f=1,tau=2", "Give one of them"),
        ("multi-krum:m=0", "m='0'"),
        ("nna:f=1,f=2", "f twice"),
    ],
)
def test_what_cannot_be_parsed_is_said(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_mixer(text)


@pytest.mark.parametrize(
    ("mixer", "topology", "message"),
    [
        ("krum:f=1", "ring", r"needs 5 values at each client \(2f \+ 3\).*client 0 has 2 neighbours.*nna:f=1"),
        ("krum:f=2", "random-regular:5", "needs 7 values.*'random-regular:5' client 0 has 5"),
        ("multi-krum:f=1,m=7", "random-regular:6", r"needs 8 values at each client \(m \+ f\).*a smaller m"),
        ("trimmed-mean:f=1", "path", "client 0 has 1 neighbour[.]"),
        ("trimmed-mean:f=2", "ring", "needs 5 values"),
        ("nna:f=3", "random-regular:5", "needs 7 values"),
        ("clipped:f=2", "ring", "needs 5 values.*clipped:tau=1"),
        ("clipped:f=1", "one-peer-exponential", "client 0 has 1 neighbour in round 0 of every 4"),
        ("median", "star", "client 1 has 1 neighbour"),
    ],
)
def test_rules_that_a_graph_cannot_carry_are_refused_with_client_and_fix(mixer, topology, message):
    with pytest.raises(ConfigError, match=message):
        parse_mixer(mixer).check(Topology.build(topology, 12))


@pytest.mark.parametrize(
    ("mixer", "topology"),
    [
        ("linear", "path"), ("clipped:f=1", "ring"), ("clipped:tau=1", "one-peer-exponential"), ("median", "ring"),
        ("trimmed-mean:f=1", "ring"), ("nna:f=1", "ring"), ("krum:f=1", "torus"), ("krum:f=4", "complete"),
        ("multi-krum:f=1,m=6", "random-regular:6"), ("push-sum", "ring"), ("push-sum", "one-peer-exponential"),
    ],
)  # fmt: skip
def test_rules_that_a_graph_can_carry_are_not(mixer, topology):
    parse_mixer(mixer).check(Topology.build(topology, 12))
    parse_mixer(mixer).check(Topology.build("complete", 1))


def test_every_round_of_a_schedule_is_counted_and_ones_own_value_where_it_has_no_weight():
    full, half = Topology.build("complete", 5).weights(0), Topology.build("ring", 5).weights(0)
    with pytest.raises(ConfigError, match="client 0 has 2 neighbours in round 1 of every 3"):
        parse_mixer("krum:f=1").check(Topology("mine", 5, (full, half, full)))
    nobody_keeps = (np.ones((4, 4)) - np.eye(4)) / 3
    parse_mixer("trimmed-mean:f=1").check(Topology.build(nobody_keeps, 4))  # 3 neighbours and itself
    with pytest.raises(ConfigError, match=r"needs 5 values .* client 0 has 3 neighbours"):
        parse_mixer("nna:f=2").check(Topology.build(nobody_keeps, 4))


def test_only_push_sum_takes_column_stochastic_weights_and_only_with_self_weights():
    topology = Topology.build(uneven_digraph(), 7, column_stochastic=True)
    PushSum().check(topology)
    for mixer in RULES:
        with pytest.raises(ConfigError, match="mixer='push-sum'"):
            mixer.check(topology)
    cycle = np.roll(np.eye(3), 1, axis=0)
    cycle[:, 0] = [0.5, 0.5, 0.0]
    with pytest.raises(ConfigError, match="client 1 keeps nothing in round 0"):
        PushSum().check(Topology.build(cycle, 3, column_stochastic=True))
    with pytest.raises(TopologyError, match="push-sum"):
        Topology.build(uneven_digraph(), 7)


def test_every_mixer_says_what_it_is():
    for kind in MIXERS.values():
        assert issubclass(kind, Mixer)
        assert kind.__doc__
