"""The conformance kit: ours pass, and each kind of defect is found by name."""

import numpy as np
import pytest
import scipy.sparse as sp

from declora import _bridge, testing
from declora.cli import main
from declora.errors import ConfigError, ConformanceError
from declora.topology import Topology


@pytest.mark.parametrize("name", testing.CODECS)
def test_our_codecs_hold_what_they_promise(name):
    report = testing.check_codec(name)
    assert report.passed, report.failures
    report.raise_if_failed()
    assert report.worst_error >= report.error or name == "none"
    # Biased by more than a rounding, or not at all.
    assert (report.bias > 0.01) == (not report.unbiased and "16" not in name)


@pytest.mark.parametrize(
    "name",
    ["drive:rotations=1", "eden:bits=2,rotations=1", "eden:rotations=1", "drive:block=32", "eden:bits=2,block=32"],
)
def test_a_bias_of_eden_is_said_and_found(name):
    """One rotation, or blocks of 32 numbers, are too little for vectors of few numbers."""
    report = testing.check_codec(name)
    assert report.passed, report.failures
    assert not report.unbiased
    assert report.bias > 0.02


@pytest.mark.parametrize("name", testing.TOPOLOGIES)
def test_our_topologies_hold_what_they_promise(name):
    topology = Topology.build(name, 16)
    report = testing.check_matrix(topology)
    assert report.passed, report.failures
    assert report.slem == pytest.approx(topology.slem, abs=1e-9)
    assert report.symmetric == topology.symmetric
    if topology.period == 1 and topology.symmetric:
        assert report.contraction <= report.slem + 1e-9


class Rounded:
    """Nearest multiples of a tenth: honest about its bias or not."""

    def __init__(self, unbiased):
        self.unbiased = unbiased

    def encode(self, x, *, seed, round, client):
        return np.rint(x * 10).astype("<i4").tobytes()

    def decode(self, payload, n):
        return (np.frombuffer(payload, "<i4") / 10).astype(np.float32)


class SharedThreshold(Rounded):
    """One threshold for all numbers of a call: unbiased one by one, but not a function of the seed."""

    thresholds = iter(np.random.default_rng(0).random(10_000))

    def encode(self, x, *, seed, round, client):
        return np.floor(x * 10 + next(self.thresholds)).astype("<i4").tobytes()


class Shrinking(Rounded):
    """Encoded with the largest magnitude, decoded with the mean one, as one published quantizer does."""

    def encode(self, x, *, seed, round, client):
        scale = max(np.abs(x).max(), 1e-30)
        return np.float32(np.abs(x).mean()).tobytes() + np.rint(x / scale * 32767).astype("<i2").tobytes()

    def decode(self, payload, n):
        return np.frombuffer(payload[4:], "<i2").astype(np.float32) / 32767 * np.frombuffer(payload[:4], "<f4")


class Stated(Rounded):
    """States less than it needs."""

    def payload_bytes(self, n):
        return 3 * n

    def error_bound(self, n):
        return 1e-9


class Short(Rounded):
    """Loses the last number."""

    def decode(self, payload, n):
        return super().decode(payload, n)[: n - 1]


class Claiming(Rounded):
    """A codec of ours that says it is unbiased."""

    def __init__(self, name):
        self.core = _bridge.Codec(name)
        self.unbiased = True

    def encode(self, x, *, seed, round, client):
        out = np.empty(self.core.payload_bytes(len(x)), np.uint8)
        self.core.encode(x, out, seed=seed, round=round, client=client)
        return out.tobytes()

    def decode(self, payload, n):
        z = np.empty(n, np.float32)
        self.core.decode(np.frombuffer(payload, np.uint8), z)
        return z


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("drive:rotations=1", "pair of"),
        ("eden:rotations=1,bits=3", "pair of"),
        ("drive:block=32", "pairs of"),
        ("eden:block=32", "pairs of"),
    ],
)
def test_a_codec_whose_rotation_is_not_random_enough_is_found(name, numbers):
    with pytest.raises(ConformanceError, match=f"bias .* on {numbers} numbers"):
        testing.check_codec(Claiming(name)).raise_if_failed()


@pytest.mark.parametrize(
    ("codec", "failure"),
    [
        (Rounded(True), "bias .* on normal numbers"),
        (SharedThreshold(True), "the same seed, round and client give other bytes"),
        (Shrinking(True), "bias .* on heavy-tailed numbers"),
        (Stated(False), "1000 numbers take 4000 bytes instead of the 3000 stated"),
        (Stated(False), "is above the stated bound 1e-09"),
        (Short(False), "257 numbers do not come back as 257"),
    ],
)
def test_a_defect_of_a_codec_is_found(codec, failure):
    with pytest.raises(ConformanceError, match=failure):
        testing.check_codec(codec).raise_if_failed()


def test_a_codec_that_says_it_is_biased_may_be():
    report = testing.check_codec(Rounded(False))
    assert report.passed
    assert report.bias > 0
    assert report.bits == pytest.approx(32 + 8 * 96 / 74_498)


def test_what_is_no_codec_is_refused():
    with pytest.raises(ConfigError, match="is no codec"):
        testing.check_codec(object())
    with pytest.raises(ConfigError, match="Did you mean 'q4'"):
        testing.check_codec("q44")
    with pytest.raises(ConfigError, match="has no memory; give 'q4'"):
        testing.check_codec("q4+choco")
    with pytest.raises(ConfigError, match="not its class"):
        testing.check_codec(Rounded)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"encode": lambda self, x, **draws: x.tolist()}, r"^codec=Mine: encode gives a list; it must give bytes\.$"),
        (
            {"encode": lambda self, x, **draws: np.zeros(3, np.uint8)},
            r"^codec=Mine: encode gives uint8 \[3\]; it must give bytes. Give payload.tobytes\(\)\.$",
        ),
        (
            {"encode": lambda self, x, *, round, client: b""},
            r"^codec=Mine: encode is called as encode\(x, seed=, round=, client=\), but got an unexpected keyword "
            r"argument 'seed'\. All draws are to be made from seed, round and client\.$",
        ),
        ({"encode": lambda self, x: b""}, "but got an unexpected keyword argument 'seed'"),
        ({"decode": lambda self, payload: b""}, r"decode is called as decode\(payload, n\), but too many positional"),
        ({"payload_bytes": lambda self: 3}, r"payload_bytes is called as payload_bytes\(n\), but too many"),
        ({"decode": lambda self, payload, n: [0.0] * n}, r"decode gives a list; it must give an array, float32 \[1\]"),
        ({"decode": lambda self, payload, n: np.zeros(n)}, r"decode gives float64 \[1\]; it must"),
        ({"payload_bytes": lambda self, n: None}, r"payload_bytes\(1\) gives None; it must give a number"),
        ({"payload_bytes": 4}, r"payload_bytes is called as payload_bytes\(n\), but it is a int\.$"),
        ({"error_bound": lambda self, n: "1"}, r"error_bound\(\d+\) gives '1'; it must give a number"),
    ],
)
def test_a_method_that_is_none_of_a_codec_is_named(methods, message):
    with pytest.raises(ConfigError, match=message):
        testing.check_codec(type("Mine", (Rounded,), methods)(False))


@pytest.mark.parametrize("bound", [-2.0, np.nan])
def test_a_bound_that_no_error_can_have_is_found(bound):
    mine = type("Mine", (Rounded,), {"error_bound": lambda self, n: bound})(False)
    assert f"the stated bound {bound:.3g} is none" in testing.check_codec(mine, draws=2).failures


def test_the_kit_gives_numbers_that_cannot_be_changed_as_a_run_does():
    def encode(self, x, **draws):
        x *= 2
        return b""

    with pytest.raises(ValueError, match="read-only"):
        testing.check_codec(type("Mine", (Rounded,), {"encode": encode})(False))


@pytest.mark.parametrize("draws", [-1, 0, 1, 2**32, 2.5, "64", None, True])
def test_a_number_of_draws_that_shows_nothing_is_refused(draws):
    with pytest.raises(ConfigError, match=r"draws=.* must be a whole number of at (least 2|most 4,294,967,295)\."):
        testing.check_codec("q4", draws=draws)


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, "0", None, False])
def test_a_seed_that_is_none_is_refused(seed):
    for check in (lambda: testing.check_codec("q4", seed=seed), lambda: testing.check_matrix(ring(), seed=seed)):
        with pytest.raises(
            ConfigError, match=r"seed=.* must be a whole number of at (least 0|most 18,446,744,073,709,551,615)\."
        ):
            check()


def test_numbers_of_numpy_are_numbers():
    report = testing.check_codec("q4", draws=np.int64(2), seed=np.uint64(2**64 - 1))
    assert report == testing.check_codec("q4", draws=2, seed=2**64 - 1)


def ring(n=6):
    eye = np.eye(n)
    return (eye + np.roll(eye, 1, 1) + np.roll(eye, -1, 1)) / 3


def uneven():
    weights = ring()
    weights[0] = [0.5, 0.5, 0, 0, 0, 0]
    return weights


@pytest.mark.parametrize(
    ("weights", "failure"),
    [
        (ring() * 7 / 6, "a row sums to 1 only within 0.17"),
        (uneven(), "a column sums to 1 only within 0.33"),
        (1.5 * ring() - 0.5 * np.eye(6) @ np.full((6, 6), 1 / 6), "an entry is -0.0833, below 0"),
        (np.kron(np.eye(2), np.full((3, 3), 1 / 3)), "its graph is not connected"),
        (np.roll(np.eye(6), 1, 1), "its second eigenvalue modulus is 1"),
    ],
)
def test_a_defect_of_a_matrix_is_found(weights, failure):
    for form in (weights, sp.csr_array(weights), [weights]):
        with pytest.raises(ConformanceError, match=failure):
            testing.check_matrix(form).raise_if_failed()


def test_a_schedule_that_is_connected_over_its_period_passes():
    pair = np.full((2, 2), 0.5)
    first = np.kron(np.eye(2), pair)
    second = first[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])]
    report = testing.check_matrix([first, second], name="pairs")
    assert report.passed
    assert (report.name, report.period, report.slem) == ("pairs", 2, 0.0)


@pytest.mark.parametrize(
    "weights",
    [np.ones((2, 3)), [[np.nan]], np.zeros((0, 0)), [], (), None, "ring", [[1, 0], [1]], [["a"]], [ring(3), ring(4)]],
)
def test_what_is_no_matrix_is_refused(weights):
    with pytest.raises(ConfigError):
        testing.check_matrix(weights)


def test_the_command_prints_tables_and_fails_where_something_does(tmp_path, capsys):
    assert main(["conformance", "--codec", "q4", "--topology", "ring", "--draws", "8", "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("passed") == 2
    assert "| q4 " in shown
    np.save(tmp_path / "w.npy", uneven())
    sp.save_npz(tmp_path / "w.npz", sp.csr_array(ring()))
    np.savetxt(tmp_path / "w.csv", ring(), delimiter=",")
    assert main(["conformance", "--matrix", str(tmp_path / "w.npz"), "--matrix", str(tmp_path / "w.csv")]) == 0
    assert main(["conformance", "--matrix", str(tmp_path / "w.npy")]) == 1
    assert "w.npy did not pass" in capsys.readouterr().err
    assert main(["conformance", "--matrix", str(tmp_path / "none.npz")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "empty.npy").touch()
    assert main(["conformance", "--matrix", str(tmp_path / "empty.npy")]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [("--draws=-1", "draws=-1"), ("--draws=0", "draws=0"), ("--seed=-1", "seed=-1"), ("--clients=0", "clients=0")],
)
def test_the_command_refuses_numbers_that_mean_nothing_before_it_measures(option, message, capsys):
    assert main(["conformance", "--codec", "q4", "--topology", "ring", option]) == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert not shown.out
