"""Results and what they are made of can be pickled and copied, as sweeps over processes do."""

import copy
import pickle

import pytest
import torch

import declora
from declora.codec import CODECS, parse_codec
from declora.config import SimulationConfig
from declora.methods.prox import Prox
from declora.mixer import MIXERS, parse_mixer
from declora.simulation import configs_of
from test_own_codec import First
from test_own_mixer import linear, mixer_of
from tiny import tiny_bert

WAYS = [lambda thing: pickle.loads(pickle.dumps(thing)), copy.deepcopy, copy.copy]


@pytest.fixture
def run(tokenizer, texts):
    """Returns `simulate` with settings of a moment's run."""
    tiny = {"clients": 4, "rounds": 1, "local_steps": 1, "batch_size": 2, "client_eval_samples": 4, "progress": False}
    lora = {"r": 2, "target_modules": ["query", "value"]}
    return lambda **more: declora.simulate(
        model=tiny_bert(), tokenizer=tokenizer, data=texts, lora=lora, **tiny, **more
    )


@pytest.mark.parametrize("way", WAYS)
def test_codecs_are_copied_with_their_options_memory_and_shapes(way):
    needing = {"sign", "topk", "powersgd"}
    for text in [*(set(CODECS) - needing), *(f"{name}+choco" for name in needing), "q2:block=64,norm=l2+rans+ef"]:
        codec = parse_codec(text)
        for original in (codec, codec.for_shapes([(4, 3), (2, 2)])):
            again = way(original)
            assert again == original
            assert (str(again), again.memory) == (str(original), original.memory)
            assert again.core.elements == original.core.elements


@pytest.mark.parametrize("way", WAYS)
def test_mixers_are_copied(way):
    for name in MIXERS:
        assert str(way(parse_mixer(name))) == str(parse_mixer(name))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"codec": "powersgd+choco", "partition": "dirichlet:1"},
        {"mixer": "push-sum", "topology": "exponential"},
        {"mixer": "clipped", "topology": "complete", "attack": "alie"},
        {"method": "fedavg"},
    ],
    ids=str,
)
def test_results_are_copied_with_their_adapters_tables_and_federation(run, settings):
    result = run(**settings)
    for way in WAYS:
        again = way(result)
        assert all(torch.equal(again.client(i).row, result.client(i).row) for i in range(result.federation.clients))
        assert again.history.equals(result.history)
        assert again.facts() == result.facts()
        assert str(again) == str(result)


def test_comparisons_are_copied(run):
    comparison = run(compare=["local", "dec-lora"])
    for way in WAYS:
        assert str(way(comparison)) == str(comparison)


def test_runs_of_a_comparison_have_codecs_mixers_and_methods_of_their_own():
    """What one learns in a run of itself is no other run's."""
    given = {"codec": First(0.5, memory="choco"), "mixer": mixer_of(linear), "method": Prox()}
    configs = [*configs_of(SimulationConfig(**given, compare={"a": {}, "b": {"batch_size": 2}})).values()]
    for name, value in given.items():
        own = [getattr(config, name) for config in configs]
        assert len({id(each) for each in (value, *own)}) == 3
        assert {str(each) for each in own} == {str(value)}
