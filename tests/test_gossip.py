"""The gossip round: the mean is kept, disagreement shrinks as the graph says, bytes are the real frames'."""

import numpy as np
import pytest
import torch

from declora import _bridge
from declora.codec import CODECS, parse_codec
from declora.errors import FrameError
from declora.exchange import Delivery, LocalExchange, StarExchange
from declora.gossip import Gossip
from declora.methods import Federation
from declora.mixer import LinearMixer
from declora.topology import Topology

CLIENTS, COLUMNS = 10, 3001


def gossip_of(codec="none", topology="ring", *, exchange=None, gamma=None, columns=COLUMNS, seed=0):
    shards = tuple(np.arange(1) for _ in range(CLIENTS))
    federation = Federation(
        shards, 1, Topology.build(topology, CLIENTS), parse_codec(codec), exchange or LocalExchange()
    )
    return Gossip(federation, torch.zeros(CLIENTS, columns), gamma=gamma, manifest=b"m" * 16, seed=seed)


def rows_of(columns=COLUMNS, seed=0):
    return torch.randn(CLIENTS, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "topology",
    ["ring", "complete", "erdos-renyi:0.5", "star", "exponential", "one-peer-exponential", "base:1"],
)
@pytest.mark.parametrize("codec", ["none", "bf16", "q2", "q4", "q8", "q3+ef", "q2+choco"])
def test_the_mean_over_clients_is_kept_whatever_the_codec(codec, topology):
    """V01, V20 in float32. Terms are rounded to 2^-24 of themselves; values and codes stay below about 30."""
    if "choco" in codec and topology in ("one-peer-exponential", "base:1"):
        pytest.skip("public copies need a static graph")
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
    LinearMixer(1.0).mix(topology.weights(0), rows.numpy(), mixed)
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


@pytest.mark.parametrize("codec", CODECS)
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
        with torch_free_threads(threads):
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


class torch_free_threads:
    """Sets the core's threads for a while."""

    def __init__(self, count):
        self.count = count

    def __enter__(self):
        self.before = _bridge.threads()
        _bridge.set_threads(self.count)

    def __exit__(self, *error):
        _bridge.set_threads(self.before)


def test_choco_reaches_consensus_where_the_bare_codec_stays_noisy():
    """Public copies send differences, which vanish as clients agree; bare q2 keeps its noise for ever."""
    noisy, exact = rows_of(), rows_of()
    mean = exact.double().mean(0)
    bare, choco = gossip_of("q2"), gossip_of("q2+choco")
    for t in range(150):
        bare.round(t, noisy)
        choco.round(t, exact)
    assert _bridge.consensus_distance(exact) < 1e-2 * _bridge.consensus_distance(noisy)
    assert (exact.double() - mean).abs().max() < 0.05


def test_a_damaged_message_is_refused_before_anything_is_mixed():
    class Damaged(LocalExchange):
        def deliver(self, frames, edges):
            frames = frames.copy()
            frames[3, 200] ^= 1
            return Delivery(frames, super().deliver(frames, edges).bytes_sent)

    rows = rows_of()
    before = rows.clone()
    with pytest.raises(FrameError, match="3"):
        gossip_of("q4", exchange=Damaged()).round(0, rows)
    assert torch.equal(rows, before)


def test_factor_averaging_misses_the_mean_product_by_the_factor_covariance():
    """V06: sum_j w_j B_j A_j - Bbar Abar = sum_j w_j (B_j - Bbar)(A_j - Abar), w a row of a mixing matrix."""
    rng = np.random.default_rng(0)
    b, a = rng.normal(size=(CLIENTS, 7, 3)), rng.normal(size=(CLIENTS, 3, 5))
    w = Topology.build("erdos-renyi:0.5", CLIENTS, seed=1).weights(0).toarray()
    for row in w:
        mean_b, mean_a = np.tensordot(row, b, 1), np.tensordot(row, a, 1)
        gap = np.einsum("n,nij,njk->ik", row, b, a) - mean_b @ mean_a
        covariance = np.einsum("n,nij,njk->ik", row, b - mean_b, a - mean_a)
        np.testing.assert_allclose(gap, covariance, atol=1e-12)


def test_factor_averaging_depends_on_the_gauge_and_product_averaging_does_not():
    """V07: (B G, G^-1 A) is the same adapter; the mean of factors changes, the mean of products does not."""
    rng = np.random.default_rng(0)
    b, a, g = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 3, 5)), rng.normal(size=(3, 3))
    b2, a2 = b.copy(), a.copy()
    b2[1], a2[1] = b[1] @ g, np.linalg.solve(g, a[1])
    products = np.einsum("nij,njk->nik", b, a).mean(0), np.einsum("nij,njk->nik", b2, a2).mean(0)
    np.testing.assert_allclose(*products, atol=1e-10)
    assert abs(b.mean(0) @ a.mean(0) - b2.mean(0) @ a2.mean(0)).max() > 1e-3
