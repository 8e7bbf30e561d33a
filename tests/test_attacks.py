"""Attacks: what is sent is what they say, plain averaging breaks under it, robust rules do not."""

import numpy as np
import pytest
import torch

import federations
from declora.attacks import ATTACKS, parse_attack
from declora.errors import ConfigError

CLIENTS, COLUMNS = 16, 64
ATTACKERS = [3, 11]
HONEST = [client for client in range(CLIENTS) if client not in ATTACKERS]


def gossip_of(topology="random-regular:6", **settings):
    federation = federations.federation_of(topology, clients=CLIENTS, attackers=ATTACKERS, **settings)
    return federations.gossip_of(federation, torch.zeros(CLIENTS, COLUMNS))


def rows_of():
    """Values around 5, so that an attack towards 0 is one."""
    return federations.rows_of(CLIENTS, COLUMNS, centre=5)


def distance_after(rounds=30, **settings):
    """Root mean square distance of the worst honest client from the honest mean at the start, whose spread is 1."""
    rows, gossip = rows_of(), gossip_of(**settings)
    mean = rows[HONEST].double().mean(0)
    for t in range(rounds):
        gossip.round(t, rows)
    return float((rows[HONEST].double() - mean).square().mean(1).sqrt().max())


ROBUST = ["clipped:f=2", "clipped:tau=1", "trimmed-mean:f=2", "median", "krum:f=2", "multi-krum:f=2", "nna:f=2"]
BREAKING = ["sign-flip:scale=10", "alie:scale=20", "ipm:scale=10", "gaussian:scale=30"]


@pytest.mark.parametrize("attack", BREAKING)
def test_plain_averaging_breaks(attack):
    """The control: without it the next test would show nothing."""
    assert distance_after(attack=attack) > 3


HARMLESS = ["alie", "mimic", "stale:delay=3", "crafted", "dissensus:scale=3", "replay:delay=2", "nan", "inf"]


@pytest.mark.parametrize("attack", [*BREAKING, *HARMLESS])
@pytest.mark.parametrize("mixer", ROBUST)
def test_robust_rules_stay_with_the_honest(attack, mixer):
    """Krum ends at one honest client's value, about 1 from the mean; the others average and end nearer."""
    assert distance_after(attack=attack, mixer=mixer) < 1.2


@pytest.mark.parametrize("codec", ["q8", "q2+choco", "q8+ef"])
def test_robust_rules_stay_with_the_honest_under_lossy_codecs(codec):
    assert distance_after(attack="ipm:scale=10", mixer="clipped:f=2", codec=codec) < 1.2
    assert distance_after(attack="ipm:scale=10", mixer="linear", codec=codec) > 3


EXTREME = ["sign-flip", "gaussian", "ipm", "alie", "dissensus"]


@pytest.mark.parametrize("attack", EXTREME)
@pytest.mark.parametrize("mixer", ROBUST)
@pytest.mark.parametrize("codec", ["none", "fp16", "q4", "q4+choco", "q4+ef", "eden:bits=2"])
def test_robust_rules_bear_the_largest_lies_that_a_codec_carries(codec, mixer, attack):
    """Lies beyond what the attackers' codec encodes become the largest that it does, and the run goes on."""
    gossip, rows = gossip_of(codec=codec, mixer=mixer, attack=f"{attack}:scale=1e38"), rows_of()
    for t in range(4):
        gossip.round(t, rows)
    # Coarse codecs err by no more than a few times the values, 5; the least of these lies, fp16's, is 65504.
    assert (rows[HONEST] - 5).abs().max() < 50


def lies(attack, t=0, rows=None):
    rows = rows_of().numpy() if rows is None else rows
    before = rows.copy()
    sent = parse_attack(attack, ATTACKERS, clients=CLIENTS, seed=7).sent(t, rows)
    assert np.array_equal(rows, before), "the attackers' own adapters were changed"
    assert np.array_equal(sent[HONEST], rows[HONEST]), "an honest row was changed"
    assert sent.dtype == np.float32
    return sent[ATTACKERS]


def test_each_attack_sends_what_it_says():
    rows = rows_of().numpy()
    honest = rows[HONEST].astype(np.float64)
    np.testing.assert_allclose(lies("sign-flip:scale=3"), -3 * rows[ATTACKERS], rtol=1e-6)
    np.testing.assert_allclose(lies("sign-flip"), -rows[ATTACKERS])
    np.testing.assert_allclose(lies("ipm:scale=0.5"), np.tile(-0.5 * honest.mean(0), (2, 1)), rtol=1e-5)
    alie = honest.mean(0) + 1.5 * honest.std(0, ddof=1)
    np.testing.assert_allclose(lies("alie"), np.tile(alie, (2, 1)), rtol=1e-5)
    np.testing.assert_array_equal(lies("mimic"), rows[[0, 0]])
    np.testing.assert_array_equal(lies("mimic:target=5"), rows[[5, 5]])
    np.testing.assert_array_equal(lies("nan"), rows[ATTACKERS])


def test_stale_attackers_send_what_they_had_some_rounds_ago():
    attack, past = parse_attack("stale:delay=2", ATTACKERS, clients=CLIENTS, seed=0), []
    for _ in range(2):  # a second run begins without the first one's past
        attack.start((), {})
        past.clear()
        for t in range(6):
            rows = federations.rows_of(CLIENTS, COLUMNS, seed=t).numpy()
            past.append(rows.copy())
            np.testing.assert_array_equal(attack.sent(t, rows)[ATTACKERS], past[max(0, t - 2)][ATTACKERS])


def test_gaussian_noise_is_a_function_of_seed_round_and_client():
    first = lies("gaussian:scale=10")
    assert np.array_equal(first, lies("gaussian:scale=10"))
    assert not np.array_equal(first, lies("gaussian:scale=10", t=1))
    assert not np.array_equal(first[0], first[1])
    # 128 values: the standard deviation of a sample has a standard error of 1 / sqrt(256) of itself, here 4 of them.
    assert first.std() == pytest.approx(10, rel=4 / 16)


def test_attackers_take_the_honest_mean_for_their_own_so_that_their_lies_do_not_grow_on_them():
    rows = rows_of()
    gossip = gossip_of(mixer="median", attack="sign-flip:scale=10")
    for t in range(10):
        gossip.round(t, rows)
    mean = rows[HONEST].double().mean(0).float()
    assert torch.equal(rows[3], rows[11])
    torch.testing.assert_close(rows[3], mean, atol=1e-6, rtol=0)


def test_without_refusals_an_attack_changes_nothing_for_those_who_do_not_hear_it():
    """Honest frames are the same bytes with and without attackers: client 0 of a ring hears 1 and 15 only."""
    plain, attacked = rows_of(), rows_of()
    gossip_of("ring", codec="q4").round(0, plain)
    gossip_of("ring", codec="q4", attack="gaussian:scale=9").round(0, attacked)
    hears = {c for a in ATTACKERS for c in (a - 1, a, a + 1)}
    quiet = [c for c in range(CLIENTS) if c not in hears]
    assert torch.equal(plain[quiet], attacked[quiet])
    assert not torch.equal(plain[2], attacked[2])


@pytest.mark.parametrize(
    ("attack", "attackers", "message"),
    [
        ("sing-flip", 1, "Did you mean 'sign-flip'"),
        ("alie:z=1", 1, "option of attack alie='z'"),
        ("alie:scale=0", 1, "scale='0' must be a number above 0 and at most 3.4e\\+38"),
        ("sign-flip:scale=1e39", 1, "scale='1e39' must be a number above 0 and at most"),
        ("stale:delay=0", 1, "delay='0' must be a whole number of at least 1"),
        ("stale:delay=9999999999", 1, "delay='9999999999' must be"),
        ("replay:delay=0", 1, "sends what it should"),
        ("replay:target=3", [3], "attacks itself"),
        ("replay:target=16", [3], "0..15"),
        ("nan:scale=2", 1, "takes no options"),
        ("mimic:target=3", [3], "attacks itself"),
        ("mimic:target=16", [3], "0..15"),
        ("alie", 0, "attackers=0"),
        ("alie", 16, "at most 15"),
        ("alie", True, "attackers=True"),
        ("alie", [], "each once"),
        ("alie", [1, 1], "each once"),
        ("alie", [16], r"0\.\.15"),
        ("alie", [-1], r"0\.\.15"),
        ("alie", [1.5], "attackers="),
        ("alie", "3", "attackers='3'"),
        ("alie", list(range(16)), "Leave somebody honest"),
    ],
)
def test_impossible_attacks_are_refused(attack, attackers, message):
    with pytest.raises(ConfigError, match=message):
        parse_attack(attack, attackers, clients=CLIENTS, seed=0)


def test_the_seed_chooses_the_attackers():
    chosen = [parse_attack("alie", 5, clients=CLIENTS, seed=seed).attackers for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(len(set(clients)) == 5 and clients == tuple(sorted(clients)) for clients in chosen)


def test_attacks_are_written_back():
    texts = ("sign-flip:scale=10", "alie:scale=1.5", "gaussian:scale=1", "dissensus:scale=2", "mimic", "mimic:target=2")
    for text in (*texts, "stale:delay=4", "replay:delay=0,target=2", "replay:delay=3", "crafted", "nan", "inf"):
        assert str(parse_attack(text, [5], clients=CLIENTS, seed=0)) == text
    assert all(str(parse_attack(name, [5], clients=CLIENTS, seed=0)).startswith(name) for name in ATTACKS)
