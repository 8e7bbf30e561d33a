"""Names and options of any length: refused quickly, in a message that a terminal can show."""

import time

import pytest

from declora.attacks import parse_attack
from declora.errors import ConfigError
from declora.methods import build_method
from declora.mixer import parse_mixer
from declora.topology import Topology

LONG = "9" * 100_000


def topology(text, **settings):
    return Topology.build(text, 8, **settings)


def attack(text, attackers=1):
    return parse_attack(text, attackers, clients=8, seed=0)


MANY = "9" * 400
NAMES = {
    topology: [f"random-regular:{LONG}", f"erdos-renyi:{LONG}", "base" + ":1" * 50_000, f"watts-strogatz:{MANY}"],
    parse_mixer: [
        f"krum:f={LONG}",
        f"krum:{LONG}=1",
        "krum:" + "f=1," * 9_999,
        f"median:{LONG}",
        f"clipped:tau={MANY}",
    ],
    attack: [f"alie:scale={LONG}", f"mimic:target={LONG}", f"mimic:target={MANY}", f"replay:delay={MANY}"],
    build_method: [],
}
OTHERS = {
    "weights": lambda: topology("ring", weights=LONG),
    "rows": lambda: topology(list(LONG)),
    "clients": lambda: Topology.build("ring", LONG),
    "attackers": lambda: attack("alie", LONG),
    "list of attackers": lambda: attack("alie", list(LONG)),
    "many attackers": lambda: attack("alie", list(range(100_000))),
}
CALLS = {
    f"{parse.__name__} {text[:20]}": (lambda parse=parse, text=text: parse(text))
    for parse, texts in NAMES.items()
    for text in (LONG, "k" * 100_000, "", *texts)
}
CALLS |= OTHERS


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_long_name_is_refused_in_a_short_message_at_once(call):
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        call()
    assert len(caught.value.args[0]) < 600
    assert "\n" not in str(caught.value)
    assert time.process_time() - start < 2
