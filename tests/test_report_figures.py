"""Figures of a report: they show the history, and draw whatever it is."""

import io
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from declora.report import choose_links, comparison_figure, run_figure, topology_figure
from report_rows import make_clients, make_history

pytestmark = pytest.mark.usefixtures("pictures")


def axes_by_title(figure):
    return {ax.get_title("left"): ax for ax in figure.axes}


def test_the_run_figure_shows_the_history():
    history, clients = make_history(), make_clients()
    axes = axes_by_title(run_figure(history, clients))
    labels = {title: (ax.get_xlabel(), ax.get_ylabel()) for title, ax in axes.items()}
    assert labels == {
        "Accuracy by round": ("round", "accuracy (%)"),
        "Clients' own models": ("client", "accuracy (%)"),
        "Training loss": ("round", "loss (nats)"),
        "Consensus distance": ("round", "distance to the mean (log)"),
        "Time by phase": ("round", "seconds per round"),
        "Bytes by client": ("client", "bytes sent"),
    }
    evaluated = history[history["average_accuracy"].notna()]
    expected = {
        "Accuracy by round": (evaluated["round"], evaluated["average_accuracy"]),
        "Training loss": (history["round"], history["train_loss"]),
        "Consensus distance": (history["round"], history["consensus_distance"]),
    }
    for title, (x, y) in expected.items():
        (line,) = axes[title].lines
        np.testing.assert_array_equal(line.get_xdata(), x)
        np.testing.assert_array_equal(line.get_ydata(), y)
    points, average = axes["Clients' own models"].lines
    np.testing.assert_allclose(points.get_ydata(), [0.62, 0.63, 0.64, 0.65])
    assert set(average.get_ydata()) == {0.8}
    assert axes["Consensus distance"].get_yscale() == "log"
    assert [bar.get_height() for bar in axes["Bytes by client"].patches] == [6000, 12000, 18000, 24000]
    bars = np.array([[bar.get_y(), bar.get_height()] for bar in axes["Time by phase"].patches]).reshape(3, 6, 2)
    np.testing.assert_array_equal(bars[:, 1], [[0, 2], [2, 0.25], [2.25, 1]])
    np.testing.assert_array_equal(bars[2, :, 1], [0, 1, 0, 1, 0, 1])


def test_the_bands_run_from_the_worst_to_the_best_client():
    history, clients = make_history(), make_clients()
    axes = axes_by_title(run_figure(history, clients))
    (band,) = axes["Accuracy by round"].collections
    points = {tuple(point) for point in np.round(band.get_paths()[0].vertices, 9)}
    for t in (2, 4, 6):
        assert {(t, round(0.5 + 0.05 * t - 0.03, 9)), (t, round(0.5 + 0.05 * t + 0.02, 9))} <= points
    (band,) = axes["Training loss"].collections
    points = {tuple(point) for point in np.round(band.get_paths()[0].vertices, 9)}
    assert {(2, 0.5), (2, 0.8), (5, 0.2), (5, 0.5)} <= points


@pytest.mark.parametrize("rounds", [1, 200])
@pytest.mark.parametrize("measure", ["accuracy", "perplexity"])
def test_figures_draw_without_a_warning_for_any_number_of_rounds(rounds, measure, recwarn):
    history = make_history(rounds, measure=measure)
    figure = run_figure(history, make_clients(min(rounds, 3), clients=80))
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    comparison_figure({"a": history, "b" * 50: history}).savefig(io.BytesIO(), format="png", dpi=40)
    assert not [str(warning.message) for warning in recwarn]


@pytest.mark.parametrize("history", [pd.DataFrame({"round": []}), pd.DataFrame({"round": [1, 2]})])
def test_what_was_not_measured_says_so(history):
    axes = run_figure(history).axes
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["not measured"]] * 6


def test_the_comparison_draws_each_run_in_its_own_look_with_one_legend():
    histories = {name: make_history(sent=sent) for name, sent in (("none", 4000), ("q8", 1000), ("q4", 500))}
    histories["unmeasured"] = pd.DataFrame({"round": [1], "train_loss": [1.0]})
    figure = comparison_figure(histories)
    axes = axes_by_title(figure)
    lines = axes["Accuracy by round"].lines
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(lines) == 3
    assert axes["Accuracy by bytes sent"].get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(histories)
    means = axes["Accuracy by round, clients' mean"].lines
    np.testing.assert_allclose(means[0].get_ydata(), lines[0].get_ydata() - 0.01)
    assert len(axes["Accuracy by round"].texts) == 0


def test_runs_of_similar_size_get_linear_bytes_and_bands():
    axes = axes_by_title(comparison_figure({"a": make_history(), "b": make_history(sent=2000)}))
    assert axes["Accuracy by bytes sent"].get_xscale() == "linear"
    assert len(axes["Accuracy by round"].collections) == 2


def test_any_name_of_a_run_is_shown_as_it_is():
    figure = comparison_figure({"_hidden": make_history(), "5$ and 6$^2": make_history(), "": make_history()})
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [" _hidden", "5$ and 6$^2", "run 3"]


def test_drawing_leaves_the_users_settings_and_pyplot_alone():
    before = dict(mpl.rcParams)
    run_figure(make_history(), make_clients())
    comparison_figure({"a": make_history()})
    assert dict(mpl.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_the_topology_picture_has_one_line_per_pair_and_a_dot_per_client():
    ax = topology_figure(4, [(0, 1), (1, 0), (1, 2), (2, 3), (3, 3)], title="path").axes[0]
    lines, dots = ax.collections
    assert len(lines.get_segments()) == 3
    np.testing.assert_allclose(dots.get_offsets(), [[0, 1], [1, 0], [0, -1], [-1, 0]], atol=1e-15)
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2", "3", "path"]


EDGES = [(0, 1), (1, 0), (1, 2), (2, 3), (3, 3)]


@pytest.mark.parametrize("edges", [EDGES, iter(EDGES), np.array(EDGES), np.array(EDGES, dtype=np.uint16)])
def test_links_are_pairs_without_direction_or_loops_however_edges_are_given(edges):
    pairs, count = choose_links(edges)
    assert pairs.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert count == 3


@pytest.mark.parametrize("edges", [[], np.empty((0, 2), dtype=np.int64), [(0, 0)]])
def test_a_graph_without_links_is_drawn_without_lines(edges):
    assert choose_links(edges)[1] == 0
    (dots,) = topology_figure(1, edges).axes[0].collections
    assert len(dots.get_offsets()) == 1


def test_of_many_links_the_same_sample_is_drawn_and_the_rest_is_said():
    edges = np.argwhere(~np.eye(100, dtype=bool))
    pairs, count = choose_links(edges)
    assert count == 100 * 99 / 2
    assert len(np.unique(pairs, axis=0)) == len(pairs) == 1500
    assert (pairs[:, 0] < pairs[:, 1]).all()
    np.testing.assert_array_equal(choose_links(edges[::-1])[0], pairs)
    # Each client has 30 of its 99 links on average, with a deviation of 4.4: eight of them are never left.
    assert (abs(np.bincount(pairs.ravel(), minlength=100) - 30) < 8 * 4.4).all()
    ax = topology_figure(100, edges).axes[0]
    assert len(ax.collections[0].get_segments()) == 1500
    assert [text.get_text() for text in ax.texts] == ["1,500 of 4,950 links"]


def test_a_sample_that_was_kept_says_of_how_many_it_is():
    (text,) = topology_figure(100, [(0, 1), (1, 2)], links=4950).axes[0].texts
    assert text.get_text() == "2 of 4,950 links"


def test_the_bytes_of_each_client_are_summed_in_any_order_of_rows():
    shuffled = make_clients(clients=80).sample(frac=1, random_state=1)
    (steps,) = axes_by_title(run_figure(make_history(), shuffled))["Bytes by client"].patches
    np.testing.assert_array_equal(steps.get_data().values, 6000.0 * np.arange(1, 81))
