"""What a round of gossip is made of: its graph and headers, where memories begin, what they shrink, gamma."""

import numpy as np
import pytest
import torch

from declora import _bridge
from declora.codec import parse_codec
from declora.mixer import PushSum
from declora.topology import Topology
from federations import Recorded, federation_of, gossip_of, rows_of

CLIENTS, COLUMNS = 12, 60


@pytest.mark.parametrize("name", ["one-peer-exponential", "base:1"])
def test_each_round_of_a_schedule_has_its_own_weights_edges_and_bytes(name):
    graph, recorded = Topology.build(name, CLIENTS), Recorded()
    gossip = gossip_of(federation_of(graph, exchange=recorded), torch.zeros(CLIENTS, COLUMNS))
    rows = rows_of(CLIENTS, COLUMNS)
    for t in range(graph.period + 2):
        expected = graph.weights(t).toarray() @ rows.double().numpy()
        traffic = gossip.round(t, rows)
        np.testing.assert_allclose(rows.numpy(), expected, atol=1e-6)
        np.testing.assert_array_equal(recorded.edges[t], graph.edges(t))
        sent = np.bincount(graph.edges(t)[:, 0], minlength=CLIENTS)
        assert traffic.bytes_sent.tolist() == (sent * (96 + 4 * COLUMNS)).tolist()
    assert any(not np.array_equal(recorded.edges[0], pairs) for pairs in recorded.edges)


def test_headers_name_run_manifest_round_and_sender():
    recorded = [Recorded(), Recorded(), Recorded()]
    for exchange, run_id in zip(recorded, (b"1" * 16, b"1" * 16, b"2" * 16), strict=True):
        gossip, rows = (
            gossip_of(federation_of(exchange=exchange), torch.zeros(10, COLUMNS), run_id=run_id),
            rows_of(10, COLUMNS),
        )
        for t in range(3):
            gossip.round(t, rows)
    first, again, other = (exchange.frames for exchange in recorded)
    assert all(map(np.array_equal, first, again))
    for frames, run_id in ((first, b"1" * 16), (other, b"2" * 16)):
        assert {bytes(frame[8:24]) for sent in frames for frame in sent} == {run_id}
    for t, frames in enumerate(first):
        assert {bytes(frame[24:40]) for frame in frames} == {gossip.names["manifest"]}
        assert frames[:, 40:48].copy().view("<u8")[:, 0].tolist() == [t] * 10
        assert frames[:, 48:52].copy().view("<u4")[:, 0].tolist() == list(range(10))


@pytest.mark.parametrize("memory", ["choco", "ef21"])
def test_public_copies_begin_at_the_common_first_adapter(memory):
    """The first message is the local step, 0.01 of rows of about 5: q8 then errs by 0.05 / 127, not by 5 / 127.

    The first adapter is what the rows were before the step, though they are changed in place.
    """
    rows = rows_of(10, COLUMNS, centre=5)
    gossip = gossip_of(federation_of("complete", codec=f"q8+{memory}"), rows)
    first = rows.clone()
    rows += 0.01 * rows_of(10, COLUMNS, seed=1)
    outgoing = gossip.memory.outgoing(rows.numpy())
    np.testing.assert_array_equal(outgoing, (rows - first).numpy())
    expected = rows.double().mean(0)
    gossip.round(0, rows)
    rows_after = rows.double()
    # gamma is 1 for q8: a row is then the mean of the copies plus its own copy's error, each below one step.
    assert (rows_after - expected).abs().max() < 2 * 0.05 / 127 + (first - first.mean(0)).abs().max()
    assert (torch.from_numpy(gossip.memory.state) - first).abs().max() < 0.05


@pytest.mark.parametrize("codec", ["qsgd:levels=1+ef", "randk:fraction=0.3+ef", "natural+choco", "qsgd:levels=1+ef21"])
def test_a_memory_shrinks_what_an_unbiased_codec_decodes(codec):
    """z - xhat (xhat = 0 for error feedback) is 1 / (1 + omega) of the decoded frame, in the mix and in the memory."""
    recorded = Recorded()
    federation = federation_of("complete", codec=codec, exchange=recorded)
    start, rows = torch.ones(10, COLUMNS), rows_of(10, COLUMNS)
    gossip, before = gossip_of(federation, start, gamma=0.5), rows.numpy().copy()
    outgoing = gossip.memory.outgoing(before)
    gossip.round(0, rows)
    decoded = np.empty_like(before)
    names = gossip.names | {"round": 0}
    _bridge.decode_frames(_bridge.check_frames(federation.codec.core, recorded.frames[0], COLUMNS, **names), decoded)
    shrink = parse_codec(codec).shrink
    assert shrink < 0.95
    sent = np.float32(shrink) * decoded
    public = sent if codec.endswith("+ef") else start.numpy() + sent
    expected = before + 0.5 * (public.mean(0, dtype=np.float64) - public)
    np.testing.assert_allclose(rows.numpy(), expected, atol=2e-5)
    kept = outgoing - sent if codec.endswith("+ef") else public
    np.testing.assert_allclose(gossip.memory.state, kept, atol=1e-6)


def test_error_feedback_of_a_coarse_unbiased_codec_owes_a_bounded_amount():
    """Without shrinking by 1 / (1 + omega), a codec of omega above 1 owes more in every round."""
    gossip = gossip_of(federation_of(codec="randk:fraction=0.1+ef"), torch.zeros(10, COLUMNS))
    sizes = []
    for t in range(60):
        gossip.round(t, rows_of(10, COLUMNS, seed=t))
        sizes.append(float(np.linalg.norm(gossip.memory.state)))
    # What is owed settles at about sqrt(1 - a) / (1 - sqrt(1 - a)) rows, 18 for a = 0.1, of norm sqrt(600).
    assert max(sizes) < 30 * (10 * COLUMNS) ** 0.5
    assert max(sizes[30:]) < 1.5 * max(sizes[15:30])


@pytest.mark.parametrize("gamma", [0.3, 0.6])
def test_push_sum_moves_numerators_and_weights_by_the_same_step(gamma):
    """Equal adapters then stay as they are, whatever their weights; w' = w + gamma (P - I) w."""
    graph = Topology.build("star", 6, column_stochastic=True)
    push, rows = PushSum(), np.tile(np.arange(1.0, 5.0), (6, 1))
    push.start(rows)
    weights = np.ones(6)
    for _ in range(4):
        push.mix(graph.weights(0), push.sent(rows).copy(), rows, gamma=gamma)
        weights = weights + gamma * (graph.weights(0).toarray() @ weights - weights)
        np.testing.assert_allclose(push.weights, weights, atol=1e-14)
        np.testing.assert_allclose(rows, np.tile(np.arange(1.0, 5.0), (6, 1)), atol=1e-13)
    assert np.abs(weights - 1).max() > 0.3
