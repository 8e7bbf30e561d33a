"""Mixing, means and distances on a GPU: the bits of the core."""

import numpy as np
import pytest
import torch

import cards
from core_calls import normal
from declora import _bridge, cuda
from declora.errors import ConfigError
from declora.topology import Topology

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")


def matrices(weights, own=None):
    """The same mixing matrix for the core and for a GPU."""
    arrays = weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data
    return (
        _bridge.MixingMatrix(*arrays, known=weights.shape[1], own=own),
        cuda.MixingMatrix(*arrays, weights.shape[1], own, device=cards.DEVICE),
    )


@pytest.mark.parametrize(
    ("text", "topology"),
    [("none", "star"), ("fp16", "ring"), ("bf16", "star"), ("q4", "star"), ("q8", "ring"), ("q3:block=96", "ring")],
)
def test_mixing_payloads_gives_the_bits_of_the_core(text, topology):
    x = normal(3, 300)
    core, card = matrices(Topology.build(topology, 3).weights(0))
    _, z, proof = cards.by_core(text, x)
    expected, mixed, of_floats = x.copy(), cards.on_card(x), cards.on_card(x)
    core.mix_frames(proof, expected, 0.7)
    card.mix_frames(cards.by_card(text, x), mixed, 0.7)
    assert cards.same_bits(mixed, expected)
    card.mix(cards.on_card(z), of_floats, 0.7)
    assert cards.same_bits(of_floats, expected)


def test_rows_of_some_clients_mix_as_in_the_core():
    """A rectangle: clients 2 and 0 of 4, by all; one whose row is its own only stays as it is, all but -0."""
    weights = Topology.build("ring", 4).weights(0)[[2, 0]].tolil()
    weights[1] = [1, 0, 0, 0]
    core, card = matrices(weights.tocsr(), own=np.array([2, 0]))
    z, x = normal(4, 1100), normal(2, 1100, seed=1)
    x[1, 0] = -0.0
    expected, mixed = x.copy(), cards.on_card(x)
    core.mix(z, expected, 1.0)
    card.mix(cards.on_card(z), mixed, 1.0)
    assert cards.same_bits(mixed, expected)
    np.testing.assert_array_equal(expected[1], x[1])


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (3, 1030), (17, 40)])
def test_the_consensus_distance_has_the_bits_of_the_core(rows, columns):
    x = normal(rows, columns) + np.float32(100)
    assert cuda.consensus_distance(cards.on_card(x)) == _bridge.consensus_distance(x)


def test_the_consensus_distance_of_some_rows_is_that_of_the_matrix_of_them():
    x, some = normal(9, 40), [1, 3, 8]
    assert cuda.consensus_distance(cards.on_card(x), some) == _bridge.consensus_distance(x[some])
    assert cuda.consensus_distance(cards.on_card(x), []) == 0
    assert cuda.consensus_distance(cards.on_card(x[:, :0])) == 0
    x[3, 7] = np.nan
    assert np.isnan(cuda.consensus_distance(cards.on_card(x), some))


def test_the_weighted_mean_is_that_of_float64():
    x, some, counts = normal(9, 140), [1, 3, 8], np.array([1.0, 2.0, 0.3])
    found = cuda.weighted_mean(cards.on_card(x), some, counts).cpu().numpy()
    exact = counts @ x[some].astype(np.float64) / counts.sum()
    np.testing.assert_allclose(found, exact, rtol=2.0**-23)
    assert found.dtype == np.float32
    same = cuda.weighted_mean(cards.on_card(x), some, np.ones(3))
    assert torch.equal(same.cpu(), torch.from_numpy(x[some]).double().sum(0).div(3).float())


def test_what_a_kernel_cannot_take_is_refused():
    _, card = matrices(Topology.build("ring", 3).weights(0))
    z = cards.on_card(normal(3, 8))
    payloads = cards.by_card("q4", normal(2, 8))
    for call, said in (
        (lambda: card.mix(z, z[:2].clone(), 1.0), r"x is torch.float32 \[2, 8\]"),
        (lambda: card.mix(z[:, :7], z.clone(), 1.0), r"z is torch.float32 \[3, 7\]"),
        (lambda: card.mix(z, z.double(), 1.0), "x is torch.float64"),
        (lambda: card.mix(z, z.t().contiguous().t(), 1.0), r"of strides \[1, 3\]"),
        (lambda: card.mix_frames(payloads, z, 1.0), "frames are of 2 clients, but the matrix knows 3"),
        (lambda: payloads.decode(z), r"out is torch.float32 \[3, 8\]"),
        (lambda: cards.by_card("q4", normal(2, 8), senders=np.arange(3, dtype=np.uint32)), r"must be .*\[3, 8\]"),
    ):
        with pytest.raises(ConfigError, match=said):
            call()
