"""The command line: flags, config files, what is printed, exit codes."""

import itertools
import json
import subprocess
import sys

import pytest

import declora
from declora import cli
from declora.config import SETTINGS, SimulationConfig
from declora.errors import ConfigError
from declora.settings import parse_overrides, parse_pair


@pytest.fixture
def seen(monkeypatch):
    """Catches the configuration that the command line would run."""
    caught = []
    monkeypatch.setattr(declora, "simulate", lambda config: caught.append(config) or "done")
    return caught


def test_without_arguments_the_embedded_run_is_run(seen, capsys):
    assert cli.main(["simulate"]) == 0
    assert seen == [SimulationConfig()]
    assert capsys.readouterr().out.startswith("done")


def test_flags_override_the_config_file_and_nothing_else(seen, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('clients = 6\nrounds = 3\ntopology = "torus"\n[lora]\nr = 4\ntarget_modules = ["query"]\n')
    arguments = ["--rounds", "7", "--codec", "none", "--lora.r", "16", "--overwrite", "--clip-norm", "none"]
    assert cli.main(["simulate", "--config", str(file), *arguments]) == 0
    (config,) = seen
    assert (config.clients, config.rounds, config.topology, config.codec) == (6, 7, "torus", "none")
    assert config.lora == {"r": 16, "target_modules": ["query"]}
    assert config.overwrite is True
    assert config.clip_norm is None
    assert config.local_steps == SimulationConfig().local_steps


def test_every_setting_is_a_flag_with_its_documentation_under_the_heading_of_its_section(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulate", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    place = 0
    for section, settings in itertools.groupby(SETTINGS.values(), key=lambda setting: setting.section):
        place = text.index(f" {section.title}: {section.about} --", place)
        for setting in settings:
            place = text.index(f" --{setting.name.replace('_', '-')} ", place)
            assert setting.text


def test_a_finished_config_can_be_run_again(seen, tmp_path):
    file = tmp_path / "config.json"
    config = SimulationConfig(clients=3, codec="none", gamma=0.5)
    file.write_text(json.dumps(config.describe()))
    assert cli.main(["simulate", "--config", str(file)]) == 0
    assert seen == [config]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "--clients", "0"], "clients=0"),
        (["simulate", "--topology", "rign"], "Did you mean 'ring'"),
        (["simulate", "--config", "missing.toml"], "missing.toml"),
        (["topology", "ring", "--clients", "0"], "clients=0"),
        (["topology", "ring", "--codec", "q1"], r"2..8"),
    ],
)
def test_errors_are_one_line_on_stderr_and_exit_code_1(arguments, message, capsys):
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("declora: ")
    assert "Traceback" not in error


def test_topology_prints_weights_gap_and_bytes(capsys):
    assert cli.main(["topology", "ring", "--clients", "10", "--parameters", "1000"]) == 0
    text = capsys.readouterr().out
    assert "0.333" in text
    assert "0.127" in text  # the gap: 1 - (1/3 + 2/3 cos(2 pi / 10)) = 0.1273
    assert "612 bytes" in text  # 96 header + 4 scales of 4 bytes + 500 of codes


def test_version_is_the_packages():
    shown = subprocess.run([sys.executable, "-m", "declora", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"declora {declora.__version__}"


def test_pairs_are_read_as_flags_are():
    assert parse_pair("local-steps=3") == ("local_steps", 3)
    assert parse_pair("codec=none") == ("codec", "none")
    assert parse_pair("mixer=multi-krum:f=1,m=2") == ("mixer", "multi-krum:f=1,m=2")
    assert parse_pair("attack=nan") == ("attack", "nan")
    assert parse_pair("attack=none") == ("attack", None)
    assert parse_pair("attackers=[3, 7]") == ("attackers", [3, 7])
    with pytest.raises(ConfigError, match="name=value"):
        parse_pair("local-steps")


def test_runs_of_a_comparison_are_names_with_overrides():
    expected = {"local": {"method": "local"}, "dec-lora codec=none": {"method": "dec-lora", "codec": "none"}}
    assert parse_overrides(["local", "dec-lora codec=none"]) == expected
    assert parse_overrides("local, dec-lora codec=none") == expected
    assert parse_overrides({"a": {"codec": "q4"}}) == {"a": {"codec": "q4"}}
    with pytest.raises(ConfigError, match="table of settings"):
        parse_overrides({"a": 3})


def test_a_flag_replaces_what_the_file_says_of_local_work(seen, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SimulationConfig(local_steps=3).describe()))
    assert cli.main(["simulate", "--config", str(file), "--local-epochs", "2"]) == 0
    assert (seen[0].local_steps, seen[0].local_epochs) == (None, 2)


@pytest.mark.parametrize(("texts", "value"), [((), True), (("no",), False), (("ON",), True), (("0",), False)])
def test_switches_take_the_usual_spellings(seen, texts, value):
    assert cli.main(["simulate", "--out", "x", "--overwrite", *texts, "--unpad", *texts]) == 0
    assert (seen[0].overwrite, seen[0].unpad) == (value, value)


def test_lists_are_written_with_commas_or_brackets(seen):
    flags = ["--attack", "nan", "--attackers", "3,7", "--text-columns", "a,b", "--lora.target_modules", "query,value"]
    assert cli.main(["simulate", *flags]) == 0
    assert (seen[0].attackers, seen[0].text_columns) == ([3, 7], ["a", "b"])
    assert seen[0].lora == {"r": 8, "target_modules": ["query", "value"]}
