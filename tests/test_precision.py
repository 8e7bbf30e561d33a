"""`dtype="auto"`: what is measured chooses, is said, and is kept by what goes on with a run or recomputes it."""

import json

import pytest
import torch

import declora
from declora.errors import ConfigError
from declora.model import precision
from tiny import tiny_bert

SETTINGS = {
    "clients": 2,
    "rounds": 1,
    "local_steps": 1,
    "batch_size": 2,
    "eval_every": 1,
    "client_eval_samples": 0,
    "lora": {"r": 2},
    "checkpoint_every": 1,
}
FAST, SLOW = 0.5, 1.5


@pytest.fixture
def settings(tmp_path, tokenizer, texts):
    tiny_bert().save_pretrained(tmp_path / "model")
    return {**SETTINGS, "model": str(tmp_path / "model"), "tokenizer": tokenizer, "data": texts}


@pytest.fixture
def share(monkeypatch):
    """Has a product in bfloat16 take so many times as long as one in float32."""
    return lambda value: monkeypatch.setattr(precision, "_share_of_time", lambda device: value)


@pytest.mark.parametrize(("value", "dtype"), [(FAST, "bfloat16"), (0.8, "bfloat16"), (0.81, "float32")])
def test_what_is_chosen_is_what_is_faster_and_its_own_setting(settings, share, value, dtype):
    share(value)
    result = declora.simulate(**settings | {"checkpoint_every": None}, dtype="auto")
    assert (result.config.dtype, result.facts()["base"].split(",")[0]) == (dtype, dtype)
    (note,) = (note for note in result.notes if "dtype='auto'" in note)
    assert f"takes {value:.2f} times as long" in note
    assert f"held in {dtype}" in note
    named = declora.simulate(**settings | {"checkpoint_every": None}, dtype=dtype)
    assert torch.equal(named._outcome.rows, result._outcome.rows)
    assert not any("auto" in note for note in named.notes)


def test_a_run_that_goes_on_or_is_verified_keeps_what_was_chosen(settings, share, tmp_path):
    share(FAST)
    out, objects = tmp_path / "run", {"tokenizer": settings["tokenizer"], "data": settings["data"]}
    declora.simulate(**settings, dtype="auto", out=str(out))
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    share(SLOW)
    assert declora.verify(out, **objects).holds
    assert declora.resume(out, rounds=2, **objects).config.dtype == "bfloat16"


def test_a_comparison_keeps_what_was_chosen_for_each_of_its_runs(settings, share, tmp_path, monkeypatch):
    share(FAST)
    loaded, load = [], declora.simulation.prepare
    monkeypatch.setattr(declora.simulation, "prepare", lambda config: loaded.append(config) or load(config))
    out = tmp_path / "runs"
    runs = {"a": {}, "b": {"method": "local"}, "c": {"dtype": "float32"}}
    found = declora.simulate(**settings, dtype="auto", compare=runs, out=str(out))
    assert [run.config.dtype for run in found.values()] == ["bfloat16", "bfloat16", "float32"]
    assert len(loaded) == 2
    kept = json.loads((out / "config.json").read_text())["compare"]
    assert {label: changes["dtype"] for label, changes in kept.items()} == {
        "a": "bfloat16",
        "b": "bfloat16",
        "c": "float32",
    }


def test_where_there_is_no_choice_auto_is_refused(settings, monkeypatch):
    with pytest.raises(ConfigError, match="the model passed in is loaded"):
        declora.simulate(**settings | {"model": tiny_bert(), "checkpoint_every": None}, dtype="auto")
    with pytest.raises(ConfigError, match="for a base in 4 bits"):
        precision.check_choosable(loaded=False, quantized=True)
    monkeypatch.setattr(precision.process, "ranks", lambda: 2)
    with pytest.raises(ConfigError, match="all must have the same"):
        precision.check_choosable(loaded=False, quantized=False)


def test_the_measurement_takes_turns_on_the_layers_of_a_run():
    precision._share_of_time.cache_clear()
    chosen, note = precision.faster_dtype(torch.device("cpu"))
    share = precision._share_of_time(torch.device("cpu"))
    assert 0 < share < 1000
    assert chosen == ("bfloat16" if share <= 0.8 else "float32")
    assert "on this CPU" in note
    assert precision.faster_dtype(torch.device("cpu")) == (chosen, note)
