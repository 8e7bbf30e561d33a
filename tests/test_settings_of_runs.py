"""The settings of a run, read back from its folder: values as they are, objects from who has them."""

import json

import datasets
import networkx
import numpy as np
import pytest
from peft import LoraConfig

from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.settings import of_run
from tiny import tiny_bert, tiny_texts


def read(folder, **given):
    return of_run("runs/a", folder, given, asked="resume")


@pytest.fixture
def folder(tmp_path):
    def write(**settings):
        (tmp_path / "config.json").write_text(json.dumps(SimulationConfig(**settings).describe()))
        return tmp_path

    return write


PLAIN = {
    "names": {"topology": "torus", "codec": "q2+ef", "method": "fedavg", "partition": "dirichlet:0.1"},
    "numbers": {"clients": 4, "learning_rate": 1e-3, "gamma": 0.1, "local_epochs": 2, "seed": 2**64 - 1},
    "tables": {"lora": {"r": 4, "target_modules": ["query"]}, "data": {"train": "a.csv", "validation": "b.csv"}},
    "arrays": {"topology": np.full((2, 2), 0.5), "partition": np.array([[0.5, 0.5], [0.2, 0.8]]), "clients": 2},
    "lists": {"data": ["a.csv", "b.csv"], "attackers": [0, 3], "attack": "sign-flip"},
    "runs": {"compare": {"q4": {"codec": "q4"}, "none": {"codec": "none"}}},
    "a text like an object": {"label_column": "<label>"},
}


@pytest.mark.parametrize("what", PLAIN)
def test_values_are_read_back_as_they_were(folder, what):
    config = read(folder(**PLAIN[what]))
    assert config.describe() == SimulationConfig(**PLAIN[what]).describe()


OBJECTS = {
    "model": tiny_bert,
    "data": lambda: datasets.DatasetDict(train=tiny_texts(8)),
    "eval_data": lambda: [{"text": "a", "label": 0}],
    "public_data": lambda: [{"text": "a"}],
    "topology": lambda: networkx.cycle_graph(10),
    "lora": lambda: LoraConfig(r=4),
    "compare": lambda: {"a": {"topology": networkx.cycle_graph(10)}},
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_asked_for_by_name_and_taken(folder, name):
    thing = OBJECTS[name]()
    stored = folder(**{name: thing})
    with pytest.raises(ConfigError, match=rf"{name}=.* is an object, .*declora\.resume\('runs/a', {name}=\.\.\.\)\.$"):
        read(stored)
    assert read(stored, **{name: thing}).describe()[name] == SimulationConfig(**{name: thing}).describe()[name]


def test_a_configuration_of_a_model_is_an_object_too(folder):
    with pytest.raises(ConfigError, match=r"model=.* is an object"):
        read(folder(model=tiny_bert().config))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rate": 0.1}, r"learning_rate=0\.1 is not what the run had, which is 0\.005\. Leave it out"),
        ({"data": "sst2"}, r"data='sst2' is not what the run had, which is 'stdlib-docstrings'"),
        ({"model": tiny_bert()}, r"model='<BertForSequenceClassification>' is not what the run had, which is 'minilm'"),
        ({"modell": "minilm"}, "setting='modell' is not known. Did you mean 'model'"),
    ],
)
def test_what_the_run_did_not_have_is_refused(folder, given, said):
    with pytest.raises(ConfigError, match=said):
        read(folder(), **given)


def test_a_large_mixing_matrix_is_read_back(folder):
    matrix = np.full((400, 400), 1 / 400)
    config = read(folder(topology=matrix, clients=400))
    np.testing.assert_array_equal(config.topology, matrix)


def test_a_run_that_was_stopped_before_it_wrote_its_settings_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"path='runs/a' is a run that was stopped before it began\. Begin it again"):
        read(tmp_path)
