"""The one grammar of names with options, and that every room reads it."""

import numpy as np
import pytest

from declora.attacks import parse_attack
from declora.codec import parse_codec
from declora.data import parse_partition
from declora.errors import ConfigError
from declora.mixer import parse_mixer
from declora.spec import Literal, Option, Word, parse_spec, parse_stack
from declora.topology.names import parse_name

KNOWN = {
    "plain": {},
    "every": {"interval": Option(whole=True, least=1, default=5), "offset": Option(whole=True, least=0)},
    "dp": {
        "epsilon": Option(whole=False, least=0, above=True, needed=True),
        "clip": Option(whole=False, least=0, above=True, default=1.0),
    },
    "refit": {"by": Word(("svd", "qr"), default="svd"), "note": Word()},
    "column": {"name": Literal("the name of a column", "author")},
}


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("plain", "plain", {}),
        ("plain:", "plain", {}),
        ("every", "every", {"interval": 5}),
        ("every:3", "every", {"interval": 3}),
        ("every:3,1", "every", {"interval": 3, "offset": 1}),
        ("every:3:1", "every", {"interval": 3, "offset": 1}),
        ("every:,1", "every", {"interval": 5, "offset": 1}),
        ("every:3,offset=1", "every", {"interval": 3, "offset": 1}),
        ("every:offset=1,interval=3,", "every", {"interval": 3, "offset": 1}),
        ("dp:8", "dp", {"epsilon": 8.0, "clip": 1.0}),
        ("dp:epsilon=1e+1", "dp", {"epsilon": 10.0, "clip": 1.0}),
        ("refit:qr", "refit", {"by": "qr"}),
        ("refit:note=a=b", "refit", {"by": "svd", "note": "a=b"}),
        ("column:a, b:c=d+e", "column", {"name": "a, b:c=d+e"}),
    ],
)
def test_values_are_read_by_place_and_by_name(text, name, options):
    read, found = parse_spec("method", text, KNOWN)
    assert (read, found) == (name, options)
    assert list(found) == [key for key in KNOWN[name] if key in found]  # in the order of the table
    assert [type(value) for value in found.values()] == [type(value) for value in options.values()]


def test_a_stack_is_names_joined_by_plus_each_with_its_options():
    assert parse_stack("method", "every:interval=2+dp:epsilon=1e+1,clip=2+plain", KNOWN) == [
        ("every", {"interval": 2}),
        ("dp", {"epsilon": 10.0, "clip": 2.0}),
        ("plain", {}),
    ]
    assert parse_stack("method", "plain", KNOWN) == [("plain", {})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evry", "method='evry' is not known. Did you mean 'every'[?] Known: column, dp, every, plain, refit"),
        ("plain+evry:3", "method='evry' is not known. Did you mean 'every'"),
        ("plain+", r"method='plain\+' has nothing beside a '\+'. Put a name there"),
        ("+plain", "has nothing beside a"),
        ("", "method='' is not known"),
        ("plain:3", "method='plain:3': plain takes no options. Write method='plain'"),
        ("every:1,2,3", "every takes no 3 values. Write e.g. every:interval=5,offset=1"),
        ("every:intervall=3", "option of method every='intervall' is not known. Did you mean 'interval'"),
        ("every:interval=", "interval='' must be a whole number of at least 1, e.g. every:interval=5"),
        ("every:0", "method='every:0': interval='0' must be a whole number of at least 1"),
        ("every:1.5", "interval='1.5'"),
        ("every:1,interval=2", "gives interval twice"),
        ("dp", "method='dp': dp needs epsilon, a number above 0. Write e.g. dp:epsilon=1"),
        ("dp:inf", "epsilon='inf'"),
        ("plain+dp:0", r"method='plain\+dp:0': epsilon='0' must be a number above 0"),
        ("refit:lu", "by='lu' must be one of svd, qr, e.g. refit:by=svd"),
        ("refit:note=\u00e9", "note='\u00e9' must be a word in ASCII"),
        ("column:", "column needs name, the name of a column. Write e.g. column:author"),
        ("plain+every+plain", r"method='plain\+every\+plain' has plain twice"),
    ],
)
def test_what_cannot_be_read_is_refused_with_field_value_and_fix(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_stack("method", text, KNOWN)


def attack(text):
    return parse_attack(text, [5], clients=8, seed=0)


@pytest.mark.parametrize(
    ("parse", "spelled", "canonical"),
    [
        (parse_name, ["erdos-renyi", "erdos-renyi:0.5", "erdos-renyi:p=.5"], "erdos-renyi:0.5"),
        (parse_name, ["watts-strogatz:6,0.2", "watts-strogatz:p=0.2,k=6"], "watts-strogatz:6:0.2"),
        (parse_name, ["base:2", "base:k=2"], "base:2"),
        (parse_name, ["random-regular", "random-regular:d=4"], "random-regular:4"),
        (parse_mixer, ["krum:2", "krum:f=2"], "krum:f=2"),
        (parse_mixer, ["multi-krum:1,2", "multi-krum:m=2,f=1"], "multi-krum:f=1,m=2"),
        (parse_mixer, ["clipped:,1.5", "clipped:tau=1.5"], "clipped:tau=1.5"),
        (attack, ["replay:2,3", "replay:target=3,delay=2"], "replay:delay=2,target=3"),
        (parse_codec, ["q2:64,l2+rans+ef", "q2:norm=l2,block=64+rans+ef"], "q2:block=64,norm=l2+rans+ef"),
        (parse_codec, ["topk:0.01+choco", "topk:fraction=.01+choco"], "topk:fraction=0.01,values=q8+choco"),
        (parse_codec, ["qsgd:7", "qsgd:levels=7"], "qsgd:levels=7,block=512,norm=l2"),
    ],
)  # fmt: skip
def test_every_room_takes_places_and_names_and_writes_one_text(parse, spelled, canonical):
    assert {str(parse(text)) for text in [*spelled, canonical]} == {canonical}


def test_partitions_take_both_forms_and_whatever_a_column_is_called():
    assert parse_partition("dirichlet:0.5") == parse_partition("dirichlet:alpha=0.5") == ("dirichlet", 0.5)
    assert parse_partition("shards:2") == parse_partition("shards:s=2") == ("shards", 2)
    assert parse_partition("column:a=b, c:d+e") == ("column", "a=b, c:d+e")
    kind, rows = parse_partition("labels:[[.15,.85],[.85,.15]]")
    np.testing.assert_array_equal(rows, [[0.15, 0.85], [0.85, 0.15]])
    assert kind == "labels"
