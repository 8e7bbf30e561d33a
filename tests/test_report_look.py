"""What a report looks like: contrast, letters on a phone, figures that say what they show, marks in tables."""

import functools
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from declora.metrics import METRICS
from declora.report import (
    Beside,
    RunSummary,
    comparison_report,
    comparison_table,
    house_style,
    run_report,
    schedule_figure,
    words,
)
from declora.report.axes import log_axis, name_ends
from declora.report.comparison import best_rows
from declora.report.panels import plot_baselines, plot_quality
from declora.report.plots import card, comparison_panels, run_panels
from declora.report.style import Look, looks_of
from report_rows import make_clients, make_history, make_summary

pytestmark = pytest.mark.usefixtures("pictures")

PHONE = 390 - 2 * 0.8 * 16 - 2 * 0.7 * 16 - 2
"""Pixels inside a card on a phone of 390: the paddings and borders of the style sheet."""
COMPARED = {
    "local": make_history(sent=0, offset=-0.2),
    "ring": make_history(),
    "all": make_history(sent=0, offset=0.05),
}
BESIDE = Beside({"largest class": 0.5, "chance": 0.25}, 0.26, {"local": True}, {"all": True}, {})


@pytest.fixture
def run_page(pictures):
    return page_of_a_run()


@pytest.fixture
def comparison_page(pictures):
    return page_of_a_comparison()


@functools.cache
def page_of_a_run():
    usage = 'folder = "adapters/average"'
    summary = make_summary()
    more = {"usual": ["seed"], "baselines": {"largest class": 0.55}, "before": 0.5, "norm": 0.156}
    return run_report(RunSummary(**{**vars(summary), "usage": usage, **more}))


@functools.cache
def page_of_a_comparison():
    configs = {label: {"method": label, "seed": 7} for label in COMPARED}
    return comparison_report(comparison_table(COMPARED), COMPARED, configs, beside=BESIDE)


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """The contrast of two colours by WCAG 2.2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1])
def test_letters_have_contrast_in_both_modes(run_page, mode):
    colors = dict(re.findall(r"--([a-z0-9]+):(#[0-9a-f]{6})\b", re.findall(r":root\{(.*?)\}", run_page, re.S)[mode]))
    ink, muted, paper, blue, on_blue = (colors[f"c{i}"] for i in (0, 1, 3, 4, 10))
    pairs = [(colors[a], colors[b]) for a in ("ink", "soft") for b in ("page", "card")]
    pairs += [(ink, colors["card"]), (muted, colors["card"]), (blue, colors["card"]), (on_blue, blue)]
    assert all(contrast(*pair) >= 4.5 for pair in pairs), [(pair, contrast(*pair)) for pair in pairs]
    assert paper == colors["card"]


def test_letters_of_figures_are_large_enough_on_a_phone(run_page, comparison_page):
    figures = re.findall(r'<figure class="card">(<svg.*?</svg>)', run_page + comparison_page, re.S)
    assert len(figures) == 6 + 1 + 5
    for svg in figures:
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
        sizes = [float(size) for size in re.findall(r"\bfont[^;]*?([\d.]+)px", svg)]
        assert sizes
        assert min(sizes) * PHONE / width > 10.5


def test_every_figure_says_what_is_to_be_seen(run_page, comparison_page):
    labels = re.findall(r'<svg viewBox="[^"]*" role="img" aria-label="([^"]*)"', run_page)
    assert labels[0] == (
        "Accuracy of the averaged model rises from 50.0 % after round 0 to 80.0 % after round 6. The best is 80.0 %, "
        "after round 6."
    )
    assert "Clients sent 6.00 kB to 24.0 kB in all." in labels
    labels = re.findall(r'<svg viewBox="[^"]*" role="img" aria-label="([^"]*)"', comparison_page)
    assert labels[0] == ("Accuracy of the averaged model after the last round: local 60.0 %, ring 80.0 %, all 85.0 %.")
    assert all(label.endswith(".") for label in labels)


def test_a_page_begins_with_what_it_means(run_page, comparison_page):
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', run_page)
    assert lead == (
        "After round 6 the average of all clients&#x27; adapters has an accuracy of 80.0\xa0%, from 50.0\xa0% before "
        "any training; without a model: largest class 55.0\xa0%."
    )
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', comparison_page)
    assert lead == (
        "Accuracy after the last round: all (all data in one place) 85.0\xa0%, ring 80.0\xa0%, local (mean of clients "
        "that train alone) 59.0\xa0%; without a model: largest class 50.0\xa0%, chance 25.0\xa0%. By the mean of "
        "clients&#x27; own models, ring gains 80% of what pooling all data would, and sent 24.0 kB and no data."
    )


def test_what_is_no_better_than_no_model_is_said():
    text = words.of_run(make_history(), {"largest class": 0.8, "chance": 0.1}, np.nan)
    assert text.endswith("That is no better than no model at all: train longer, or try another learning rate.")
    assert "better" not in words.of_run(make_history(), {"largest class": 0.79}, np.nan)
    perplexity = make_history(measure="perplexity")
    assert words.of_run(perplexity, {}, 3.0) == (
        "After round 6 the average of all clients' adapters has a perplexity of 0.80, from 3.00 before any training."
    )
    text = words.of_comparison({**COMPARED, "ring": make_history(offset=-0.3)}, METRICS["accuracy"], BESIDE)
    assert "Talking did not help here: ring is no better than clients alone" in text


def test_the_best_of_a_column_is_marked(comparison_page):
    assert re.findall(r'class="n best">(.*?)<', comparison_page) == ["85.0 %", "85.0 %", "84.0 %", "84.0 %", "82.0 %"]
    assert comparison_page.count("★") == 1
    table = comparison_table(COMPARED)
    assert best_rows(table, METRICS["accuracy"])["average_accuracy_last"] == [2]
    worse = comparison_table({label: make_history(measure="perplexity", offset=x) for label, x in (("a", 1), ("b", 0))})
    assert set(map(tuple, best_rows(worse, METRICS["perplexity"]).values())) == {(1,)}
    assert best_rows(comparison_table({"a": make_history(), "b": make_history()}), METRICS["accuracy"]) == {}


def test_settings_that_are_as_usual_are_folded_and_the_adapter_can_be_used(run_page):
    settings = run_page[run_page.index("Settings that were changed") :]
    changed, folded = settings.split("1 settings as by default")
    assert "codec" in changed
    assert "seed" not in changed
    assert "seed" in folded
    assert "folder = &quot;adapters/average&quot;" in run_page
    assert "10.0% of the adapters&#x27; norm" in run_page


def test_tables_keep_their_first_column_and_can_be_scrolled_by_keys(comparison_page):
    assert ".scroll tr>:first-child{position:sticky;left:0" in comparison_page
    regions = re.findall(r'<div class="scroll" tabindex="0" role="region" aria-label="[^"]+">', comparison_page)
    assert len(regions) == comparison_page.count('<div class="scroll"') == 2


def test_no_two_figures_show_the_same():
    """Bytes that are the same for all clients, or for all runs that send any, are no figure."""
    same = make_clients()
    same["bytes_sent"] = 1000
    assert [panel.name for panel in run_panels(make_history(), same) if not panel.news] == ["Bytes by client"]
    assert all(panel.news for panel in run_panels(make_history(), make_clients()))
    alike = {"a": make_history(), "b": make_history(offset=0.01)}
    assert [panel.name for panel in comparison_panels(alike) if not panel.news] == ["Quality by bytes sent"]


def test_runs_have_the_colour_of_their_method_and_the_dash_of_their_work():
    labels = ["a, K=1", "b, K=1", "a, K=5"]
    looks = looks_of(labels, {"a, K=1": "a", "b, K=1": "b", "a, K=5": "a"}, dict(zip(labels, (1, 1, 5), strict=True)))
    lines = {label: look.line for label, look in looks.items()}
    assert lines["a, K=1"]["color"] == lines["a, K=5"]["color"] != lines["b, K=1"]["color"]
    assert lines["a, K=1"]["linestyle"] == lines["b, K=1"]["linestyle"] != lines["a, K=5"]["linestyle"]
    many = [tuple(look.line.values()) for look in looks_of([str(i) for i in range(24)]).values()]
    assert len(set(many)) == 24


def test_a_comparison_gives_runs_that_differ_by_their_work_one_colour():
    histories = {"short": make_history(), "long": make_history()}
    configs = {"short": {"local_steps": 1, "rounds": 9}, "long": {"local_steps": 9, "rounds": 1}}
    beside = Beside(works={"short": "1 step", "long": "9 steps"})
    text = comparison_report(comparison_table(histories), histories, configs, beside=beside)
    strokes = re.findall(r'<path d="M1 5H33" style="stroke:(.*?);stroke-width:3;stroke-dasharray:(.*?)"/>', text)
    assert strokes == [("var(--c4)", "none"), ("var(--c4)", "7 4")]


def test_names_at_the_ends_of_lines_that_coincide_stand_apart():
    ax = Figure().add_subplot()
    for name in "abcd":
        plot_quality(ax, make_history(), label=name, band=False)
    name_ends(ax)
    heights = sorted(text.xyann[1] for text in ax.texts)
    assert [text.get_text() for text in ax.texts] == list("abcd")
    assert np.diff(heights).min() > 0.08
    assert 0 <= heights[0] <= heights[-1] <= 1


def test_a_name_stands_where_its_line_ends():
    ax = Figure().add_subplot()
    for name, value in (("low", 1.0), ("high", 3.0)):
        ax.plot([1, 2], [2.0, value], label=name)
    name_ends(ax)
    edge = 0.05 / 1.1  # matplotlib leaves a twentieth of what is drawn free at each side
    np.testing.assert_allclose([text.xyann[1] for text in ax.texts], [edge, 1 - edge])


def test_a_line_that_ends_where_a_log_axis_has_no_place_has_no_name_there():
    """One client alone has no distance to the mean: the page of a comparison with pooled data is drawn nevertheless."""
    pooled = make_history(sent=0).assign(consensus_distance=0.0)
    histories = {"ring": make_history(), "pooled": pooled}
    figures = {panel.name: card(panel) for panel in comparison_panels(histories)}
    (ax,) = figures["Consensus distance by round"].axes
    assert [text.get_text() for text in ax.texts] == ["ring"]
    for figure in figures.values():
        figure.draw_without_rendering()


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.45), (0.02, 0.9), (2.1, 4.9), (1e-4, 1e3)])
def test_a_logarithmic_axis_has_labels_however_short_it_is(low, high):
    ax = Figure().add_subplot()
    ax.plot([1, 2], [low, high])
    ax.set_yscale("log")
    log_axis(ax.yaxis)
    ax.set_ylim(low, high)
    ax.figure.draw_without_rendering()
    shown = [
        label.get_text()
        for label in [*ax.yaxis.get_majorticklabels(), *ax.yaxis.get_minorticklabels()]
        if label.get_text() and low <= float(label.get_text()) <= high
    ]
    assert 2 <= len(set(shown)) <= 10


def test_what_needs_no_training_is_in_view_and_round_0_begins_the_line():
    ax = Figure().add_subplot()
    plot_quality(ax, make_history(), before=0.4)
    plot_baselines(ax, {"largest class": 0.3, "chance": 0.1, "unknown": np.nan}, METRICS["accuracy"])
    assert [text.get_text() for text in ax.texts] == ["largest class", "chance"]
    assert ax.get_ylim()[0] < 0.1
    assert list(ax.lines[0].get_xdata()) == [0, 2, 4, 6]
    assert ax.lines[0].get_ydata()[0] == 0.4


def test_graphs_that_take_turns_are_shown_round_by_round_and_titles_are_inside():
    figure = schedule_figure(4, [[(0, 1), (2, 3)], [(1, 2), (3, 0)], [(0, 2)]])
    assert [ax.texts[-1].get_text() for ax in figure.axes] == ["round 1", "round 2", "round 3"]
    assert [len(ax.collections[0].get_segments()) for ax in figure.axes] == [2, 2, 1]
    for ax in figure.axes:
        x, y = ax.texts[-1].get_position()
        assert ax.get_xlim()[0] <= x <= ax.get_xlim()[1]
        assert y <= ax.get_ylim()[1]


def test_the_labels_of_clients_are_said():
    counts = pd.DataFrame({"a": [8, 0], "b": [2, 5], "total": [10, 5]})
    assert words.of_labels(counts) == (
        "2 clients have 5 to 10 samples; a client's largest class is 90% of its data on average."
    )
    assert words.of_labels(counts[["total"]]) == "2 clients have 5 to 10 samples."


def test_a_line_of_a_run_is_ink_of_the_page():
    with house_style():
        assert Look(3).line["color"] == Look(9).line["color"]
