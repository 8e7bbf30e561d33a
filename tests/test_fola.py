"""FOLA: Gaussians are pooled by how sure each is (V17), and the pool is the next round's prior."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import declora
from declora.inbox import Inbox
from declora.methods import Step, build_method
from declora.mixer import Linear
from declora.model import Block, Layout
from declora.plan import Plan
from declora.round_graph import RoundGraph
from declora.state import State
from declora.topology import Topology
from federations import federation_of, gossip_of, rows_of
from tiny import tiny_bert, tiny_texts

CLIENTS, COLUMNS = 6, 40
LAYOUT = Layout([Block("x", (COLUMNS,), "A", 0)])


def pooled(weights, public, rows, *, gamma=1.0, floor=1e-6):
    """Pools `rows [clients, 2 n]`, means and precisions, in place with the messages `public`."""
    inbox = Inbox(np.zeros(len(rows), dtype=np.int64), RoundGraph(weights), values=public)
    build_method(f"fola:floor={floor}").mix(Linear(), inbox, rows, layout=LAYOUT, gamma=gamma)


def gaussians(seed=0):
    draws = np.random.default_rng(seed)
    means, precisions = draws.normal(size=(CLIENTS, COLUMNS)), draws.uniform(0.1, 5.0, (CLIENTS, COLUMNS))
    return np.concatenate([means, precisions], axis=1).astype(np.float32)


@pytest.mark.parametrize("topology", ["ring", "complete", "exponential"])
def test_the_pool_is_the_analytic_one(topology):
    """Of weights w, the geometric mean of N(mu_j, 1 / Omega_j) is N of these two."""
    rows = gaussians()
    x, omega = (half.astype(np.float64) for half in np.split(rows, 2, axis=1))
    w = Topology.build(topology, CLIENTS).weights(0)
    mixed = rows.copy()
    pooled(w, rows, mixed)
    np.testing.assert_allclose(mixed[:, :COLUMNS], (w @ (omega * x)) / (w @ omega), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mixed[:, COLUMNS:], w @ omega, rtol=1e-6)


def test_equal_precisions_are_ordinary_gossip_with_a_lossy_codec_too():
    w, rows = Topology.build("ring", CLIENTS).weights(0), gaussians()
    rows[:, COLUMNS:] = 3.0
    public = rows.copy()
    public[:, :COLUMNS] += gaussians(1)[:, :COLUMNS]
    mixed, z = rows.copy(), public[:, :COLUMNS].astype(np.float64)
    pooled(w, public, mixed, gamma=0.7)
    np.testing.assert_allclose(mixed[:, :COLUMNS], rows[:, :COLUMNS] + 0.7 * (w @ z - z), atol=1e-6)
    np.testing.assert_allclose(mixed[:, COLUMNS:], 3.0, rtol=1e-6)


def test_who_is_sure_of_a_number_is_believed():
    w, rows = Topology.build("complete", CLIENTS).weights(0), gaussians()
    rows[2, COLUMNS + 7] = 1e9
    mixed = rows.copy()
    pooled(w, rows, mixed)
    np.testing.assert_allclose(mixed[:, 7], rows[2, 7], atol=1e-5)
    assert np.abs(mixed[:, 8] - rows[2, 8]).min() > 1e-3


def test_precisions_stay_above_the_floor_whatever_arrives():
    w, rows = sp.csr_array(np.full((2, 2), 0.5)), np.zeros((2, 4), dtype=np.float32)
    rows[:, :2], rows[:, 2:] = [[1, 2], [3, 4]], [[-1, 0], [-5, 0]]
    pooled(w, rows.copy(), rows, floor=1e-3)
    assert (rows[:, 2:] >= np.float32(1e-3)).all()
    np.testing.assert_allclose(rows[:, :2], [[2, 3], [2, 3]])


def test_columns_are_pooled_alike_in_parts_and_as_a_whole(monkeypatch):
    whole, parts = gaussians(), gaussians()
    w = Topology.build("ring", CLIENTS).weights(0)
    pooled(w, whole.copy(), whole)
    monkeypatch.setattr("declora.mixer.ratio._COLUMNS", 7)
    pooled(w, parts.copy(), parts)
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("reading", ["paper", "code"])
def test_squares_of_the_losses_gradients_become_precision_and_the_prior_pulls_to_where_the_round_began(reading):
    """At mu the prior has no gradient, and F has none of it anywhere.

    In round r the paper has F / r + (r - 1) / r Omega, and the code Omega + |b| / n_k F and a prior of 1 / r.
    """
    method, state = build_method(f"fola:strength=2,initial=0.5,reading={reading}"), State(rows_of(CLIENTS, COLUMNS))
    shards = [np.arange(count) for count in (2, 4, 8, 16, 32, 64)]
    shares = torch.tensor([[1], [1], [1 / 2], [1 / 4], [1 / 8], [1 / 16]])
    method.calibrate(replace(federation_of(clients=CLIENTS), batch_size=4).holding(shards), np.full(CLIENTS, 2))
    method.begin(state, LAYOUT)
    omega = state.room("fola")["precision"]
    assert (omega == 0.5).all()
    for event in range(2):
        plan = Plan.of_clients(COLUMNS, np.full(CLIENTS, 2), event)
        before, expected_omega, squares = state.adapter.clone(), omega.clone(), torch.zeros(CLIENTS, COLUMNS)
        pull = 2 / (event + 1) if reading == "code" else 2
        method.before_round(state, plan)
        for number in range(2):
            loss = rows_of(CLIENTS, COLUMNS, seed=10 * event + number)
            step = Step(plan, plan.phases[0], number, torch.empty(CLIENTS, COLUMNS), torch.ones(CLIENTS))
            method.gradient(lambda step=step, loss=loss: step.gradients.copy_(loss).sum(1), state, step)
            torch.testing.assert_close(step.gradients, loss + pull * expected_omega * (state.adapter - before))
            assert (number == 0) == torch.equal(step.gradients, loss)
            squares += loss**2
            state.adapter.sub_(0.1 * step.gradients)
        lifted = method.lift(state, plan)
        if reading == "code":
            expected_omega = expected_omega + shares * squares
        else:
            expected_omega = squares / (event + 1) + event / (event + 1) * expected_omega
        torch.testing.assert_close(lifted[:, COLUMNS:], expected_omega)
        assert torch.equal(lifted[:, :COLUMNS], state.adapter)


def test_gossip_sends_both_and_takes_both():
    start = rows_of(CLIENTS, COLUMNS)
    alone, rows = gossip_of(federation_of(clients=CLIENTS), start, method="fola", layout=LAYOUT), start.clone()
    omega = alone.state.room("fola")["precision"]
    alone.method.before_round(alone.state, alone.plan(3))
    omega.copy_(4 / 3 * torch.from_numpy(gaussians()[:, COLUMNS:]))  # of which 3 / 4 remain in round 4
    w = Topology.build("ring", CLIENTS).weights(0)
    expected = np.concatenate([rows.numpy(), gaussians()[:, COLUMNS:]], axis=1)
    pooled(w, expected.copy(), expected)
    inbox = alone.round(3, rows)
    np.testing.assert_allclose(rows, expected[:, :COLUMNS], atol=1e-5)
    np.testing.assert_allclose(omega, expected[:, COLUMNS:], rtol=1e-5)
    assert inbox.bytes_sent.tolist() == [2 * (96 + 8 * COLUMNS)] * CLIENTS


def test_without_its_prior_it_is_still_not_dec_lora(tokenizer):
    settings = {
        "model": tiny_bert(), "tokenizer": tokenizer, "data": tiny_texts(48), "clients": 4, "rounds": 3,
        "local_steps": 2, "batch_size": 4, "codec": "none", "client_eval_samples": 0, "progress": False,
        "lora": {"r": 2, "target_modules": ["query"]}, "learning_rate": 0.02,
    }  # fmt: skip
    pool, plain, prior = (
        declora.simulate(method=m, **settings) for m in ("fola:strength=0", "dec-lora", "fola:strength=100")
    )
    assert not torch.equal(pool.average.row, plain.average.row)
    first = settings["learning_rate"]
    moved = [float((result.average.row - plain.average.row).abs().max()) for result in (pool, prior)]
    assert all(0 < distance < 12 * first for distance in moved)  # each of 6 steps of AdamW goes about `first`
