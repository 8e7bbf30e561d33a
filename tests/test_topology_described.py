"""A topology in words and as a picture."""

from collections.abc import Iterator

import pytest
from matplotlib import pyplot as plt

from declora.topology import TOPOLOGIES, Topology, describe, plot
from graphs import run_python


def test_description_of_a_ring_has_its_numbers_and_the_cost_of_a_round() -> None:
    text = describe(Topology.build("ring", 10), payload_bytes=1_200_000)
    facts = dict(line.strip().split("  ", 1) for line in text.splitlines()[2:11])
    assert {key: value.strip() for key, value in facts.items()} == {
        "links": "undirected",
        "period": "1 round (the same graph in every round)",
        "degree": "2",
        "self weight": "0.333333",
        "slem": "0.872678",
        "spectral gap": "0.127322",
        # ln 10 / -ln 0.872678
        "disagreement": "a tenth after 16.9 rounds",
        "messages": "20 a round",
        "traffic": "24 MB a round, 1.2 MB a message",
    }
    assert "     0  0.333 0.333     .     .     .     .     .     .     . 0.333" in text.splitlines()
    assert "traffic" not in describe(Topology.build("ring", 10))


def test_description_of_a_schedule_lists_its_rounds() -> None:
    lines = describe(Topology.build("base:1", 4)).splitlines()
    assert lines[-2:] == ["     0: 0-1 0.5, 2-3 0.5", "     1: 0-2 0.5, 1-3 0.5"]
    assert any("gone after 2 rounds" in line for line in lines)
    directed = describe(Topology.build("one-peer-exponential", 4)).splitlines()
    assert directed[-2] == "     0: 0>1 0.5, 1>2 0.5, 2>3 0.5, 3>0 0.5"
    # Round 2 of base:1 on 3 clients joins one pair only: messages and bytes are a range and a mean.
    assert "mean over the period" in describe(Topology.build("base:1", 11), payload_bytes=10)


def test_description_of_many_clients_is_a_summary() -> None:
    text = describe(Topology.build("star", 300), payload_bytes=4)
    assert len(text.splitlines()) < 15
    assert "1 to 299" in text
    assert "2.392 kB a round" in text


@pytest.fixture
def figures() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(
    ("name", "n"), [*((name, 16) for name in sorted(TOPOLOGIES)), ("ring", 1), ("erdos-renyi:0.1", 64), ("base", 48)]
)
def test_picture_has_a_dot_for_each_client_and_numbers_where_they_fit(name: str, n: int) -> None:
    topology = Topology.build(name, n)
    ax = plot(topology)
    assert len(ax.collections[-1].get_offsets()) == n
    assert [text.get_text() for text in ax.texts] == ([str(i) for i in range(n)] if n <= 40 else [])
    assert ax.get_title(loc="left") == f"{topology.name}, {n} client{'s' if n > 1 else ''}"
    ax.figure.canvas.draw()


@pytest.mark.usefixtures("figures")
def test_picture_of_a_schedule_names_its_rounds_on_the_axes_given() -> None:
    given_axes = plt.subplots()[1]
    assert plot(Topology.build("one-peer-exponential", 8), given_axes) is given_axes
    assert [text.get_text() for text in given_axes.get_legend().get_texts()] == ["round 0", "round 1", "round 2"]


def test_importing_the_room_does_not_load_matplotlib() -> None:
    code = "import sys, declora.topology; print('matplotlib' in sys.modules)"
    assert run_python(code).strip() == "False"


def test_description_of_weights_by_samples_says_what_a_client_counts() -> None:
    text = describe(Topology.build("ring", 4, weights="samples", samples=[1, 2, 3, 4]))
    assert "mean kept       weighted, a client counts 0.1 to 0.4" in text
    assert "links           undirected" in text
