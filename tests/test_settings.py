"""Settings: whatever is given is refused in a line or is what it says, at once, before anything is loaded."""

import inspect
import itertools
import json
import pathlib
import pickle
import time

import numpy as np
import pytest
import torch

import declora
from declora import cli
from declora.config import OUTPUT, SETTINGS, SimulationConfig
from declora.errors import ConfigError, DecloraError
from declora.model.load import DTYPES
from declora.settings import load_toml, parse_overrides
from declora.train.optimizer import OPTIMIZERS, SCHEDULES

ODD = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**70), 10**400, 10**5000, 1e9, 1e300, -0.5, 0.5, float("nan"),
    float("inf"), 1j, "", "  ", "x", "x" * 100_000, "true", "\0", "\ud800", "a/" * 3000, b"q4", [], [1], ["x"], (), {},
    {"r": "x"}, {1: 2}, object(), int, len, np.int64(3), np.float32("nan"), np.array([1, 2]), np.array(3),
    np.zeros((2, 3)), np.True_, pathlib.Path("x"), torch.tensor(3), range(3), {1, 2}, iter([1]), ..., "[" * 5000,
    "labels:" + "[" * 5000, "dirichlet:" + "9" * 6000, "q4:block=" + "9" * 6000, "topk:fraction=nan+choco",
    "clipped:tau=inf", "erdos-renyi:nan", "random-regular:" + "9" * 5000, "sign-flip:scale=1e400", "{", "{x!r}",
]  # fmt: skip
TEXTS = [
    "", "-1", "1e9", "9" * 6000, "nan", "none", "maybe", "{a=1}", "[" * 5000, "\ud800", "x" * 100_000, "3\nclients = 4",
]  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_any_value_of_any_setting_is_kept_or_refused_in_one_short_line_at_once(name):
    start = time.perf_counter()
    for value in ODD:
        message = ""
        try:
            json.dumps(SimulationConfig(**{name: value}).describe(), allow_nan=False)
        except DecloraError as error:
            message = str(error)
        assert len(message) <= 1500
        assert "\n" not in message
    # Each takes microseconds; a minute of a busy machine is what a hang is told from.
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize("flag", [*SETTINGS, *(f"lora.{name}" for name in SETTINGS["lora"].kind.fields)])
def test_any_text_of_any_flag_is_a_configuration_or_one_line_on_stderr(flag, monkeypatch, capsys):
    monkeypatch.setattr(declora, "simulate", lambda config: "done")
    for text in TEXTS:
        status = cli.main(["simulate", f"--{flag.replace('_', '-') if '.' not in flag else flag}={text}"])
        error = capsys.readouterr().err
        assert status in (0, 1)
        assert (status == 1) == (error.startswith("declora: ") and error.count("\n") == 1 and len(error) < 1600)


def test_a_setting_without_an_own_kind_has_the_one_of_its_type():
    assert SETTINGS["reset_moments"].parse("no") is False
    assert SETTINGS["optimizer"].check("sgd") == "sgd"
    assert {name for name, setting in SETTINGS.items() if setting.loaded} >= {"model", "data", "seed", "max_length"}


def test_each_setting_stands_under_one_heading_and_marks_say_what_runs_have_in_common():
    sections = [setting.section.title for setting in SETTINGS.values()]
    titles = ["Data", "Model", "Federation", "Training", "Messages", "Evaluation", "Output"]
    assert [title for title, _ in itertools.groupby(sections)] == titles
    assert {
        "out", "overwrite", "checkpoint_every", "ledger", "callbacks", "report_to", "tensorboard", "progress",
    } == OUTPUT  # fmt: skip
    assert {name for name, setting in SETTINGS.items() if setting.shared} == {
        "compare", "out", "overwrite", "checkpoint_every", "ledger",
    }  # fmt: skip


def test_help_of_the_configuration_says_what_each_setting_means_under_the_heading_of_its_section():
    text = inspect.getdoc(SimulationConfig)
    places = [text.index(f"\n{title}: ") for title in ("Data", "Model", "Federation", "Training", "Messages")]
    assert places == sorted(places)
    assert places[0] < text.index("    task: classification or causal-lm") < places[1]


def test_the_choices_in_the_annotations_are_those_of_the_rooms():
    for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("dtype", (*DTYPES, "auto"))):
        for choice in known:
            assert SimulationConfig(**{name: choice}).describe()[name] == choice
        with pytest.raises(ConfigError, match=f"Known: {', '.join(sorted(known))}"):
            SimulationConfig(**{name: "nonsense"})


def test_numpy_values_and_paths_are_written_as_what_they_are(tmp_path):
    odd = SimulationConfig(clients=np.int64(3), learning_rate=np.float64(0.01), unpad=np.False_, out=tmp_path)
    plain = SimulationConfig(clients=3, learning_rate=0.01, unpad=False, out=str(tmp_path))
    assert odd == plain
    assert json.dumps(odd.describe()) == json.dumps(plain.describe())
    assert pickle.loads(pickle.dumps(odd)) == odd


@pytest.mark.parametrize(
    "settings",
    [
        {"codec": "q44"}, {"codec": "topk"}, {"mixer": "medain"}, {"topology": "rnig"}, {"topology": "base:x"},
        {"partition": "dirichlet:x"}, {"partition": "labels:[["}, {"method": "fedagv"}, {"attack": "alei"},
        {"attack": "nan", "attackers": 10}, {"metric": "acuracy"}, {"task": "regression"}, {"schedule": "lineer"},
        {"optimizer": "adam"}, {"weights": "metropolys"}, {"device": "mps"}, {"dtype": "float64"},
        {"prompt_template": "{a!r}"}, {"compare": ["lcal"]}, {"codec": "q4", "compare": ["local codec=q44"]},
        {"lora": {"r": "x"}},
    ],
    ids=str,
)  # fmt: skip
def test_every_name_is_read_before_data_and_model_are(settings, monkeypatch):
    monkeypatch.setattr("declora.simulation.prepare", lambda config: pytest.fail("something was loaded"))
    with pytest.raises(DecloraError, match=next(iter(settings))):
        declora.simulate(**settings)


def test_simulate_takes_a_configuration_or_settings_by_name():
    with pytest.raises(ConfigError, match=r"config=7 is no SimulationConfig"):
        declora.simulate(7)


def test_overrides_in_a_text_are_read_as_flags_are():
    assert parse_overrides("tad-lora:interval=5+ffa-lora codec=topk:0.01+choco,rolora") == {
        "tad-lora:interval=5+ffa-lora codec=topk:0.01+choco": {
            "method": "tad-lora:interval=5+ffa-lora", "codec": "topk:0.01+choco",
        },
        "rolora": {"method": "rolora"},
    }  # fmt: skip
    assert parse_overrides(["dec-lora unpad=no codec=none attack=none", "local seed=3"]) == {
        "dec-lora unpad=no codec=none attack=none": {
            "method": "dec-lora", "unpad": False, "codec": "none", "attack": None,
        },
        "local seed=3": {"method": "local", "seed": 3},
    }  # fmt: skip


def test_commas_between_the_options_of_a_method_part_no_runs():
    assert parse_overrides("dec-lora,dp:epsilon=8,delta=1e-5,clip=2,prox+dfed-salt:share=0.5,rho=1 codec=q4,local") == {
        "dec-lora": {"method": "dec-lora"},
        "dp:epsilon=8,delta=1e-5,clip=2": {"method": "dp:epsilon=8,delta=1e-5,clip=2"},
        "prox+dfed-salt:share=0.5,rho=1 codec=q4": {"method": "prox+dfed-salt:share=0.5,rho=1", "codec": "q4"},
        "local": {"method": "local"},
    }
    assert list(parse_overrides("decaf:left=1,codec=q4,dec-lora")) == ["decaf:left=1", "codec=q4", "dec-lora"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.toml", b"clients = \n", "not valid TOML"),
        ("run.toml", b"\xff\xfe\x00", "not valid TOML"),
        ("run.toml", b"clients = " + b"9" * 5000, "not valid TOML"),
        ("run.toml", b"a = " + b"[" * 100_000, "not valid TOML"),
        ("run.toml", b"x = 1\n" * 2**18, "no file of settings"),
        ("run.json", b"{", "not valid JSON"),
        ("run.json", b"[" * 100_000, "not valid JSON"),
        ("run.json", b"[1]", "list, not a table of settings"),
        ("run.json", b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a_broken_file_of_settings_is_refused(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_toml(file)


@pytest.mark.parametrize("path", ["", "missing.toml", ".", "a\0b", "/dev/zero"])
def test_what_is_no_file_of_settings_is_refused(path):
    with pytest.raises(ConfigError, match="config="):
        load_toml(path)


def test_a_file_of_settings_may_begin_with_a_byte_order_mark(tmp_path):
    for name, text in (("run.toml", "clients = 3"), ("run.json", '{"clients": 3}')):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert load_toml(tmp_path / name) == {"clients": 3}


def test_unknown_keys_and_sections_of_a_file_show_the_nearest_setting(tmp_path, capsys):
    wrong = {"clinets = 3": "'clients'", "[lroa]\nr = 4": "'lora'", 'overwrite = "false"': "without quotes"}
    for text, near in wrong.items():
        (tmp_path / "run.toml").write_text(text)
        assert cli.main(["simulate", "--config", str(tmp_path / "run.toml")]) == 1
        assert near in capsys.readouterr().err


def test_objects_among_settings_are_described_in_json():
    config = SimulationConfig(topology=np.full((2, 2), 0.5), clients=2, lora={"target_modules": {"b", "a"}})
    found = json.loads(json.dumps(config.describe()))
    assert (found["topology"], found["lora"]) == ([[0.5, 0.5], [0.5, 0.5]], {"target_modules": ["a", "b"]})
