"""Graphs on which all apply the same weights: every client moves to one mean, and no weight is made for a pair."""

import itertools

import numpy as np
import pytest
import torch

import cards
import federations
import resumable
from core_calls import checked, framed, normal
from declora import SimulationConfig, _bridge, cuda, errors, simulate
from declora.cluster import divide
from declora.exchange import Delivery, LocalExchange, StarExchange, known_to, neighbouring
from declora.mixer import Linear, Mixer
from declora.prepare import plan_federation
from declora.round_graph import CompleteGraph, Matrices, RoundGraph
from declora.testing import check_matrix
from declora.topology import Topology, server

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:overflow:RuntimeWarning")

ROW = np.array([0.1, 0.25, 0.05, 0.2, 0.15])
HOME = 0.25


def moved(z, x, gamma, *, row=ROW, home=HOME, first=0):
    """The definition: a sum in the order of clients and the step, all in float64, rounded once."""
    mean = np.zeros(z.shape[1])
    for weight, values in zip(row, z.astype(np.float64), strict=True):
        mean = mean + weight * values
    own, gamma = z[first : first + len(x)].astype(np.float64), np.float64(np.float32(gamma))
    whole = gamma == 1.0 and home == 0.0
    return ((x - own) + mean if whole else x + gamma * (mean - (1 - home) * own)).astype(np.float32)


def test_the_core_averages_as_the_definition_does_for_all_and_for_some():
    z, x = normal(5, 3001), normal(5, 3001, seed=1)
    average = _bridge.Average(ROW, HOME)
    assert (average.known, repr(average)) == (5, "Average(known=5)")
    found, some = x.copy(), x[2:4].copy()
    average.mix(z, found, 0.7, 0)
    average.mix(z, some, 0.7, 2)
    np.testing.assert_array_equal(found, moved(z, x, 0.7))
    np.testing.assert_array_equal(some, found[2:4])


@pytest.mark.parametrize("text", ["none", "bf16", "q4", "q3:block=64", "q4+rans", "topk:fraction=0.2", "eden"])
def test_frames_are_averaged_as_what_they_decode_to(text):
    codec, x = _bridge.Codec(text), normal(5, 700)
    frames = checked(codec, framed(codec, x), 700)
    z = np.empty_like(x)
    _bridge.decode_frames(frames, z)
    for first in (0, 3):
        found, expected = x[first:].copy(), x[first:].copy()
        _bridge.Average(ROW, HOME).mix_frames(frames, found, 0.9, first)
        _bridge.Average(ROW, HOME).mix(z, expected, 0.9, first)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("codec", "gamma", "home"), [("none", 1.0, 0.0), ("bf16", 0.5, 0.25), ("q4", 0.7, 0.0), ("q3", 1.0, 0.25)]
)
def test_a_card_averages_with_the_bits_of_the_core(codec, gamma, home):
    row = ROW / 0.75 * (1 - home)
    x = torch.from_numpy(normal(5, 1301)).to(cards.DEVICE)
    payloads = cuda.Codec.of(str(_bridge.Codec(codec))).encode(
        x, seed=3, round=1, senders=torch.arange(5, dtype=torch.int32, device=cards.DEVICE)
    )
    z = torch.empty_like(x)
    payloads.decode(z)
    average, (fused, apart) = cuda.Average(row, home, device=x.device), (x.clone(), x.clone())
    average.mix_frames(payloads, fused, gamma)
    average.mix(z, apart, gamma)
    expected = x.cpu().numpy().copy()
    _bridge.Average(row, home).mix(z.cpu().numpy(), expected, gamma, 0)
    for found in (fused, apart):
        np.testing.assert_array_equal(found.cpu().numpy(), expected)
    for call, text in (
        (lambda: average.mix(z[:4], apart, gamma), "z is"),
        (lambda: average.mix(z[:, :3], apart[:4, :3], gamma), "x is"),
        (lambda: average.mix_frames(payloads, apart[:, :9], gamma), "x is"),
        (lambda: cuda.Average(ROW[:4], 0.4, device=x.device).mix_frames(payloads, apart[:4], gamma), "of 5 clients"),
    ):
        with pytest.raises(errors.ConfigError, match=text):
            call()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: _bridge.Average(ROW), errors.TopologyError, "weights sum to 0.75 with what stays at home"),
        (lambda: _bridge.Average(-ROW), errors.TopologyError, "weight -0.1 of client 0"),
        (lambda: _bridge.Average(ROW[:0]), errors.TopologyError, "it has 0 weights"),
        (lambda: _bridge.Average(ROW.astype(np.float32)), errors.ConfigError, "weights"),
        (lambda: averaged(normal(5, 8), normal(5, 9)), errors.ConfigError, "x has 9 columns, but z has 8"),
        (lambda: averaged(normal(4, 10), normal(5, 10)), errors.ConfigError, "z has 4 rows, but there are 5 weights"),
        (lambda: averaged(normal(5, 8), normal(3, 8), 3), errors.ConfigError, "first=3"),
        (lambda: averaged(normal(5, 8), normal(3, 8), -1), errors.ConfigError, "first=-1"),
        (lambda: averaged(normal(5, 8), normal(5, 8), 0, float("inf")), errors.ConfigError, "gamma=inf"),
        (lambda: averaged(normal(5, 8), normal(5, 8).astype(np.float64)), errors.ConfigError, "x"),
    ],
)
def test_what_does_not_average_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def averaged(z, x, first=0, gamma=1.0):
    _bridge.Average(ROW, HOME).mix(z, x, gamma, first)


def test_rows_that_are_their_own_messages_are_refused():
    x = normal(5, 8)
    with pytest.raises(errors.ConfigError, match="x overlaps another argument"):
        averaged(x, x)


def never(self):
    raise AssertionError("a weight is made for each pair of clients")


@pytest.mark.parametrize("topology", [Topology.build("complete", 40), server(40, np.arange(1, 41))])
@pytest.mark.parametrize("codec", ["none", "q4", "q4+choco", "topk:fraction=0.2+ef"])
def test_gossip_of_all_with_all_makes_no_weight_for_a_pair_and_keeps_the_mean(topology, codec, monkeypatch):
    monkeypatch.setattr(CompleteGraph, "_weights", property(never))
    law = np.full(40, 1 / 40) if topology.law is None else topology.law
    federation = federations.federation_of(topology, clients=40, codec=codec)
    gossip = federations.gossip_of(federation, torch.zeros(40, 257))
    rows = federations.rows_of(40, 257)
    before = law @ rows.numpy().astype(np.float64)
    inbox = gossip.round(0, rows)
    assert inbox.bytes_sent.tolist() == (39 * (inbox.bytes_sent // 39)).tolist()
    # Each row is rounded to float32 once, numbers below 8; and so is the mean of them all, at most.
    np.testing.assert_allclose(law @ rows.numpy().astype(np.float64), before, atol=2 * 8 * 2**-24)
    if codec == "none":
        assert (rows == rows[0]).all()
        np.testing.assert_array_equal(rows[0].numpy(), moved_to_mean(law, federations.rows_of(40, 257).numpy()))


def moved_to_mean(law, rows):
    return moved(rows, rows[:1], 1.0, row=law, home=0.0)[0]


def test_a_server_costs_as_many_weights_as_clients_and_two_frames_each(monkeypatch):
    monkeypatch.setattr(CompleteGraph, "_weights", property(never))
    federation = federations.federation_of(server(2000), clients=2000, codec="none", exchange=StarExchange())
    rows = federations.rows_of(2000, 33)
    inbox = federations.gossip_of(federation, torch.zeros(2000, 33)).round(0, rows)
    assert set(inbox.bytes_sent.tolist()) == {2 * (96 + 33 * 4)}
    assert (rows == rows[0]).all()


@pytest.mark.parametrize("method", ["fedavg", "dec-lora", "con-lora", "gradient-tracking", "rolora"])
def test_a_whole_run_makes_no_weight_for_a_pair(method, monkeypatch, tmp_path):
    monkeypatch.setattr(CompleteGraph, "_weights", property(never))
    monkeypatch.setattr(CompleteGraph, "edges", property(never))
    settings = {**resumable.OBJECTS, **resumable.SETTINGS, "method": method, "rounds": 2, "checkpoint_every": None}
    settings |= {} if method == "fedavg" else {"topology": "complete"}
    result = simulate(**settings, out=tmp_path / "run")
    assert result.history["bytes_sent"].iloc[-1] > 0
    if method == "fedavg":
        assert result.history["consensus_distance"].iloc[-1] == 0.0
        assert torch.equal(result.client(0).row, result.client(1).row)


@pytest.mark.parametrize(
    "more", [{"mixer": "median"}, {"faults": "loss:0.3"}, {"attack": "sign-flip", "attackers": [1]}], ids=str
)
def test_what_looks_at_pairs_has_the_entries(more):
    result = simulate(
        **{**resumable.OBJECTS, **resumable.SETTINGS, "topology": "complete", "rounds": 1, "checkpoint_every": None}
        | more
    )
    assert np.isfinite(result.history["train_loss"]).all()


def test_ranks_know_of_a_complete_graph_what_its_edges_say_without_them():
    for clients, ranks in [(2, 2), (5, 3), (6, 2)]:
        everybody = Topology.build("complete", clients).round(0)
        edges, sites = RoundGraph(everybody.weights), divide(clients, ranks, group_size=1)
        assert neighbouring(sites, [everybody]) == neighbouring(sites, [edges])
        for site in sites:
            np.testing.assert_array_equal(known_to(site, [everybody]), known_to(site, [edges]))
        for some in itertools.product([False, True], repeat=clients):
            expected = edges.audience.among(np.array(some))
            np.testing.assert_array_equal(everybody.audience.among(np.array(some)), expected)
            heard = [sum(some[j] for j in range(clients) if j != i) for i in range(clients)]
            assert expected.tolist() == heard


def test_a_rule_that_mixes_in_a_way_of_its_own_is_asked_on_a_complete_graph_too():
    class Half(Linear):
        """Linear gossip that goes half as far."""

        def mix(self, weights, public, rows, *, gamma=1.0, refused=None):
            super().mix(weights, public, rows, gamma=gamma / 2, refused=refused)

        def mix_frames(self, weights, frames, rows, *, gamma=1.0):
            super().mix_frames(weights, frames, rows, gamma=gamma / 2)

    class Named(Linear):
        """Linear gossip by another name."""

        name = "named"

    assert (Half.averages, Named.averages, Linear.averages, Mixer.averages) == (False, True, True, False)
    spread = {}
    for mixer in (Half(), Named()):
        rows = federations.rows_of(4, 9)
        before = rows - rows.mean(dim=0)
        federation = federations.federation_of("complete", clients=4, codec="none", mixer=mixer)
        federations.gossip_of(federation, torch.zeros(4, 9)).round(0, rows)
        spread[type(mixer)] = ((rows - rows.mean(dim=0)).norm() / before.norm()).item()
    assert spread == {Half: pytest.approx(0.5, abs=1e-6), Named: 0.0}


class Gone(LocalExchange):
    """Cannot reach client 2, of whom nothing comes."""

    def deliver(self, frames, sizes, audience, beside=None):
        delivery = super().deliver(frames, sizes, audience)
        return Delivery(delivery.frames, delivery.bytes_sent, np.arange(len(frames)) == 2)


@pytest.mark.parametrize("codec", ["none", "q4"])
def test_the_weight_of_who_is_gone_stays_at_home_without_a_weight_for_a_pair(codec, monkeypatch):
    def after(**forbidden):
        for name, value in forbidden.items():
            monkeypatch.setattr(CompleteGraph, name, value)
        federation = federations.federation_of("complete", clients=5, codec=codec, exchange=Gone())
        rows = federations.rows_of(5, 77)
        federations.gossip_of(federation, torch.zeros(5, 77)).round(0, rows)
        return np.delete(rows.numpy(), 2, axis=0)

    monkeypatch.setattr(Linear, "averages", False)
    by_pairs = after()
    monkeypatch.setattr(Linear, "averages", True)
    found = after(_weights=property(never), edges=property(never))
    # Five differences of numbers below 8 in float32, or in float64 and rounded once.
    np.testing.assert_allclose(found, by_pairs, atol=8 * 6 * 2**-24)
    if codec == "none":
        rows = np.delete(federations.rows_of(5, 77).numpy(), 2, axis=0).astype(np.float64)
        np.testing.assert_allclose(found, rows + (rows.sum(axis=0) - 4 * rows) / 5, atol=8 * 2**-24)


@pytest.mark.parametrize("method", ["decaf", "hetlora", "fola", "lora-fair", "fedrot", "flora", "hafl", "dis-pfl"])
def test_methods_that_look_at_pairs_are_refused_at_the_start_where_these_do_not_fit(method, monkeypatch):
    settings = {"clients": 10_000, "model": "tiny", "topology": "complete", "method": method}
    plan_federation(SimulationConfig(**settings))
    monkeypatch.setattr("declora.process.memory", lambda: 10**9)
    with pytest.raises(errors.TopologyError, match="clients needs 2,000,000,000 bytes"):
        plan_federation(SimulationConfig(**settings))
    plan_federation(
        SimulationConfig(**settings | {"method": "fedavg", "topology": "ring", "clock": "lognormal:step=1"})
    )


def test_matrices_of_a_complete_graph_are_used_as_a_tuple_of_them_is():
    everybody = Topology.build("complete", 4)
    assert (
        Topology.build(everybody.matrices, 4).weights(0).toarray().tolist() == everybody.weights(0).toarray().tolist()
    )
    assert check_matrix(everybody.matrices).failures == []
    one = tuple(everybody.matrices)
    for both in (everybody.matrices + everybody.matrices, everybody.matrices + one, one + everybody.matrices):
        assert isinstance(both, tuple)
        assert len(both) == 2
    assert repr(everybody.matrices) == "<Matrices: 1 of 4 clients>"
    for wrong, text in (
        (lambda: Topology("mine", 4, everybody.matrices, law=np.array([0.4, 0.3, 0.2, 0.1])), "weighted by the law"),
        (lambda: Topology("mine", 5, everybody.matrices), "is for 4 clients, but clients=5"),
    ):
        with pytest.raises(errors.TopologyError, match=text):
            wrong()
    laplacian = Topology.build("complete", 4, weights="laplacian")
    turns = Topology("turns", 4, Matrices([laplacian.round(0), everybody.round(0)]))
    assert (turns.period, turns.slem) == (2, pytest.approx(0.0, abs=1e-6))
