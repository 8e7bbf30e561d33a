"""Every method with each codec, each mixer and each graph once: it runs, or says why not before it begins."""

import pytest

from declora.methods import METHODS
from tiny_combinations import CODECS, GRAPHS, MIXERS, Fault, Ran, tried

# Of a Latin square: for each method every codec, every mixer and every graph is there.
SQUARE = [(CODECS[i], MIXERS[i * 2 % 5], GRAPHS[i % 4]) for i in range(5)]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_or_is_refused_in_one_sentence_that_names_a_setting(method):
    found = {
        (codec, mixer, graph): tried(method=method, codec=codec, mixer=mixer, topology=graph)
        for codec, mixer, graph in SQUARE
    }
    assert not {case: result for case, result in found.items() if isinstance(result, Fault)}
    assert isinstance(found["none", "linear", "ring"], Ran)
