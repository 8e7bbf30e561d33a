"""Robust rules against those of byzfl 0.0.11, where that is installed: `pip install byzfl`.

On the complete graph every client sees all values, as byzfl's server does. Two names mean something else there: its
Krum scores by n - f - 1 of the others, ours (as its paper) by n - f - 2, so that its f is ours and one more; and its
multi-Krum averages as many values as are not assumed to be bad. It has no clipped gossip, but centred clipping around a
given value, which is the same with equal weights.
"""

import numpy as np
import pytest

from declora.mixer import parse_mixer
from declora.topology import Topology

byzfl = pytest.importorskip("byzfl", exc_type=ImportError)
CLIENTS, COLUMNS, BAD = 11, 200, 3


def values(attack, seed):
    """float32 `[clients, columns]`: honest clients near each other, and attackers."""
    draws = np.random.default_rng(seed)
    rows = draws.normal(size=(1, COLUMNS)) + 0.3 * draws.normal(size=(CLIENTS, COLUMNS))
    honest = rows[BAD:]
    lies = {
        "sign-flip": -3 * honest.mean(0), "little is enough": honest.mean(0) - 1.2 * honest.std(0),
        "noise": 10 * draws.normal(size=(BAD, COLUMNS)), "none": rows[:BAD],
    }  # fmt: skip
    rows[:BAD] = lies[attack] + 1e-3 * draws.normal(size=(BAD, COLUMNS))
    return rows.astype(np.float32)


def centred(tau):
    def clip(rows, client):
        rule = byzfl.CenteredClipping(tau=tau)
        rule.m = rows[client]  # its constructor takes none: it asks for an array that is a tensor, too
        with np.errstate(divide="ignore"):  # one's own value is at distance 0
            return rule(rows)

    return clip


RULES = {
    "median": lambda rows, client: byzfl.Median()(rows),
    "trimmed-mean:f=3": lambda rows, client: byzfl.TrMean(f=3)(rows),
    "krum:f=3": lambda rows, client: byzfl.Krum(f=4)(rows),
    "multi-krum:f=3,m=7": lambda rows, client: byzfl.MultiKrum(f=4)(rows),
    "nna:f=3": lambda rows, client: byzfl.MoNNA(f=3, idx=client)(rows),
    "clipped:tau=2": centred(2.0),
}


@pytest.mark.parametrize("attack", ["none", "sign-flip", "little is enough", "noise"])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_gives_what_byzfl_gives(name, attack):
    mixer, graph = parse_mixer(name), Topology.build("complete", CLIENTS)
    mixer.check(graph)
    for seed in range(5):
        rows = values(attack, seed)
        mixed = rows.copy()
        mixer.mix(graph.weights(0), rows, mixed)
        expected = np.stack([RULES[name](rows.astype(np.float64), client) for client in range(CLIENTS)])
        # A sum of 11 float32 numbers is off by about 11 * 2^-24 = 7e-7 of the largest at most.
        np.testing.assert_allclose(mixed, expected, rtol=1e-6, atol=1e-6 * max(1.0, float(np.abs(rows).max())))
