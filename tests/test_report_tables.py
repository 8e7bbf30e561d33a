"""Tables of a report: what is counted from a history, and numbers as people read them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from declora.errors import ConfigError
from declora.metrics import METRICS
from declora.report import (
    comparison_figure,
    comparison_table,
    format_bytes,
    format_seconds,
    to_markdown,
    to_text,
)
from declora.report.records import best_measured, client_totals, column, phase_seconds
from declora.report.tables import cut, format_table
from report_rows import NAN, make_clients, make_history


def test_a_column_that_is_absent_or_none_is_nan():
    history = pd.DataFrame({"round": [1, 2], "train_loss": [None, 0.5]})
    np.testing.assert_array_equal(column(history, "train_loss"), [NAN, 0.5])
    np.testing.assert_array_equal(column(history, "average_accuracy"), [NAN, NAN])


def test_phase_seconds_are_sums_of_what_was_measured():
    assert phase_seconds(make_history()) == {"train": 12.0, "mix": 1.5, "evaluate": 3.0}


def test_client_totals_take_the_last_measured_value_and_the_sum_of_bytes():
    clients = make_clients(rounds=3)
    totals = client_totals(clients.sample(frac=1, random_state=1))
    assert list(totals["client"]) == [0, 1, 2, 3]
    np.testing.assert_allclose(totals["accuracy"], [0.54, 0.55, 0.56, 0.57], rtol=1e-12)  # of round 2
    np.testing.assert_allclose(totals["train_loss"], [1 / 3, 1 / 3 + 0.1, 1 / 3 + 0.2, 1 / 3 + 0.3], rtol=1e-12)
    assert list(totals["bytes_sent"]) == [3000, 6000, 9000, 12000]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 4),
            st.sampled_from([NAN, 0.5, 1.5, np.inf]),
            st.sampled_from([NAN, 1.0, 2.0]),
        ),
        min_size=1,
        unique_by=lambda row: row[:2],
    )
)
def test_client_totals_are_those_of_each_client_by_itself(rows):
    clients = pd.DataFrame(rows, columns=["client", "round", "accuracy", "bytes_sent"])
    totals = client_totals(clients).set_index("client")
    assert list(totals.index) == sorted(set(clients["client"]))
    for client, own in clients.sort_values("round").groupby("client"):
        measured = [value for value in own["accuracy"] if np.isfinite(value)]
        np.testing.assert_equal(totals.loc[client, "accuracy"], measured[-1] if measured else NAN)
        assert totals.loc[client, "bytes_sent"] == np.nansum(own["bytes_sent"])


def test_client_totals_without_a_measure_are_the_clients():
    assert client_totals(pd.DataFrame({"round": [1, 1], "client": [1, 0]}))["client"].tolist() == [0, 1]


def test_the_comparison_table_keeps_last_and_best_averaged_and_clients_apart():
    history = make_history()
    # Better before the last round: the averaged model in round 2, the clients' mean in round 4.
    history.loc[history["round"] == 2, "average_accuracy"] = 0.95
    history.loc[history["round"] == 4, "clients_accuracy_mean"] = 0.9
    (row,) = comparison_table({"a": history}).to_dict("records")
    figures = {name: round(value, 12) for name, value in row.items() if "accuracy" in name}
    assert figures == {
        "average_accuracy_last": 0.8,
        "average_accuracy_best": 0.95,
        "clients_accuracy_mean_last": 0.79,
        "clients_accuracy_mean_best": 0.9,
        "clients_accuracy_min_last": 0.77,
    }
    headings = format_table(comparison_table({"a": history})).columns
    assert list(headings[2:7]) == [
        "accuracy of averaged model, last",
        "accuracy of averaged model, best",
        "mean accuracy of clients, last",
        "mean accuracy of clients, best",
        "lowest accuracy of clients, last",
    ]


def test_the_best_perplexity_is_the_lowest_and_the_first_of_equals_counts():
    history = make_history(measure="perplexity")
    assert best_measured(history, "average_perplexity", METRICS["perplexity"]) == (pytest.approx(0.6), 2)
    history["average_accuracy"] = [NAN, 0.5, 0.7, 0.7, NAN, 0.6]
    assert best_measured(history, "average_accuracy", METRICS["accuracy"]) == (0.7, 3)
    assert np.isnan(best_measured(history, "average_f1", METRICS["f1"])).all()


def test_the_comparison_table_holds_the_totals():
    histories = {"q4": make_history(sent=500), "float32": make_history(rounds=3, sent=4000)}
    work = {"q4": "5 steps", "float32": "1 epoch (3 to 4 steps)"}
    table = comparison_table(histories, clients=4, codecs={"q4": "q4", "float32": "none"}, local_work=work)
    assert list(table["local_work"]) == ["5 steps", "1 epoch (3 to 4 steps)"]
    assert list(table["samples_total"]) == [240, 120]
    assert list(table["method"]) == ["q4", "float32"]
    assert list(table["codec"]) == ["q4", "none"]
    np.testing.assert_allclose(table["average_accuracy_last"], [0.8, 0.65], rtol=1e-12)
    assert list(table["consensus_distance"]) == [0.5**6, 0.5**3]
    assert list(table["bytes_total"]) == [12_000, 48_000]
    assert list(table["bytes_per_client_round"]) == [500, 4000]
    assert list(table["seconds"]) == [16.5, 8.75]
    assert list(table["bytes_ratio"]) == [0.25, 1.0]


def test_the_comparison_table_shows_what_is_spent_of_privacy_where_a_run_counts_it():
    private = make_history().assign(epsilon=[1.0, 2.0, 3.0, 3.5, 3.75, 4.0])
    np.testing.assert_array_equal(comparison_table({"plain": make_history(), "dp": private})["epsilon"], [NAN, 4.0])
    assert "epsilon" not in comparison_table({"plain": make_history()})


def test_without_a_run_of_codec_none_the_first_run_is_the_reference():
    table = comparison_table({"a": make_history(sent=200), "b": make_history(sent=100)})
    assert list(table["bytes_ratio"]) == [1.0, 0.5]
    assert "bytes_per_client_round" not in table
    assert "codec" not in table


def test_the_worst_client_of_a_perplexity_is_the_maximum():
    table = comparison_table({"a": make_history(measure="perplexity")})
    np.testing.assert_allclose(table["clients_perplexity_max_last"], [0.82], rtol=1e-12)
    assert "clients_perplexity_min_last" not in table


def test_a_comparison_of_unmeasured_runs_is_nan_not_an_error():
    table = comparison_table({"a": pd.DataFrame({"round": [1]})}, clients={"b": 3})
    assert table.drop(columns="method").isna().all(axis=None)
    assert to_text(table).count("–") == table.shape[1] - 1


@pytest.mark.parametrize("compare", [comparison_table, comparison_figure])
def test_a_comparison_of_nothing_or_of_two_measures_is_refused(compare):
    with pytest.raises(ConfigError, match=r"histories=\{\} holds no run.*at least one"):
        compare({})
    with pytest.raises(ConfigError, match=r"histories mix accuracy and perplexity"):
        compare({"a": make_history(), "b": make_history(measure="perplexity")})


def test_the_text_table_is_aligned_with_numbers_to_the_right():
    frame = pd.DataFrame({"method": ["ring", "a\ncomplete graph"], "bytes_total": [1e6, NAN], "seconds": [5.0, 61.0]})
    assert to_text(frame) == (
        "                  bytes sent,\n"
        "method                  total    time\n"
        "────────────────  ───────────  ──────\n"
        "ring                  1.00 MB  5.00 s\n"
        "a complete graph            –  61.0 s\n"
    )


def test_the_markdown_table_escapes_bars_and_says_the_alignment():
    frame = pd.DataFrame({"method": ["a|b", "c"], "train_loss": [0.5, NAN], "round": [1, 1000]})
    assert to_markdown(frame) == (
        "| method | train loss | round |\n"
        "| ------ | ---------: | ----: |\n"
        "| a\\|b   |     0.5000 |     1 |\n"
        "| c      |          – | 1,000 |\n"
    )


def test_markdown_shows_any_name_as_it_is():
    frame = pd.DataFrame({"method": ["a_b <i>*c*</i> `d` [e](f) \\", "_x_ [N]\ny"]})
    assert to_markdown(frame).splitlines()[2:] == [
        "| a_b \\<i>\\*c\\*\\</i> \\`d\\` \\[e](f) \\\\ |",
        "| \\_x\\_ [N] y                         |",
    ]


def test_two_columns_may_have_one_name_and_a_users_names_say_nothing_of_the_values():
    frame = pd.DataFrame([[1000, 2000]], columns=["bytes_sent", "bytes_sent"])
    assert format_table(frame).to_numpy().tolist() == [["1.00 kB", "2.00 kB"]]
    shown = format_table(frame, literal=True)
    assert (list(shown.columns), shown.to_numpy().tolist()) == (["bytes_sent"] * 2, [["1,000", "2,000"]])


def test_a_long_text_is_cut_and_says_how_long_it_is():
    assert cut("x" * 60) == "x" * 60
    assert cut("x" * 61) == "x" * 40 + "… (61 characters)"
    assert len(cut("x" * 10**6)) <= 64


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1234, "1.23 kB"), (9_996, "10.0 kB"), (99_960, "100 kB"),
        (999_499, "999 kB"), (999_500, "1.00 MB"), (52_800_000, "52.8 MB"), (2.5e12, "2.50 TB"), (2e18, "2000 PB"),
        (NAN, "–"),
    ],
)  # fmt: skip
def test_bytes_have_three_digits_and_a_unit(count, text):
    assert format_bytes(count) == text


@given(st.integers(0, 10**15))
def test_bytes_read_back_within_half_a_unit_of_the_third_digit(count):
    number, unit = format_bytes(count).split()
    scale = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}[unit]
    # Three digits: half a unit of the third is at most 0.5 % of the value; 1e-9 for the rounding of a tie.
    assert abs(float(number) * scale - count) <= 0.005 * count * (1 + 1e-9)
    assert len(number.replace(".", "")) <= 3 or unit == "PB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (2e-6, "2.00 µs"), (0.0123, "12.3 ms"), (0.9999, "1.00 s"), (4.208, "4.21 s"), (99.94, "99.9 s"),
        (99.96, "1 min 40 s"), (185, "3 min 05 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 00 min"),
        (7380, "2 h 03 min"), (NAN, "–"),
    ],
)  # fmt: skip
def test_seconds_are_a_duration(seconds, text):
    assert format_seconds(seconds) == text
