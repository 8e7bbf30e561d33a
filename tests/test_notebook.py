"""What notebooks show: a line, a small table that is escaped, a figure once; and results that travel."""

import copy
import pickle
import threading

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

import declora
from declora.data.partitions import Partition
from declora.notebook import facts_html, table_html
from tiny import tiny_bert, tiny_texts, tiny_tokenizer


@pytest.fixture(scope="module")
def comparison():
    names = ["<script>", "b&w"]
    train = tiny_texts(32).cast_column("label", datasets.ClassLabel(names=names))
    return declora.simulate(
        model=tiny_bert(width=16), tokenizer=tiny_tokenizer(), clients=2, rounds=1, local_steps=1, batch_size=4,
        data=datasets.DatasetDict(train=train, validation=train), lora={"r": 2, "target_modules": ["query"]},
        client_eval_samples=0, progress=False, compare={"<b>first</b>": {}, "second": {"method": "local"}},
    )  # fmt: skip


def objects(comparison):
    result = comparison["second"]
    return [comparison, result, result.average, result.client(1), result.partition, result.federation.topology]


def test_each_object_is_a_line(comparison):
    for shown in map(repr, objects(comparison)):
        assert shown.startswith("<")
        assert len(shown) < 200
        assert "\n" not in shown
    assert repr(comparison) == "<Comparison of 2 runs: <b>first</b>, second>"
    assert repr(comparison["second"]).startswith("<SimulationResult: local, 2 clients, 1 round, accuracy at the end ")
    assert repr(declora.Topology.build("ring", 4)) == "<Topology: ring, 4 clients, 8 messages in the first round>"
    assert repr(comparison["second"].partition) == "<Partition: iid, 2 clients of 16 to 16 rows>"


def test_each_object_is_a_table_whose_names_are_escaped(comparison):
    for one in objects(comparison):
        shown = one._repr_html_()
        assert shown.startswith("<table>")
        assert shown.count("<tr>") == shown.count("</tr>") > 1
        assert "<script>" not in shown
        assert "<b>" not in shown
    assert "&lt;script&gt;" in comparison["second"].partition._repr_html_()
    score = f"{100 * comparison['second'].history['average_accuracy'].iloc[-1]:.1f} %"
    assert score in comparison["second"]._repr_html_()
    assert score in comparison._repr_html_()


def test_tables_are_escaped_and_cut():
    shown = facts_html("<t>", {"a<b": "x" * 1000, "c": '"&'})
    assert "<t>" not in shown
    assert "a&lt;b" in shown
    assert "&quot;&amp;" in shown
    assert len(shown) < 700
    assert table_html("", ["<h>"], [["<i>"]]).count("&lt;") == 2


def test_a_partition_of_many_clients_and_classes_shows_the_first():
    counts = pd.DataFrame(np.ones((100, 60), int), columns=[f"c{i}" for i in range(60)])
    shown = Partition("iid", tuple(np.arange(2) for _ in range(100)), counts)._repr_html_()
    assert "the first 20 clients" in shown
    assert shown.count("<tr>") == 21
    assert shown.count("<th>") == 21


def test_figures_are_shown_once(comparison, pictures):
    before = plt.get_fignums()
    for one in (comparison, comparison["second"], declora.Topology.build("ring", 4)):
        figure = one.plot()
        assert plt.get_fignums() == before  # pyplot's are shown at the end of a cell, and would be there twice
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert pickle.loads(pickle.dumps(figure))._repr_png_() == figure._repr_png_()


def test_a_comparison_is_a_mapping_of_labels_to_results(comparison):
    assert list(comparison) == ["<b>first</b>", "second"]
    assert len(comparison) == 2
    assert "second" in comparison
    assert [result.config.method for result in comparison.values()] == ["dec-lora", "local"]
    assert dict(comparison)["second"] is comparison["second"]
    with pytest.raises(KeyError, match="'third' is not one of the runs"):
        comparison["third"]


class Listening(declora.Callback):
    """Holds something that cannot be pickled."""

    def __init__(self):
        self.lock = threading.Lock()


def test_callbacks_stay_where_they_are(tiny_run):
    result = tiny_run(rounds=1, callbacks=[Listening()])
    again = pickle.loads(pickle.dumps(result))
    assert (len(result.config.callbacks), again.config.callbacks) == (1, None)
    assert pickle.loads(pickle.dumps(result.average)).predict(["w1"]) == again.average.predict(["w1"])


def test_results_travel(comparison):
    result = comparison["<b>first</b>"]
    for again in (pickle.loads(pickle.dumps(comparison)), copy.deepcopy(comparison)):
        assert list(again) == list(comparison)
        other = again["<b>first</b>"]
        assert torch.equal(other.average.row, result.average.row)
        pd.testing.assert_frame_equal(other.history, result.history)
        assert (repr(other), str(other)) == (repr(result), str(result))
        assert other.average.predict(["w1 w2"]) == result.average.predict(["w1 w2"])


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "fedavg"},
        {"weights": "samples", "partition": "quantity:0.5"},
        {"codec": "powersgd+choco", "mixer": "clipped", "attack": "alie", "topology": "complete", "clients": 5},
        {"faults": "loss:p=0.2+dropout:p=0.2,rounds=2", "clock": "lognormal:links=1"},
        {"attack": "lazy:noise=0.001", "detect": "lazy", "codec": "q4+ef"},
        {"ranks": [1, 2, 4, 2], "method": "haflq", "codec": "q2"},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_results_of_all_kinds_of_runs_travel(tiny_run, settings):
    result = tiny_run(rounds=1, local_steps=1, **settings)
    again = pickle.loads(pickle.dumps(result))
    assert torch.equal(again.client(2).row, result.client(2).row)
    assert again.facts() == result.facts()
    assert again.federation.topology.name == result.federation.topology.name
