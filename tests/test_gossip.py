"""The gossip round: the mean is kept, disagreement shrinks as the graph says, bytes are the real frames'."""

import networkx as nx
import numpy as np
import pytest
import torch

import federations
from declora import _bridge
from declora.codec import parse_codec
from declora.exchange import StarExchange
from declora.mixer import Linear, PushSum
from declora.topology import Topology

CLIENTS, COLUMNS = 10, 3001


def gossip_of(codec="none", topology="ring", *, exchange=None, gamma=None, columns=COLUMNS, seed=0):
    federation = federations.federation_of(topology, clients=CLIENTS, codec=codec, exchange=exchange, seed=0)
    return federations.gossip_of(federation, torch.zeros(CLIENTS, columns), gamma=gamma, seed=seed)


def rows_of(columns=COLUMNS, seed=0):
    return federations.rows_of(CLIENTS, columns, seed=seed)


STATIC = ["ring", "complete", "erdos-renyi:0.5", "star", "exponential"]
# Public copies need a static graph.
CASES = [(codec, graph) for codec in ("none", "bf16", "q2", "q4", "q8", "q3+ef", "q2+choco") for graph in STATIC]
CASES += [(codec, graph) for codec in ("none", "q4", "q3+ef") for graph in ("one-peer-exponential", "base:1")]
SCHEMES = (
    "qsgd",
    "natural",
    "eden:bits=2",
    "drive",
    "randk:fraction=0.3",
    "sign+choco",
    "topk+ef21",
    "sign+ef",
    "q2+rans",
)
CASES += [(codec, graph) for codec in SCHEMES for graph in ("ring", "star")]


@pytest.mark.parametrize(("codec", "topology"), CASES)
def test_the_mean_over_clients_is_kept_whatever_the_codec(codec, topology):
    """V01, V20 in float32. Terms are rounded to 2^-24 of themselves; values and codes stay below about 30."""
    gossip, rows = gossip_of(codec, topology), rows_of()
    mean = rows.double().mean(0)
    for t in range(5):
        gossip.round(t, rows)
    assert (rows.double().mean(0) - mean).abs().max() < 5 * 30 * 2.0**-24
    assert torch.isfinite(rows).all()


def test_mixing_equals_the_dense_product():
    rows, topology = rows_of(), Topology.build("erdos-renyi:0.4", CLIENTS, seed=3)
    expected = topology.weights(0).toarray() @ rows.double().numpy()
    mixed = rows.numpy().copy()
    Linear().mix(topology.weights(0), rows.numpy(), mixed)
    np.testing.assert_allclose(mixed, expected, atol=2e-6)


def test_gamma_moves_part_of_the_way():
    rows, w = rows_of(), Topology.build("ring", CLIENTS).weights(0).toarray()
    half = rows.clone()
    gossip_of(gamma=0.5).round(0, half)
    np.testing.assert_allclose(half.numpy(), 0.5 * rows.numpy() + 0.5 * w @ rows.double().numpy(), atol=1e-6)


def test_disagreement_along_the_slem_eigenvector_shrinks_by_slem_each_round():
    """V02 with float32 rows: equality along the eigenvector, to float32 rounding."""
    topology = Topology.build("ring", CLIENTS)
    values, vectors = np.linalg.eigh(topology.weights(0).toarray())
    slem_vector = vectors[:, np.argsort(abs(values))[-2]]
    rows = torch.tensor(np.outer(slem_vector, np.ones(64)), dtype=torch.float32)
    gossip, before = gossip_of(columns=64), _bridge.consensus_distance(rows)
    for t in range(6):
        gossip.round(t, rows)
        after = _bridge.consensus_distance(rows)
        assert after / before == pytest.approx(topology.slem, rel=1e-5)
        before = after


def test_one_round_on_the_complete_graph_is_the_average():
    """V05: the complete graph with weights 1/n is FedAvg, whose server costs fewer bytes."""
    rows, star = rows_of(), rows_of()
    mean = rows.double().mean(0).float().expand(CLIENTS, -1)
    peers = gossip_of("none", "complete").round(0, rows)
    server = gossip_of("none", "complete", exchange=StarExchange()).round(0, star)
    assert torch.equal(rows, star)
    torch.testing.assert_close(rows, mean, atol=1e-6, rtol=0)
    frame = 96 + 4 * COLUMNS
    assert peers.bytes_sent.tolist() == [9 * frame] * CLIENTS
    assert server.bytes_sent.tolist() == [2 * frame] * CLIENTS


@pytest.mark.parametrize("codec", ["none", "fp16", "bf16", "q2", "q3", "q4", "q8"])
def test_bytes_are_messages_times_the_closed_form(codec):
    """V33."""
    bits = {"none": 32, "fp16": 16, "bf16": 16}.get(codec) or int(codec[1:])
    frame = 96 + -(-COLUMNS * bits // 8) + (4 * -(-COLUMNS // 256) if codec[0] == "q" else 0)
    traffic = gossip_of(codec, "star").round(0, rows_of() * 0.1)
    assert traffic.bytes_sent.tolist() == [9 * frame] + [frame] * 9
    assert set(traffic.seconds) == {"encode", "exchange", "mix"}


def test_the_ledger_reproduces_a_published_run():
    """Rank 16 on query and value of RoBERTa-base with its head, ring of 10, 20 rounds, float32: 1.89 GB."""
    parameters = 24 * 2 * 16 * 768 + 592_130
    frame = parse_codec("none").frame_bytes(parameters)
    edges = len(Topology.build("ring", 10).edges(0))
    assert 20 * edges * frame == 20 * 20 * (96 + 4 * parameters)
    assert 20 * edges * frame / 1e9 == pytest.approx(1.893, abs=0.003)


def test_the_same_seed_gives_the_same_bits_with_any_number_of_threads():
    results = []
    for threads in (1, 2, 2):
        with core_threads(threads):
            gossip, rows = gossip_of("q4", seed=5), rows_of()
            for t in range(3):
                gossip.round(t, rows)
            results.append(rows)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])
    other = rows_of()
    gossip_of("q4", seed=6).round(0, other)
    again = rows_of()
    gossip_of("q4", seed=5).round(0, again)
    assert not torch.equal(other, again)


class core_threads:
    """Sets the core's threads for a while."""

    def __init__(self, count):
        self.count = count

    def __enter__(self):
        self.before = _bridge.threads()
        _bridge.set_threads(self.count)

    def __exit__(self, *error):
        _bridge.set_threads(self.before)


CONTRACTIVE = (
    "q2",
    "q3",
    "qsgd:levels=3",
    "natural",
    "drive",
    "eden:bits=2",
    "sign",
    "topk:fraction=0.2",
    "randk:fraction=0.3",
)


@pytest.mark.parametrize("topology", ["ring", "complete", "star"])
@pytest.mark.parametrize("codec", CONTRACTIVE)
def test_public_copies_lead_to_consensus_with_the_default_step(codec, topology):
    """The rule a^2 diverges for no codec and graph: clients agree about as fast as by exact gossip."""
    gossip, rows = gossip_of(f"{codec}+choco", topology), rows_of()
    mean, before = rows.double().mean(0), _bridge.consensus_distance(rows)
    for t in range(300):
        gossip.round(t, rows)
    step = parse_codec(f"{codec}+choco").default_gamma
    exact = (1 - step * Topology.build(topology, CLIENTS).spectral_gap) ** 300
    assert _bridge.consensus_distance(rows) < max(1.2 * exact, 0.02) * before
    assert (rows.double().mean(0) - mean).abs().max() < 300 * 30 * 2.0**-24


def test_the_entropy_stage_saves_bytes_and_changes_no_row():
    plain, short = rows_of(), rows_of()
    full = gossip_of("q2").round(0, plain)
    less = gossip_of("q2+rans").round(0, short)
    assert torch.equal(plain, short)
    # Of 3001 normal numbers in blocks of 256, 2 bits hold about 1.2.
    assert (less.bytes_sent < 0.8 * full.bytes_sent).all()


@pytest.mark.parametrize("topology", ["ring", "complete"])
def test_choco_reaches_consensus_where_the_bare_codec_stays_noisy(topology):
    """Public copies send differences, which vanish as clients agree; bare q2 keeps its noise for ever."""
    noisy, exact = rows_of(), rows_of()
    mean = exact.double().mean(0)
    bare, choco = gossip_of("q2", topology), gossip_of("q2+choco", topology)
    for t in range(400):
        bare.round(t, noisy)
        choco.round(t, exact)
    assert _bridge.consensus_distance(exact) < 1e-2 * _bridge.consensus_distance(noisy)
    assert (exact.double() - mean).abs().max() < 0.05


@pytest.mark.parametrize("codec", ["none", "q4", "q3+ef", "q2+choco"])
def test_push_sum_keeps_the_mass_of_a_digraph_whatever_the_codec(codec):
    """V27 in float32, through frames: rounding of values below about 30, 20 rounds."""
    graph = nx.DiGraph([(i, (i + 1) % CLIENTS) for i in range(CLIENTS)] + [(0, i) for i in range(2, CLIENTS)])
    topology = Topology.build(graph, CLIENTS, column_stochastic=True)
    push, rows = PushSum(), rows_of()
    gossip = federations.gossip_of(federations.federation_of(topology, codec=codec, mixer=push), rows.clone())
    mean = rows.double().mean(0).numpy()
    for t in range(20):
        gossip.round(t, rows)
    np.testing.assert_allclose(push.numerators.mean(0, dtype=np.float64), mean, atol=20 * 30 * 2.0**-24)
    np.testing.assert_allclose(rows.numpy(), push.numerators / push.weights[:, None], rtol=1e-6)
    assert push.weights.sum() == pytest.approx(CLIENTS, abs=1e-12)
    assert np.abs(push.weights - 1).max() > 0.5


def mixed_factors(weights, b, a):
    """Mixes B and A as the columns of one float64 matrix, through the core."""
    rows = np.concatenate([b.reshape(len(b), -1), a.reshape(len(a), -1)], axis=1)
    matrix = _bridge.MixingMatrix(weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data)
    matrix.mix_in_place(rows, 1.0)
    return rows[:, : b[0].size].reshape(b.shape), rows[:, b[0].size :].reshape(a.shape)


def test_mixing_factors_misses_the_mixed_product_by_the_factor_covariance():
    """V06: sum_j w_j B_j A_j - Bbar Abar = sum_j w_j (B_j - Bbar)(A_j - Abar), for every client's row of W."""
    rng = np.random.default_rng(0)
    b, a = rng.normal(size=(CLIENTS, 7, 3)), rng.normal(size=(CLIENTS, 3, 5))
    weights = Topology.build("erdos-renyi:0.5", CLIENTS, seed=1).weights(0)
    mixed_b, mixed_a = mixed_factors(weights, b, a)
    for i, row in enumerate(weights.toarray()):
        gap = np.einsum("n,nij,njk->ik", row, b, a) - mixed_b[i] @ mixed_a[i]
        covariance = np.einsum("n,nij,njk->ik", row, b - mixed_b[i], a - mixed_a[i])
        np.testing.assert_allclose(gap, covariance, atol=1e-12)


def test_mixing_factors_depends_on_the_gauge_and_mixing_products_does_not():
    """V07: (B G, G^-1 A) is the same adapter; mixed factors change with G, mixed products do not."""
    rng = np.random.default_rng(0)
    b, a, g = rng.normal(size=(CLIENTS, 7, 3)), rng.normal(size=(CLIENTS, 3, 5)), rng.normal(size=(3, 3))
    other_b, other_a = b.copy(), a.copy()
    other_b[1], other_a[1] = b[1] @ g, np.linalg.solve(g, a[1])
    weights = Topology.build("ring", CLIENTS).weights(0)
    products = [
        mixed_factors(weights, np.einsum("nij,njk->nik", p, q), np.zeros((CLIENTS, 1, 1)))[0]
        for p, q in ((b, a), (other_b, other_a))
    ]
    np.testing.assert_allclose(*products, atol=1e-10)
    (first_b, first_a), (second_b, second_a) = mixed_factors(weights, b, a), mixed_factors(weights, other_b, other_a)
    assert abs(first_b[0] @ first_a[0] - second_b[0] @ second_a[0]).max() > 1e-3


@pytest.mark.parametrize("topology", ["ring", "exponential", "erdos-renyi:0.4"])
def test_mixing_in_float64_keeps_the_mean_to_rounding(topology):
    """V01 at its own tolerance."""
    weights = Topology.build(topology, CLIENTS, seed=2).weights(0)
    rows = np.random.default_rng(1).normal(size=(CLIENTS, 501))
    mean = rows.mean(0)
    matrix = _bridge.MixingMatrix(weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data)
    for _ in range(10):
        matrix.mix_in_place(rows, 0.7)
    np.testing.assert_allclose(rows.mean(0), mean, atol=1e-12)


def test_float64_disagreement_contracts_by_slem_each_round():
    """V02 at its own tolerance: e_{t+1} = slem^2 e_t along the slem eigenvector."""
    topology = Topology.build("ring", CLIENTS)
    weights = topology.weights(0)
    values, vectors = np.linalg.eigh(weights.toarray())
    rows = np.outer(vectors[:, np.argsort(abs(values))[-2]], np.arange(1.0, 9.0))
    matrix = _bridge.MixingMatrix(weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data)
    before = float((rows**2).sum())
    for _ in range(5):
        matrix.mix_in_place(rows, 1.0)
        after = float((rows**2).sum())
        assert after == pytest.approx(topology.slem**2 * before, rel=1e-9)
        before = after


@pytest.mark.parametrize("topology", ["ring", "star", "exponential", "erdos-renyi:0.4", "complete"])
def test_without_local_work_disagreement_contracts_by_at_least_slem_squared(topology):
    """I2: e_{t+1} <= slem^2 e_t from anywhere, not only along the eigenvector; float64, to its rounding."""
    graph = Topology.build(topology, CLIENTS, seed=1)
    rows = np.random.default_rng(0).normal(size=(CLIENTS, 40))
    matrix = mixing_matrix(graph.weights(0))
    for _ in range(8):
        before = float(((rows - rows.mean(0)) ** 2).sum())
        matrix.mix_in_place(rows, 1.0)
        assert float(((rows - rows.mean(0)) ** 2).sum()) <= graph.slem**2 * before * (1 + 1e-9) + 1e-28


def mixing_matrix(weights):
    return _bridge.MixingMatrix(weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data)


def disagreement_under_pushes(topology, pushes):
    """Runs x <- W (x + u) in float64 from consensus; returns sqrt(e_t) after each round."""
    matrix = mixing_matrix(topology.weights(0))
    rows, distances = np.zeros_like(pushes[0]), []
    for push in pushes:
        rows += push
        matrix.mix_in_place(rows, 1.0)
        distances.append(np.linalg.norm(rows - rows.mean(0)))
    return np.array(distances)


@pytest.mark.parametrize("topology", ["ring", "star", "exponential", "erdos-renyi:0.4"])
def test_bounded_local_work_keeps_disagreement_under_the_bound_of_the_graph(topology):
    """Steps of norm at most s = eta K G each round: sqrt(e_t) <= sqrt(n) s slem (1 - slem^t) / (1 - slem).

    By induction: the disagreement d obeys d' = (W - J)(d + u), and sqrt(e) = |d| <= slem (|d| + sqrt(n) s).
    """
    graph, size, rounds = Topology.build(topology, CLIENTS, seed=1), 0.3, 60
    draws = np.random.default_rng(0).normal(size=(rounds, CLIENTS, 40))
    # The same direction every round, so that the pushes add up; each client's is as long as it may be.
    draws[1:] = draws[0] + 0.1 * draws[1:]
    pushes = size * draws / np.linalg.norm(draws, axis=2, keepdims=True)
    distances = disagreement_under_pushes(graph, list(pushes))
    t = np.arange(1, rounds + 1)
    bound = np.sqrt(CLIENTS) * size * graph.slem * (1 - graph.slem**t) / (1 - graph.slem)
    assert (distances <= bound * (1 + 1e-12)).all()
    assert distances[-1] > 0.1 * bound[-1]


def test_the_bound_on_disagreement_is_reached_by_pushes_along_the_slem_eigenvector():
    """On a ring of 4, (1, 1, -1, -1) has eigenvalue 1/3 = slem and equal entries: every inequality is an equality."""
    graph = Topology.build("ring", 4)
    assert graph.slem == pytest.approx(1 / 3, abs=1e-12)
    push = 0.3 * np.array([[1.0], [1.0], [-1.0], [-1.0]])
    distances = disagreement_under_pushes(graph, [push] * 30)
    np.testing.assert_allclose(distances, 2 * 0.3 * (1 - (1 / 3) ** np.arange(1, 31)) / 2, rtol=1e-9)
