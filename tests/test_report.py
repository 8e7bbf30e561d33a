"""Report: the run folder never half writes or loses a file; figures, tables and pages show the history."""

import errno
import io
import json
import logging
import os
import re
import sys
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from declora.errors import ConfigError, RunFolderError
from declora.metrics import METRICS
from declora.report import (
    Progress,
    RunFolder,
    RunSummary,
    TensorBoardLog,
    comparison_figure,
    comparison_report,
    comparison_table,
    format_bytes,
    format_seconds,
    house_style,
    read_metrics,
    run_figure,
    run_report,
    to_markdown,
    to_text,
    topology_figure,
)
from declora.report import run_folder as run_folder_module
from declora.report.records import best_measured, client_totals, column, phase_seconds
from declora.report.run_folder import MARKER, plain
from declora.report.svg import inline_svg
from declora.report.tables import format_table
from declora.report.tensorboard import tag

NAN = float("nan")


def make_history(rounds=6, *, clients=4, sent=1000, every=2, measure="accuracy", offset=0.0):
    """A history whose values are simple functions of the round; evaluated every second round."""
    t = np.arange(1, rounds + 1)
    quality = np.where((t % every == 0) | (t == rounds), 0.5 + 0.05 * t + offset, NAN)
    return pd.DataFrame(
        {
            "round": t,
            "learning_rate": 1e-3,
            "train_loss": 1.0 / t,
            f"average_{measure}": quality,
            f"clients_{measure}_mean": quality - 0.01,
            f"clients_{measure}_min": quality - 0.03,
            f"clients_{measure}_max": quality + 0.02,
            "consensus_distance": 0.5**t,
            "samples_seen": 10 * clients,
            "samples_total": 10 * clients * t,
            "bytes_sent": sent * clients,
            "bytes_total": sent * clients * t,
            "seconds_train": 2.0,
            "seconds_mix": 0.25,
            "seconds_evaluate": np.where(np.isfinite(quality), 1.0, NAN),
        }
    )


def make_clients(rounds=6, *, clients=4, sent=1000):
    t, who = np.repeat(np.arange(1, rounds + 1), clients), np.tile(np.arange(clients), rounds)
    accuracy = np.where(t % 2 == 0, 0.5 + 0.01 * who + 0.02 * t, NAN)
    loss = 1.0 / t + 0.1 * who
    return pd.DataFrame(
        {"round": t, "client": who, "train_loss": loss, "accuracy": accuracy, "bytes_sent": sent * (who + 1)}
    )


def make_summary(title="a run", codec="q4", **settings):
    config = {"codec": codec, "seed": 7, "lora": {"rank": 8, "targets": ["query", "value"]}, "masks": None}
    return RunSummary(
        title,
        config,
        make_history(**settings),
        make_clients(),
        facts={"spectral gap": "0.127"},
        figures=[("The ring", topology_figure(4, [(0, 1), (1, 2), (2, 3), (3, 0)]))],
        environment={"torch": "2.13"},
        tables=[("Labels", pd.DataFrame({"client": [0, 1], "positive": [3, 4]}))],
        local_work="5 steps",
        rerun="declora run --seed 7",
    )


# The run folder


def test_a_new_folder_is_made_with_its_parents_and_names_itself(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "first")
    assert json.loads((folder.root / MARKER).read_text())["format"] == "declora-run"


def test_an_empty_folder_is_taken(tmp_path):
    RunFolder(tmp_path).write_text("a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


def test_a_folder_with_a_run_is_refused_without_overwrite(tmp_path):
    RunFolder(tmp_path).write_text("a.txt", "first")
    with pytest.raises(RunFolderError, match=r"out='.*' holds a run.*--overwrite.*another path") as caught:
        RunFolder(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / "a.txt").read_text() == "first"


def test_overwrite_removes_all_of_the_earlier_run(tmp_path):
    first = RunFolder(tmp_path)
    first.write_text("a.txt", "a")
    first.append_metrics({"round": 1})
    first.write_text("adapters/average/weights.txt", "w")
    (tmp_path / ".declora-1-left.json").write_text("a temporary file of a killed run")
    RunFolder(tmp_path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [MARKER]


def test_overwrite_never_touches_a_folder_that_declora_did_not_write(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match=r"out='.*' holds files that declora did not write.*another path"):
        RunFolder(tmp_path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_overwrite_refuses_a_run_folder_to_which_a_user_added_files(tmp_path):
    RunFolder(tmp_path).write_text("a.txt", "a")
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(RunFolderError, match=r"notes\.md.*Move it away or use another path"):
        RunFolder(tmp_path, overwrite=True)
    assert (tmp_path / "notes.md").read_text() == "mine"
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other", "files": []}', '{"format": "declora-run"}'])
def test_a_marker_that_is_not_decloras_protects_the_folder(tmp_path, content):
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(RunFolderError, match="did not write"):
        RunFolder(tmp_path, overwrite=True)
    assert (tmp_path / MARKER).read_text() == content


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, overwrite):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match=r"out='.*file' is a file.*another path"):
        RunFolder(tmp_path / "file", overwrite=overwrite)
    with pytest.raises(RunFolderError, match=r"out='.*below' cannot be created.*another path"):
        RunFolder(tmp_path / "file" / "below", overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_permission_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, whom no mode stops
    with pytest.raises(RunFolderError, match=r"out='.*' is not writable\. Change its permissions or use another path"):
        RunFolder(tmp_path / "run")


def test_a_path_that_no_file_system_takes_is_a_clear_error():
    with pytest.raises(RunFolderError, match=r"out='a.*' cannot be created"):
        RunFolder("a\0b")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../outside", "a/../../b", MARKER])
def test_a_name_outside_the_folder_is_refused(tmp_path, name):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match=f"name={re.escape(repr(name))}.*relative path inside"):
        folder.write_text(name, "x")
    assert [entry.name for entry in tmp_path.rglob("*")] == ["run", MARKER]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_in_the_middle_of_a_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    folder = RunFolder(tmp_path)
    folder.write_json("result.json", {"accuracy": 0.5})

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder_module.os, step, fail)
    with pytest.raises(RunFolderError, match=r"'result\.json' cannot be written: no space left"):
        folder.write_json("result.json", {"accuracy": 0.9})
    assert json.loads((tmp_path / "result.json").read_text()) == {"accuracy": 0.5}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [MARKER, "result.json"]


def test_an_interrupt_in_the_middle_of_a_write_leaves_the_old_file(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_text("a.txt", "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder_module.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write_text("a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {MARKER, "a.txt"}


def test_what_has_no_form_in_json_is_refused_before_the_file_is_touched(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json("a.json", 1)
    with pytest.raises(TypeError, match=r"<class 'object'> .* has no form in JSON"):
        folder.write_json("a.json", {"x": object})
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_json_is_strict_and_plain(tmp_path):
    value = {
        "nan": NAN,
        2: (np.float32(0.5), np.int64(3), np.array([1.0, np.inf])),
        "path": tmp_path,
        "ok": True,
    }
    text = RunFolder(tmp_path / "run").write_json("a.json", value).read_text()

    def refuse(constant):
        raise AssertionError(constant)

    expected = {"nan": None, "2": [0.5, 3, [1.0, None]], "path": str(tmp_path), "ok": True}
    assert json.loads(text, parse_constant=refuse) == expected


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_plain_always_gives_strict_json_and_changes_nothing_finite(value):
    text = json.dumps(plain(value), allow_nan=False)
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    assert json.loads(text) == finite


def test_metrics_are_one_whole_line_per_round_and_read_back(tmp_path):
    folder = RunFolder(tmp_path)
    history = make_history()
    for t, record in enumerate(history.to_dict("records"), start=1):
        folder.append_metrics(record)
        lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        assert len(lines) == t
        assert all(line.endswith(b"\n") and json.loads(line) for line in lines)
    pd.testing.assert_frame_equal(read_metrics(tmp_path), history, check_dtype=False)


def test_a_metrics_line_that_does_not_fit_on_the_disk_leaves_no_part_of_it(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.append_metrics({"round": 1})
    before, write = (tmp_path / "metrics.jsonl").read_bytes(), os.write
    calls = []

    def full(file, data):
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, bytes(data[:4]))

    monkeypatch.setattr(run_folder_module.os, "write", full)
    with pytest.raises(RunFolderError, match="no space left"):
        folder.append_metrics({"round": 2, "train_loss": 0.5})
    assert len(calls) == 2
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_reading_metrics_leaves_out_a_last_line_that_is_being_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"round": 1}\n{"round": 2}\n{"rou')
    assert list(read_metrics(path)["round"]) == [1, 2]
    path.write_text('{"round": 1}\n{"round": 2}')
    assert list(read_metrics(path)["round"]) == [1, 2]


def test_reading_metrics_names_a_broken_line_and_a_missing_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"rou\n{"round": 2}\n')
    with pytest.raises(RunFolderError, match="line 1 is not JSON"):
        read_metrics(tmp_path)
    with pytest.raises(RunFolderError, match=r"path='.*none' cannot be read: no such file.*Name the folder"):
        read_metrics(tmp_path / "none")


# Records and tables


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


# Figures


def axes_by_title(figure):
    return {ax.get_title("left"): ax for ax in figure.axes}


def test_the_run_figure_shows_the_history():
    history, clients = make_history(), make_clients()
    axes = axes_by_title(run_figure(history, clients))
    labels = {title: (ax.get_xlabel(), ax.get_ylabel()) for title, ax in axes.items()}
    assert labels == {
        "Accuracy by round": ("round", "accuracy (%)"),
        "Accuracy by bytes sent": ("bytes sent by all clients", "accuracy (%)"),
        "Training loss": ("round", "loss (nats)"),
        "Consensus distance": ("round", "RMS distance to the mean"),
        "Time by phase": ("round", "seconds per round"),
        "Bytes by client": ("client", "bytes sent"),
    }
    evaluated = history[history["average_accuracy"].notna()]
    expected = {
        "Accuracy by round": (evaluated["round"], evaluated["average_accuracy"]),
        "Accuracy by bytes sent": (evaluated["bytes_total"], evaluated["average_accuracy"]),
        "Training loss": (history["round"], history["train_loss"]),
        "Consensus distance": (history["round"], history["consensus_distance"]),
    }
    for title, (x, y) in expected.items():
        (line,) = axes[title].lines
        np.testing.assert_array_equal(line.get_xdata(), x)
        np.testing.assert_array_equal(line.get_ydata(), y)
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
    assert [bar.get_width() for bar in axes["Bytes in total"].patches] == [96_000, 24_000, 12_000, 0]
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
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2", "3"]


# HTML


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that all tags close."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.attributes, self.tags, self.text, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())


def test_a_page_is_well_formed_and_loads_nothing():
    for text in (
        run_report(make_summary()),
        comparison_report([make_summary("a"), make_summary("b", "none")]),
    ):
        page = Page(text)
        assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
        assert "://" not in text
        assert "@import" not in text
        for _, name, value in page.attributes:
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("#", "data:"))
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
        assert "default-src 'none'" in text
        ids = [value for _, name, value in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        assert {value[1:] for _, name, value in page.attributes if name == "href"} <= set(ids)


def test_a_run_report_shows_its_numbers():
    words = [word for word in Page(run_report(make_summary())).text if word]
    for word in ("80.0 %", "after round 6 of 6; best 80.0 % after round 6",
                 "min 77.0 %, max 82.0 %; after round 6 of 6; best 79.0 % after round 6", "24.0 kB",
                 "1.00 kB per client and round", "16.5 s", "73% of it training", "0.0156",
                 "4 clients, 6 rounds, K = 5 steps", "spectral gap", "0.127", "The ring",
                 "lora.targets", "query, value", "torch", "2.13", "declora run --seed 7", "Labels"):  # fmt: skip
        assert word in words, word
    assert "nan" not in " ".join(words).lower().split()


def test_every_text_of_a_page_is_escaped():
    evil = "<script>alert('&\"')</script>"
    with house_style():
        figure = Figure()
        figure.add_subplot().set_title(evil)
    summary = RunSummary(
        evil,
        {evil: evil, "nested": {evil: [evil]}},
        make_history(),
        make_clients(),
        facts={evil: evil},
        figures=[(evil, figure)],
        environment={evil: evil},
        tables=[(evil, pd.DataFrame({evil: [evil]}))],
        rerun=evil,
    )
    for text in (run_report(summary), comparison_report([summary, make_summary()], title=evil)):
        page = Page(text)
        assert "script" not in page.tags
        assert "<script" not in text
        assert evil in page.text


def test_a_report_of_an_unmeasured_run_is_a_page():
    text = run_report(RunSummary("empty", {}, pd.DataFrame({"round": []})))
    assert "not measured" in Page(text).text
    assert "0 rounds" in text


def test_a_report_has_the_evaluated_rounds_only():
    text = run_report(make_summary())
    table = text[text.index("<h2>Evaluated rounds") : text.index("<h2>Clients")]
    assert re.findall(r'<tr><td class="n">(\d+)</td>', table) == ["2", "4", "6"]


def test_the_same_run_gives_the_same_page():
    assert run_report(make_summary()) == run_report(make_summary())


def test_a_figure_in_the_house_style_follows_the_mode_and_another_stays_as_drawn():
    with house_style():
        ours = Figure()
        ours.add_subplot().plot([1, 2], color="#0072b2")
    svg = inline_svg(ours, "ours")
    assert "#0072b2" not in svg
    assert "stroke: var(--c4)" in svg
    other = Figure()
    other.add_subplot().plot([1, 2], color="#0072b2")
    svg = inline_svg(other, 'a "label"')
    assert "var(" not in svg
    assert "#0072b2" in svg
    assert 'aria-label="a &quot;label&quot;"' in svg


def test_the_topology_picture_follows_the_mode():
    assert "#ffffff" not in inline_svg(topology_figure(3, [(0, 1), (1, 2)]), "ring")


def test_a_comparison_shows_where_the_runs_differ():
    text = comparison_report([make_summary("a", "none"), make_summary("b", "q4")])
    assert "local work a round (K)" in text
    differ, same = text[text.index("Where the runs differ") :].split("The same in all runs")
    assert "codec" in differ
    assert "seed" not in differ
    assert "seed" in same


def test_a_comparison_needs_runs_with_distinct_titles():
    with pytest.raises(ConfigError, match=r"titles \['a', 'a'\].*each with its own title"):
        comparison_report([make_summary("a"), make_summary("a")])
    with pytest.raises(ConfigError, match=r"titles \[\].*at least one"):
        comparison_report([])


# TensorBoard


def test_tensorboard_events_read_back(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = make_history()
    with TensorBoardLog(tmp_path / "events") as log:
        for record in history.to_dict("records"):
            log.log(record)
    events = accumulator.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    loss = events.Scalars("loss/train")
    assert [event.step for event in loss] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([event.value for event in loss], history["train_loss"], rtol=1e-6)  # float32
    accuracy = events.Scalars("accuracy/average")
    assert [event.step for event in accuracy] == [2, 4, 6]
    assert "round" not in events.Tags()["scalars"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("average_accuracy", "accuracy/average"),
        ("clients_accuracy_min", "accuracy/clients_min"),
        ("train_loss", "loss/train"),
        ("average_loss", "loss/average"),
        ("seconds_mix", "seconds/mix"),
        ("bytes_total", "bytes/total"),
        ("consensus_distance", "consensus_distance"),
        ("learning_rate", "learning_rate"),
    ],
)
def test_curves_to_compare_share_a_card(name, expected):
    assert tag(name) == expected


def test_missing_tensorboard_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"tensorboard='.*events' needs .*pip install tensorboard"):
        TensorBoardLog(tmp_path / "events")
    assert not (tmp_path / "events").exists()


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run_progress(history, **settings):
    with Progress(len(history), "sst2", **settings) as progress:
        for record in history.to_dict("records"):
            progress.update(record)


def test_progress_is_quiet_where_nobody_looks(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    run_progress(make_history())
    run_progress(make_history(), enabled=False, verbose=True)
    assert stream.getvalue() == ""
    assert caplog.records == []


def test_progress_is_silent_on_a_terminal_when_disabled(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    run_progress(make_history(), enabled=False, verbose=True)
    assert stream.getvalue() == ""
    assert caplog.records == []


def test_progress_shows_the_last_measured_values_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "200")
    run_progress(make_history())
    last = stream.getvalue().split("\r")[-1]
    assert "sst2: 100%" in last
    for text in ("6/6", "loss=0.167", "accuracy=80.0%", "consensus=0.0156", "sent=24.0 kB"):
        assert text in last


def test_verbose_progress_logs_one_line_per_evaluated_round(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="declora")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run_progress(make_history(4), verbose=True)
    assert [record.getMessage() for record in caplog.records] == [
        "sst2: round 2/4: loss 0.5, accuracy 60.0%, consensus 0.25, sent 8.00 kB",
        "sst2: round 4/4: loss 0.25, accuracy 70.0%, consensus 0.0625, sent 16.0 kB",
    ]
