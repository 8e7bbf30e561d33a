"""The conformance kit: ours pass, and each kind of defect is found by name."""

import numpy as np
import pytest
import scipy.sparse as sp

from declora import testing
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


@pytest.mark.parametrize("weights", [np.ones((2, 3)), [[np.nan]], np.zeros((0, 0))])
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
