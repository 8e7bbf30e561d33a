"""Clients that are evaluated on samples of their own, which stay where they are: scores of parts are those of all."""

import re

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from clusters import memory_clusters, run_hosts, together
from declora import DataError, appraisal
from declora.cluster import Kind
from declora.data import load
from declora.data.client_files import client_files
from declora.data.text_data import TextData
from declora.metrics import METRICS
from declora.train.evaluate import Tally, total
from declora.train.evaluator import Evaluated
from test_hosts import SECRET, alone, listening, places, rows_of, same, settings, write  # noqa: F401

ALL = {"eval_samples": None, "client_eval_samples": None, "rounds": 1}


@pytest.fixture
def validated(places):  # noqa: F811
    """Beside what clients train on a file of each client to evaluate on, and one of all of these."""
    together_rows = []
    for client in range(4):
        rows = [(f"{text} {SECRET}v", label) for text, label in rows_of(client, 3 + client)]
        for folder in ("one", f"host{client // 2}"):
            write(places / folder / str(client) / "validation.csv", rows)
        together_rows += rows
    write(places / "validation.csv", together_rows)
    return places


def own(place, folder, **more):
    return settings(place, folder, eval_data=f"{place / folder}/{{client}}/validation.csv", **more)


def scores(outcome):
    """All that was scored, of the average and of clients."""
    history = outcome.history
    return {
        **{name: history[name].tolist() for name in history if name.startswith(("average_", "clients_"))},
        **{name: outcome.clients[name].tolist() for name in ("loss", "accuracy", "f1") if name in outcome.clients},
    }


@pytest.mark.parametrize("held_out", [False, True])
def test_hosts_score_on_rows_that_stay_with_them_what_one_process_scores(validated, held_out):
    make = settings if held_out else own
    more = {"eval_data": "held-out", "eval_fraction": 0.3} if held_out else {}
    _, whole = alone(**make(validated, "one", **more))
    clusters = memory_clusters(2)
    said = listening(clusters)
    left, raised = run_hosts([make(validated, f"host{rank}", **more) for rank in range(2)], clusters)
    assert raised == [None, None]
    same(left, whole)
    assert scores(left[0]) == scores(whole)
    assert left[0].evaluated.texts == whole.evaluated.texts
    assert left[0].evaluated.client_texts == whole.evaluated.client_texts
    assert len(whole.evaluated.client_texts) == 4
    assert not any(SECRET.encode() in content for content in said)
    assert "largest class" in whole.evaluated.baselines
    assert set(left[0].evaluated.baselines) == {"chance"}  # rank 0 does not know the others' labels


def test_the_average_has_the_score_of_all_rows_together_and_a_client_that_of_its_own(validated):
    one, apart = alone(**own(validated, "one", **ALL))
    two, pooled = alone(**settings(validated, "one", eval_data=str(validated / "validation.csv"), **ALL))
    for name in ("average_accuracy", "average_f1", "average_matthews"):
        assert apart.history[name].tolist() == pooled.history[name].tolist()
    assert apart.history["average_loss"].iloc[-1] == pytest.approx(pooled.history["average_loss"].iloc[-1], rel=1e-6)
    assert apart.evaluated.texts == pooled.evaluated.texts == 3 + 4 + 5 + 6
    assert apart.evaluated.client_texts == (3, 4, 5, 6)
    assert torch.equal(apart.rows, pooled.rows)
    for client in (0, 3):
        place = str(validated / "one" / str(client) / "validation.csv")
        _, lonely = alone(**settings(validated, "one", eval_data=place, **ALL))
        found, expected = (
            run.clients[run.clients["client"] == client].iloc[-1][["loss", "accuracy"]] for run in (apart, lonely)
        )
        pd.testing.assert_series_equal(found.astype(float), expected.astype(float), check_names=False, rtol=1e-6)
    before = []
    for run in (one, two):
        with run.installed():
            before.append(run.evaluator.untrained())
    assert before[0] == before[1]


def test_rows_are_held_out_of_each_client_whoever_else_is_here(places):  # noqa: F811
    files = client_files(str(places / "one" / "{client}" / "train.csv"), 4)
    whole, some = (load(one, eval_data="held-out", eval_fraction=0.25) for one in (files, files.of(slice(2, 4))))
    assert [len(shard) for shard in whole.evaluation_shards] == [2, 3, 4, 4]  # a quarter of each class
    for client in (2, 3):
        texts, theirs = (
            data.evaluation.select(data.evaluation_shards[client - data.first])["text"][:] for data in (whole, some)
        )
        assert texts == theirs
        assert f"{SECRET}{client}" in texts[0]
    rows = [shard.tolist() for data in (whole, some) for shard in data.shards]
    assert [len(shard) for shard in rows[:4]] == [6, 8, 10, 13]
    assert rows[4] == list(range(10))


def test_the_evaluation_split_of_a_clients_folder_is_its_own(validated):
    data = load(client_files(str(validated / "one" / "{client}"), 4))
    assert [len(shard) for shard in data.evaluation_shards] == [3, 4, 5, 6]
    common = load(client_files(str(validated / "one" / "{client}"), 4), eval_data=str(validated / "validation.csv"))
    assert common.evaluation_shards is None
    assert len(common.evaluation) == 18


def test_a_client_with_nothing_to_hold_out_is_named(tmp_path):
    write(tmp_path / "0.csv", [("a b", "x"), ("c", "y"), ("d", "x"), ("e", "y")])
    write(tmp_path / "1.csv", [("a b", "x"), ("c", "y")])
    with pytest.raises(DataError, match=r"Holding out .* of File .*1.csv of client 1 for .* needs two rows"):
        load(client_files(f"{tmp_path}/{{client}}.csv", 2))


def test_a_file_to_evaluate_on_that_is_missing_is_named_at_all_ranks(validated):
    (validated / "host1" / "3" / "validation.csv").unlink()
    _, raised = run_hosts([own(validated, f"host{rank}") for rank in range(2)])
    said = [str(error) for error in raised]
    assert re.fullmatch(r"The data of client 3, '.*/3/validation.csv', is not there: rank 1 .* says more\.", said[0])
    assert said[1].startswith("client 3: File ")


def test_rows_that_are_left_out_are_left_out_of_their_clients():
    rows = datasets.Dataset.from_dict({"text": list("abcdef")})
    shards = tuple(np.array(shard) for shard in ([0, 2, 4], [1, 3, 5]))
    text = TextData("x", rows, rows, "causal-lm", ("text",), None, (), shards, evaluation_shards=shards, first=4)
    kept = text.keep(np.arange(6), np.array([1, 2, 4]))
    assert [shard.tolist() for shard in kept.evaluation_shards] == [[1, 2], [0]]
    assert kept.evaluation["text"][:] == ["b", "c", "e"]
    with pytest.raises(DataError, match=r"^eval_data\[5\] has no row left"):
        text.keep(np.arange(6), np.array([0, 2]))


def test_tallies_of_parts_are_those_of_all():
    draws = np.random.default_rng(0)
    parts = [
        Tally(float(draws.random()), n, n, draws.integers(0, 9, (3, 3)), int(draws.integers(0, n))) for n in (3, 5, 9)
    ]
    found = total(parts).score(METRICS["accuracy"])
    assert found.loss == pytest.approx(sum(part.loss for part in parts) / 17)
    counts = sum(part.confusion for part in parts)
    assert found.metrics["accuracy"] == np.trace(counts) / counts.sum()
    assert found.metrics["exact_match"] == sum(part.right for part in parts) / 17
    texts = [Tally(2.0, 10, 2), Tally(4.0, 20, 1)]
    assert total(texts).score(METRICS["perplexity"]).metrics == {"perplexity": pytest.approx(np.exp(0.2))}


def test_rows_of_a_rank_that_is_lost_are_not_counted():
    clusters, row = memory_clusters(3), torch.arange(4, dtype=torch.float32)
    tallies = [[Tally(1.0 + rank, 2, 2, np.eye(2, dtype=np.int64), rank)] for rank in range(3)]
    found = {}

    def work(rank):
        def average(given):
            assert torch.equal(given, row)
            return tallies[rank]

        if rank == 2:
            clusters[2].links[0].lose()
        elif rank == 1:
            appraisal.answer(clusters[1], 4, average)
        else:
            found["all"] = appraisal.ask(clusters[0], 4, row, average)

    together(work, 3)
    assert [(tally.loss, tally.right) for tally in found["all"]] == [(1.0, 0), (2.0, 1)]
    assert found["all"][1].confusion.tolist() == [[1, 0], [0, 1]]
    clusters[0].links[1].lose()
    appraisal.answer(clusters[1], 5, lambda _: pytest.fail("rank 0 is lost"))
    assert clusters[1].hear(0, Kind.AVERAGE, 6) is None


def test_how_many_samples_are_said_in_words():
    assert Evaluated(872, (200,), {}).of_clients == "200"
    apart = Evaluated(30, (12, 8, 10), {})
    assert apart.of_clients == "8 to 12 of their own"
    assert [apart.of_client(client) for client in range(3)] == [12, 8, 10]
    assert Evaluated(30, (200,), {}).of_client(2) == 200
