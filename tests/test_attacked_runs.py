"""Runs under attack, end to end: robust ones go on whatever is sent, others end in an error that names the attack."""

import numpy as np
import pytest

import declora
from declora.attacks import ATTACKS
from declora.errors import TrainingError
from tiny import tiny_bert


@pytest.fixture
def run(tokenizer, texts):
    def simulate(**settings):
        defaults = {
            "model": tiny_bert(), "tokenizer": tokenizer, "data": texts, "clients": 5, "rounds": 3, "local_steps": 1,
            "topology": "complete", "attackers": [3], "client_eval_samples": 0, "progress": False,
            "lora": {"r": 2, "target_modules": ["query", "value"]},
        }  # fmt: skip
        return declora.simulate(**{**defaults, **settings})

    return simulate


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_borne_by_a_robust_rule_and_public_copies(run, name):
    """With a memory, lies of this and of earlier rounds add up; the loss stays that of an untrained model, log 2."""
    scaled = name in ("sign-flip", "alie", "ipm", "gaussian", "dissensus")
    result = run(attack=f"{name}:scale=1e38" if scaled else name, mixer="clipped:f=1", codec="q4+choco")
    assert result.history["average_loss"].iloc[-1] < 2 * np.log(2)
    refused = {"nan": [1, 1, 1], "inf": [1, 1, 1], "replay": [0, 1, 1], "mimic": [0, 0, 0], "stale": [0, 0, 0]}
    assert result.history["frames_refused"].tolist() == refused.get(name, result.history["frames_refused"].tolist())


@pytest.mark.parametrize("attack", ["sign-flip:scale=1e38", "crafted"])
def test_a_mixer_that_keeps_nothing_out_ends_in_an_error_that_names_the_attack(run, attack):
    with pytest.raises(TrainingError, match=r"attack=.*mixer='linear'"):
        run(attack=attack)
