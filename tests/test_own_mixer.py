"""Mixers of the user's own: what they may do, and what is said of a mistake."""

import numpy as np
import pytest
import torch

import declora
from declora import Topology
from declora.errors import ConfigError, TrainingError
from declora.mixer import parse_mixer
from federations import Damaged, federation_of, gossip_of, rows_of

COLUMNS = 50


def mixer_of(combine, **attributes):
    return type("Mine", (declora.Mixer,), {"combine": combine, **attributes})()


def linear(self, weights, public, rows, gamma):
    return rows + gamma * (weights @ public - public[: len(rows)])


@pytest.mark.parametrize("codec", ["q4", "q3+choco", "none"])
def test_linear_gossip_in_python_is_that_of_the_core(codec):
    rows = [rows_of(10, COLUMNS), rows_of(10, COLUMNS)]
    for mixer, values in zip((mixer_of(linear), "linear"), rows, strict=True):
        gossip = gossip_of(federation_of("torus", codec=codec, mixer=mixer), torch.zeros(10, COLUMNS))
        gossip.round(0, values)
    torch.testing.assert_close(*rows, rtol=0, atol=2e-6)  # float64 sums against float32 ones


@pytest.mark.parametrize("codec", ["none", "fp16+choco"])
def test_an_own_mixer_goes_on_without_refused_messages(codec):
    seen = []

    def combine(self, weights, public, rows, gamma):
        seen.append((weights.toarray(), public.copy()))
        return linear(self, weights, public, rows, gamma)

    rows, before = rows_of(10, COLUMNS), rows_of(10, COLUMNS)
    mixer = mixer_of(combine, robust=True)
    damaged = Damaged([5], rounds=[0])
    federation = federation_of("ring", mixer=mixer, codec=codec, exchange=damaged)
    gossip_of(federation, torch.zeros(10, COLUMNS)).round(0, rows)
    ((weights, public),) = seen
    assert weights[5].tolist() == weights[:, 5].tolist() == np.eye(10)[5].tolist()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert not public[5].any()
    assert torch.equal(rows[5], before[5])
    assert torch.isfinite(rows).all()


@pytest.mark.parametrize(
    ("combine", "error", "message"),
    [
        (lambda self, w, z, x, g: None, ConfigError, r"mixer='Mine': combine gives a NoneType; .* float64 \[4, 3\]"),
        (lambda self, w, z, x, g: x[:2], ConfigError, r"combine gives float32 \[2, 3\]"),
        (lambda self, w, z, x, g: x.astype(int), ConfigError, r"combine gives int64 \[4, 3\]"),
        (lambda self, w, z, x, g: np.full_like(x, np.nan), TrainingError, "combine gives nan for client 0, column 0"),
        (lambda self, w, z, x, g: np.full(x.shape, 1e300), TrainingError, r"combine gives 1e\+300 for client 0"),
    ],
)
def test_what_an_own_mixer_gives_is_checked_and_nothing_is_half_mixed(combine, error, message):
    rows = rows_of(4, 3).numpy()
    before = rows.copy()
    with pytest.raises(error, match=message):
        mixer_of(combine).mix(Topology.build("ring", 4).weights(0), rows.copy(), rows)
    np.testing.assert_array_equal(rows, before)


def test_an_exception_of_an_own_mixer_passes_through():
    def fail(self, weights, public, rows, gamma):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        mixer_of(fail).mix(Topology.build("ring", 4).weights(0), np.zeros((4, 3), "f4"), np.zeros((4, 3), "f4"))


@pytest.mark.parametrize("argument", ["z", "x"])
def test_an_own_mixer_cannot_change_what_it_is_given(argument):
    def combine(self, weights, z, x, gamma):
        {"z": z, "x": x}[argument][0] = 0
        return x

    with pytest.raises(ValueError, match="read-only"):
        mixer_of(combine).mix(Topology.build("ring", 4).weights(0), np.ones((4, 3), "f4"), np.ones((4, 3), "f4"))


@pytest.mark.parametrize("mixer", [declora.Mixer, declora.Mixer(), object(), len])
def test_what_is_no_mixer_is_refused_before_anything_is_loaded(mixer):
    with pytest.raises(ConfigError, match=r"is no mixer.*derives from declora.Mixer and defines combine"):
        declora.SimulationConfig(mixer=mixer)
    assert str(parse_mixer(mixer_of(linear))) == "Mine"
