"""What a result says of its run: clients by number, facts that are measured, pictures that stay legible."""

import numpy as np
import pandas as pd
import pytest
import torch

import declora
from declora.codec import parse_codec
from declora.errors import ConfigError
from declora.pages import _few_classes
from declora.report import format_bytes
from tiny import tiny_bert


@pytest.fixture
def simulate(tokenizer, texts):
    """Returns `simulate` with tiny defaults and no folder."""

    def run(**settings):
        defaults = {
            "model": tiny_bert(width=16), "tokenizer": tokenizer, "data": texts, "clients": 4, "rounds": 1,
            "local_steps": 1, "batch_size": 4, "lora": {"r": 2, "target_modules": ["query"]}, "client_eval_samples": 0,
            "progress": False,
        }  # fmt: skip
        return declora.simulate(**{**defaults, **settings})

    return run


def test_clients_are_numbered_from_0_and_no_other_number_is_one(simulate):
    result = simulate()
    rows = [result.client(index).row for index in range(4)]
    np.testing.assert_allclose(result.average.row, np.mean(rows, axis=0), atol=1e-7)
    assert len({row.numpy().tobytes() for row in rows}) == 4
    for index in (-1, 4):
        with pytest.raises(ConfigError, match=rf"client={index} does not exist: this run has clients 0\.\.3"):
            result.client(index)
    assert torch.equal(result.client(np.int64(1)).row, rows[1])
    for index in (True, 1.0, None, "1", [0]):
        with pytest.raises(ConfigError, match=r"^client=.* does not exist: this run has clients 0\.\.3"):
            result.client(index)


def test_a_result_is_a_key_and_equals_itself_alone(simulate):
    result, other = simulate(rounds=1), simulate(rounds=1)
    assert {result: 1, other: 2}[result] == 1
    assert result != other


def test_the_facts_are_those_of_the_run(simulate):
    result = simulate(partition="quantity:0.5", codec="q4+choco")
    facts, columns = result.facts(), result.average.layout.columns
    sizes = sorted(result.partition.counts["total"])
    assert sizes[0] < sizes[-1]
    assert facts["samples of a client"] == f"{sizes[0]} to {sizes[-1]}"
    message = result.history["bytes_sent"].iloc[0] // 8  # a ring of four has eight directed edges
    assert facts["one message"] == f"{format_bytes(message)} ({message:,} bytes)"
    assert facts["float32 message"] == format_bytes(parse_codec("none").frame_bytes(columns))
    assert facts["clients"] == "4"
    layout = result.average.layout
    head, lora = layout.size("head"), layout.size("A") + layout.size("B")
    assert head > 0
    assert facts["trained parameters of a client"] == f"{head + lora:,} (LoRA {lora:,})"


def test_the_step_size_is_the_codecs_own_or_the_one_that_is_set(simulate):
    own = parse_codec("q2+choco").default_gamma
    assert own < 0.9
    assert simulate(codec="q2+choco").facts()["consensus step size"] == f"{own:.3g}"
    assert simulate(codec="q2+choco", gamma=0.125).facts()["consensus step size"] == "0.125"
    assert simulate(codec="none").facts()["consensus step size"] == "1"


def test_a_run_without_messages_names_no_codec(simulate):
    assert not {"codec", "graph", "one message"} & simulate(method="local").facts().keys()


def test_of_many_attackers_the_first_are_named(simulate):
    attack = simulate(clients=24, attack="nan", attackers=list(range(1, 23)), mixer="linear", topology="complete")
    named = ", ".join(map(str, range(1, 21)))
    assert f"by clients {named} and 2 others;" in attack.facts()["attack"]


def test_of_many_classes_the_largest_are_shown_and_the_others_are_one():
    sizes = np.arange(1, 31)
    counts = pd.DataFrame([sizes, 2 * sizes], columns=[f"class {i}" for i in sizes]).assign(total=[465, 930])
    few = _few_classes(counts)
    assert list(few.columns) == [*(f"class {i}" for i in range(12, 31)), "11 others", "total"]
    assert few["11 others"].tolist() == [66, 132]
    np.testing.assert_array_equal(few.iloc[:, :-1].sum(axis=1), few["total"])


def test_few_classes_and_none_stay_and_long_names_are_cut():
    counts = pd.DataFrame([[1, 2, 3]], columns=["a", "x" * 1000, "total"])
    assert list(_few_classes(counts).columns) == ["a", f"{'x' * 10}… (1,000 characters)", "total"]
    unlabelled = pd.DataFrame({"total": [3, 4]})
    pd.testing.assert_frame_equal(_few_classes(unlabelled), unlabelled)


def test_what_needs_no_training_stands_beside_the_scores(simulate, tmp_path):
    result = simulate(out=str(tmp_path / "run"))
    assert result.baselines["chance"] == 1 / (result.partition.counts.shape[1] - 1)
    assert result.baselines["chance"] <= result.baselines["largest class"] < 1
    assert 0 <= result.before <= 1
    without = simulate()
    assert np.isnan(without.before)  # nobody reads it, and history knows nothing of it
    measured = [name for name in without.history if not name.startswith("seconds")]
    pd.testing.assert_frame_equal(without.history[measured], result.history[measured])
    rows = [result.client(client).row.double().norm() for client in range(result.federation.clients)]
    np.testing.assert_allclose(result.norm, np.sqrt(np.mean(np.square(rows))))
    share = result.history["consensus_distance"].iloc[-1] / result.norm
    assert declora.Comparison({"run": result}).table["consensus_share"].tolist() == [share]
