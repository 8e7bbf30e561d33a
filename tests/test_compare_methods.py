"""`compare`: every row has its own learning rate, chosen on training rows, and the same work or the same bytes."""

import itertools
import json
import math
import pickle
import shlex
from types import SimpleNamespace

import pandas as pd
import pytest

import declora
from declora import cli
from declora.config import SimulationConfig
from declora.errors import ConfigError, TrainingError
from declora.experiments import comparison, grid
from declora.experiments.table import cost_table
from declora.report.tables import MISSING
from declora.settings import parse_pair
from tiny import tiny_bert, tiny_texts

ROUNDS = 2


@pytest.fixture
def config(tmp_path, tokenizer):
    """Settings of tiny runs, on files."""
    tiny_bert(width=16, layers=1).bert.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "data").mkdir()
    for split, count, seed in (("train", 96, 0), ("validation", 40, 1)):
        tiny_texts(count, seed=seed).to_json(tmp_path / "data" / f"{split}.jsonl")
    return SimulationConfig(
        model=str(tmp_path / "model"), data=str(tmp_path / "data"), clients=4, rounds=ROUNDS, local_steps=1,
        batch_size=4, codec="none", client_eval_samples=4, lora={"r": 2},
    )  # fmt: skip


@pytest.fixture
def compare(config, tmp_path):
    def run(methods, **arguments):
        return declora.compare(
            methods, **{"config": config, "seeds": 1, "out": tmp_path / "out", "progress": False, **arguments}
        )

    return run


def test_each_row_runs_with_the_rate_that_was_best_on_rows_held_out_of_the_training_data(compare):
    found = compare(["dec-lora", "decaf", "local learning_rate=0.001"], rates=[1e-3, 3e-2], seeds=[3, 4])
    assert found.table["row"].tolist() == ["dec-lora", "decaf", "local learning_rate=0.001"]
    assert found.table["runs"].tolist() == [2, 2, 2]
    for row, own in found.rates.groupby("row"):
        (best,) = own.loc[own["chosen"], "learning_rate"]
        assert own["score"].max() == own.loc[own["chosen"], "score"].iloc[0]
        assert {job.config.learning_rate for job in found.plan.jobs if job.cell.label == row} == {best}
    assert found.rates["row"].value_counts().to_dict() == {"dec-lora": 2, "decaf": 2, "local learning_rate=0.001": 1}
    assert {job.config.eval_data for job in found.plan.jobs} == {None}
    assert {run.facts["facts"]["evaluated on"] for run in found.finished.values()} == {
        "40 samples, clients' own models on 4"
    }
    # In a notebook, and on its way to another process:
    again = pickle.loads(pickle.dumps(found))
    assert list(again) == found.table["row"].tolist()
    assert again["decaf"]["runs"] == 2
    with pytest.raises(KeyError, match="'third' is not one of the rows"):
        found["third"]
    assert repr(found).startswith("<MethodComparison of 3 methods at the same work: dec-lora, decaf, local")
    assert found._repr_html_().count("<tr>") == 4
    assert again.plot().axes


@pytest.mark.parametrize(
    ("method", "scored", "of", "best"),
    [
        ("dec-lora", 100, "average", 0.1),
        ("local", 100, "clients", 0.2),
        ("dfed-salt+prox", None, "clients", 0.2),
        ("dis-pfl", 100, "clients", 0.2),
        ("kd", 100, "clients", 0.2),
        ("local", 0, "average", 0.1),
    ],
)
def test_where_clients_own_models_are_the_result_the_rate_is_the_one_that_was_best_for_them(method, scored, of, best):
    """Of two rates, one is better for the averaged model and the other for clients' own; at 0 these are not scored."""
    jobs, runs = [], {}
    for rate, average, own in ((0.1, 0.9, 0.6), (0.2, 0.8, 0.7)):
        config = SimulationConfig(
            method=method, learning_rate=rate, client_eval_samples=scored, public_data="texts.csv"
        )
        jobs.append(SimpleNamespace(cell=SimpleNamespace(label="row"), config=config, key=rate))
        measured = {"metric": "accuracy", "average_accuracy": average, "clients_accuracy_mean": own}
        runs[rate] = SimpleNamespace(history=pd.DataFrame([{"round": 1, **measured}]))
    scores = comparison._scores(SimpleNamespace(jobs=jobs), runs)
    assert scores["score_of"].tolist() == [of, of]
    assert comparison._best(scores, "row", [0.1, 0.2]) == best


def test_rates_are_tried_on_a_tenth_of_the_training_rows(compare, tmp_path):
    compare(["dec-lora"], rates=[1e-3, 3e-2])
    stored = [json.loads(file.read_text()) for file in (tmp_path / "out" / "cells").glob("*/result.json")]
    evaluated = sorted(facts["facts"]["evaluated on"].split()[0] for facts in stored)
    assert evaluated == ["10", "10", "40"]


def test_with_the_same_bytes_a_smaller_message_is_sent_in_more_rounds(compare):
    found = compare(["dec-lora", "gradient-tracking", "local"], budget="bytes", rates=[1e-2])
    rounds = dict(zip(found.settings["row"], found.settings["rounds"], strict=True))
    assert rounds == {"dec-lora": ROUNDS, "gradient-tracking": 1, "local": ROUNDS}
    sent = found.table.set_index("row")["bytes_total"]
    # Twice the numbers and one header in half of the rounds: 4 clients on a ring send 8 messages a round.
    assert sent["dec-lora"] - sent["gradient-tracking"] == 8 * 96
    assert sent["local"] == 0
    split = found.tables["What split training would send"].set_index("row")
    (run,) = {job.key for job in found.plan.jobs if job.cell.label == "dec-lora"}
    facts, own = found.finished[run].facts, found.finished[run].history["bytes_sent"]
    assert split.loc["dec-lora", "times as much"] == f"{facts['split_bytes'] / own.mean():#.3g}"
    assert split.loc["local", "times as much"] == MISSING


def test_with_a_clock_the_table_says_how_long_each_row_would_take(compare):
    found = compare(["dec-lora", "fedavg"], rates=[1e-2], clock="lognormal:step=1,latency=0.5,bandwidth=1e12")
    assert found.table["simulated_seconds"].tolist() == pytest.approx([2 * 1.5, 2 * 2.0], rel=1e-6)
    assert "simulated time" in str(found)


def test_what_has_finished_is_not_run_again(compare, monkeypatch):
    first = compare(["dec-lora", "dp:sigma=2"], rates=[1e-3, 1e-2])
    monkeypatch.setattr(grid, "_execute", lambda *arguments: pytest.fail("a run began"))
    again = compare(["dec-lora", "dp:sigma=2"], rates=[1e-3, 1e-2])
    pd.testing.assert_frame_equal(first.table, again.table)
    spent = again.runs.set_index("row")["epsilon"]
    assert math.isnan(spent["dec-lora"])
    assert cost_table(again.table)["epsilon spent, most"].tolist() == ["–", f"{spent['dp:sigma=2']:#.3g}"]


def test_the_folder_has_the_table_in_every_form_and_the_command_prints_it(
    config, tmp_path, capsys, monkeypatch, pictures
):
    file = tmp_path / "run.json"
    settings = {name: getattr(config, name) for name in ("model", "data", "clients", "rounds", "local_steps", "codec")}
    file.write_text(json.dumps(settings))
    arguments = ["--methods", "dec-lora,decaf", "--seeds", "1", "--rates", "0.01", "--out", str(tmp_path / "out")]
    assert cli.main(["compare", "--config", str(file), *arguments]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(text in shown for text in ("decaf", "of products", "What each row ran with", "Learning rates"))
    folder = tmp_path / "out" / "comparison"
    names = {file.name for file in folder.iterdir()}
    assert {"table.md", "table.csv", "runs.csv", "report.html", "comparison.png"} <= names
    monkeypatch.setattr(grid, "_execute", lambda *arguments: pytest.fail("a run began"))
    line = (folder / "table.md").read_text().split("| command ")[1].splitlines()[0].replace("\\", "").strip("| ")
    assert cli.main([*shlex.split(line)[1:], "--out", str(tmp_path / "out")]) == 0  # finds what has finished
    table = pd.read_csv(folder / "table.csv")
    assert table["product_distance"].gt(0).all()


def test_the_command_of_a_comparison_gives_its_settings_again():
    settings = {
        "lora": {"r": 4, "target_modules": ["query"], "use_rslora": True}, "ranks": [2, 4, 4], "clients": 3,
        "clip_norm": None, "codec": "topk:fraction=0.1+choco", "load_in_4bit": True, "learning_rate": 0.25,
    }  # fmt: skip
    config = SimulationConfig(**settings)
    words = shlex.split(comparison._command([], config, seeds=(0,)))
    pairs = dict(parse_pair(word) for flag, word in itertools.pairwise(words) if flag == "--set")
    assert pairs == settings
    assert SimulationConfig().override(**pairs) == config


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"methods": ["dec-lora rounds=3"]}, "sets rounds, which is the same for all rows"),
        ({"methods": ["dec-lroa"]}, "Did you mean 'dec-lora'"),
        ({"rates": []}, r"rates=\[\] has no learning rate"),
        ({"rates": [0.0]}, "rates=0.0"),
        ({"budget": "time"}, "budget='time'"),
        ({"seed": 3}, "seed=3 is no setting of compare"),
        ({"model": tiny_bert()}, "model is a BertForSequenceClassification"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(compare, tmp_path, arguments, match):
    with pytest.raises(ConfigError, match=match):
        compare(**{"methods": ["dec-lora"], **arguments})
    assert not (tmp_path / "out").exists()


def test_a_rate_that_diverges_is_not_chosen_and_the_others_are_tried(compare):
    found = compare(["dec-lora"], optimizer="sgd", rates=[1e20, 1e-2])
    assert found.rates["chosen"].tolist() == [False, True]
    assert found.rates["score"].isna().tolist() == [True, False]


def test_a_row_without_a_rate_that_stays_finite_is_refused_by_name(compare):
    with pytest.raises(TrainingError, match=r"all learning rates of 'dec-lora'. Give smaller `rates`"):
        compare(["dec-lora"], optimizer="sgd", rates=[1e20, 1e25])
