"""The clock: closed forms of seconds, nobody waits for all, and speeds that depend on seed and number alone."""

import numpy as np
import pytest

from declora.clock import parse_clock
from declora.clock.speeds import Drawn
from declora.errors import ConfigError
from declora.plan import Columns, Phase, Plan
from declora.round_graph import RoundGraph
from declora.topology import Topology

BYTES, STEPS = 1000, 5


def rounds_of(clock, topology, rounds=3, *, steps=None, lost=None, away=None, served=False, overlap=False):
    """When each client is done with each round, `[rounds, clients]`, where a message has 1,000 bytes."""
    graph = Topology.build(topology, 6)
    room, found = {}, []
    whole = Columns.all(1)
    phase = Phase(np.full(6, STEPS) if steps is None else np.array(steps), whole)
    for t in range(rounds):
        edges = graph.edges(t)
        sent = np.full(6, 2 * BYTES) if served else np.bincount(edges[:, 0], minlength=6) * BYTES
        plan = Plan(t, (phase,), whole, RoundGraph(graph.weights(t), edges), lost=lost)
        total = clock.round(room, plan, sent, away, served=served, overlap=overlap)
        assert total == room["done"].max()
        found.append(room["done"].copy())
    return np.array(found)


def test_a_round_takes_the_steps_the_latency_and_the_bytes():
    done = rounds_of(parse_clock("lognormal:step=0.1,latency=0.05,bandwidth=1e4"), "ring")
    np.testing.assert_allclose(done, (np.arange(3)[:, None] + 1) * (0.5 + 0.05 + 0.1) * np.ones(6), rtol=1e-12)


@pytest.mark.parametrize(("step", "takes"), [(0.1, 0.5), (0.01, 0.15)])
def test_messages_that_go_meanwhile_take_what_they_take_longer_than_the_steps(step, takes):
    clock = parse_clock(f"lognormal:step={step},latency=0.05,bandwidth=1e4")
    done = rounds_of(clock, "ring", overlap=True)
    np.testing.assert_allclose(done, (np.arange(3)[:, None] + 1) * takes * np.ones(6), rtol=1e-12)


def test_over_a_server_there_are_two_ways_and_it_waits_for_all():
    clock = parse_clock("lognormal:step=0.1,latency=0.05,bandwidth=1e4")
    done = rounds_of(clock, "complete", 2, served=True, steps=[1, 1, 1, 1, 1, 9])
    np.testing.assert_allclose(done, np.array([[1], [2]]) * (0.9 + 2 * (0.05 + 0.1)) * np.ones(6), rtol=1e-12)


def test_a_slow_client_holds_up_its_neighbours_first():
    done = rounds_of(parse_clock("lognormal:step=1,latency=0,bandwidth=1e12"), "ring", steps=[9, 1, 1, 1, 1, 1])
    assert np.round(done, 3).tolist() == [[9, 9, 1, 1, 1, 9], [18, 18, 10, 2, 10, 18], [27, 27, 19, 11, 19, 27]]


def test_who_never_talks_waits_for_nobody_and_who_is_away_is_as_late_as_the_others():
    clock, graph = parse_clock("lognormal:step=1"), Topology.build("ring", 6)
    whole = Columns.all(1)
    room, steps = {}, np.array([3, 1, 1, 1, 1, 0])
    plan = Plan(0, (Phase(steps, whole),), whole, graph.round(0))
    clock.round(room, plan, np.zeros(6, dtype=np.int64), None, served=False)
    assert room["done"].tolist() == steps.tolist()
    clock.round(room, plan, np.zeros(6, dtype=np.int64), np.arange(6) == 5, served=False)
    assert room["done"].tolist() == [6, 2, 2, 2, 2, 6]


def test_what_is_lost_is_waited_for():
    lost = np.array([[0, 1], [1, 0]], dtype=np.int32)
    done = rounds_of(parse_clock("lognormal:step=1,latency=0.5,bandwidth=1e12,wait=3"), "ring", 1, lost=lost)
    np.testing.assert_allclose(done[0], [8, 8, 5.5, 5.5, 5.5, 5.5], rtol=1e-6)


def test_stragglers_are_as_many_and_as_slow_as_is_said():
    clock = parse_clock("lognormal:step=1,latency=0,bandwidth=1e12,stragglers=0.25,slower=4")
    slow = np.array([clock._slowed(t, 100) for t in range(40)])
    assert set(np.unique(slow)) == {1.0, 4.0}
    # 4,000 draws of 0.25: a deviation of 0.0068.
    assert (slow == 4).mean() == pytest.approx(0.25, abs=4 * 0.0068)


def test_speeds_are_log_normal_around_their_medians_and_depend_on_seed_and_number_alone():
    speeds = Drawn(0.1, 0.5, 0.05, 1e6, 0.8, seed=3)
    logs = np.log(speeds.steps(10_000))
    # Of 10,000 normals of spread 0.5: a mean within 4 * 0.005, a deviation within 4 * 0.0035.
    assert logs.mean() == pytest.approx(np.log(0.1), abs=0.02)
    assert logs.std() == pytest.approx(0.5, abs=0.0142)
    edges = Topology.build("erdos-renyi:0.5", 40, seed=1).edges(0)
    both = edges[:, ::-1]
    for of in (speeds.latency, speeds.bandwidth):
        np.testing.assert_array_equal(of(edges), of(both))
        np.testing.assert_array_equal(of(edges)[::7], of(edges[::7]))
        assert len(np.unique(of(edges))) == len(edges) / 2
    assert not np.array_equal(speeds.latency(edges), Drawn(0.1, 0.5, 0.05, 1e6, 0.8, seed=4).latency(edges))
    np.testing.assert_array_equal(speeds.steps(5), speeds.steps(9)[:5])


def test_a_trace_gives_each_client_its_own_and_a_link_the_slower_of_its_ends(tmp_path):
    file = tmp_path / "sites.csv"
    file.write_text("client,step,latency,bandwidth\n1,0.2,0.01,500\n0,0.1,0.02,1000\n2,0.3,0.03,250\n")
    speeds = parse_clock(f"trace:{file}").speeds
    assert speeds.steps(3).tolist() == [0.1, 0.2, 0.3]
    edges = np.array([[0, 1], [1, 2]], dtype=np.int32)
    np.testing.assert_allclose(speeds.latency(edges), [0.03, 0.04])
    assert speeds.bandwidth(edges).tolist() == [500, 250]
    with pytest.raises(ConfigError, match="has 3 clients, but clients=4"):
        speeds.steps(4)


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("client,step,latency\n0,1,1\n", "no column 'bandwidth'"),
        ("client,step,latency,bandwidth\n0,1,1,1\n2,1,1,1\n", "one line for each of the clients"),
        ("client,step,latency,bandwidth\n0,1,1,0\n", "bandwidth='0' for client 0; it must be a number above 0"),
        ("client,step,latency,bandwidth\n0,-1,1,5\n", "step='-1' for client 0; it must be a number of at least 0"),
        ("client,step,latency,bandwidth\n0,fast,1,5\n", "step='fast'"),
    ],
)
def test_a_trace_that_cannot_be_read_is_refused_by_line(tmp_path, lines, match):
    file = tmp_path / "sites.csv"
    file.write_text(lines)
    with pytest.raises(ConfigError, match=match):
        parse_clock(f"trace:{file}")


def test_a_run_says_its_seconds_which_change_nothing_else(tiny_run):
    plain, timed = (tiny_run(clock=clock) for clock in (None, "lognormal:step=0.25,latency=0.5,bandwidth=1e12"))
    np.testing.assert_allclose(timed.history["simulated_seconds"], [1, 2, 3], rtol=1e-6)
    assert "simulated_seconds" not in plain.history
    assert (plain.client(0).row == timed.client(0).row).all()


def test_a_clock_with_no_line_for_a_client_is_refused(tiny_run, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        tiny_run(clock=f"trace:{tmp_path}/nothing.csv")
    with pytest.raises(ConfigError, match="Did you mean 'lognormal'"):
        tiny_run(clock="lognorm:step=1")
