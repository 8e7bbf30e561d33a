"""Typos cost a moment, and their message says what is meant; files of settings; what shells and type checkers know."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import mypy.api
import pytest

import declora
from declora import cli, keywords
from declora.cli.init import template
from declora.config import DEFAULTS, SETTINGS, SimulationConfig
from declora.errors import ConfigError
from declora.synonyms import SYNONYMS


def test_a_command_is_read_and_a_file_of_settings_checked_before_anything_that_takes_long_is_loaded(tmp_path):
    (tmp_path / "run.toml").write_text('topology = "torus"\npartition = "dirichlet:0.5"\nmethod = "decaf"\nclients = 9')
    code = (
        "import sys; from declora import cli; "
        "assert cli.main(['validate', 'run.toml']) == 0; "
        "wrong = ['simulate --rounds ten', 'compare --methods dec-lorra', 'compare --methods decaf --set rounds=0', "
        "'plan --bytes 1GB --set mixer=krumm', 'reproduce table7', 'reproduce table1 --tasks sst3', "
        "'resume nowhere', 'verify nowhere', 'audit nowhere']; "
        "assert all(cli.main(line.split()) == 1 for line in wrong); "
        "print([name for name in ('torch', 'transformers', 'peft', 'datasets', 'pandas', 'matplotlib') "
        "if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.splitlines()[-1] == "[]"
    meant = [
        "rounds='ten' must be a whole number of at least 1.",
        "Did you mean 'dec-lora'?",
        "rounds=0 must be",
        "Did you mean 'krum'?",
        "Did you mean 'table4'?",
        "Did you mean 'sst2'?",
        *["path='nowhere' holds no run"] * 3,
    ]
    for line, part in zip(shown.stderr.splitlines(), meant, strict=True):
        assert part in line


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lr", "'learning_rate'"),
        ("epochs", "'rounds' or 'local_epochs'"),
        ("num_train_epochs", "'rounds' or 'local_epochs'"),
        ("log_with", "'report_to'"),
        ("per_device_train_batch_size", "'batch_size'"),
        ("output_dir", "'out'"),
        ("topologie", "'topology'"),
    ],
)
def test_words_of_other_libraries_and_slips_get_the_setting_that_is_meant(word, meant, capsys):
    with pytest.raises(ConfigError, match=rf"^setting='{word}' is not known\. Did you mean {meant}\?"):
        declora.simulate(**{word: 1})
    flags = meant.replace("'", "").replace("_", "-").split(" or ")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["simulate", f"--{word.replace('_', '-')}", "1"])
    assert stopped.value.code == 2
    assert f"did you mean --{' or --'.join(flags)}?" in capsys.readouterr().err


def test_every_word_of_others_stands_for_settings_and_is_none_itself():
    assert not SYNONYMS.keys() & SETTINGS.keys()
    assert {name for names in SYNONYMS.values() for name in names} <= SETTINGS.keys()


@pytest.mark.parametrize("setting", ["model", "tokenizer", "data", "eval_data"])
@pytest.mark.parametrize("place", ["/nowhere/at/all", "sst2=./nowhere"])
def test_a_path_that_is_not_there_is_refused_before_anything_is_loaded(setting, place, monkeypatch):
    monkeypatch.setattr("declora.simulation.run_all", lambda config: pytest.fail("something was loaded"))
    with pytest.raises(ConfigError, match=rf"^{setting}='{place}' is not there"):
        declora.simulate(**{setting: place})


def test_init_writes_every_setting_with_its_default_and_validate_names_what_is_wrong(tmp_path, capsys):
    path = str(tmp_path / "run.toml")
    assert cli.main(["init", path]) == cli.main(["validate", path]) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert cli.main(["init", path]) == 1  # and what is there stays
    assert "is there already" in capsys.readouterr().err
    Path(path).write_text(template().replace("#rounds = 20", "rounds = 0"))
    assert cli.main(["validate", path]) == 1
    assert "rounds=0 must be a whole number" in capsys.readouterr().err
    Path(path).write_text('compare = ["dec-lora", "dec-lora mixer=median topology=star"]\nclients = 4')
    assert cli.main(["validate", path]) == 1
    assert "mixer='median'" in capsys.readouterr().err


def test_the_lines_of_a_new_file_give_the_defaults_again():
    lines = [line[1:] for line in template().splitlines() if line.startswith("#") and line[1:2] not in ("", " ")]
    written = tomllib.loads("\n".join(line for line in lines if not line.endswith("=")))
    assert SimulationConfig(**written) == DEFAULTS
    assert [line.split(" =")[0] for line in lines if " =" in line] == list(SETTINGS)


def test_help_has_defaults_and_choices(capsys):
    with pytest.raises(SystemExit):
        cli.main(["simulate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--optimizer {adamw,sgd} adamw or sgd. [default: adamw]" in text
    assert "Number of clients, at most as many as there are training rows. [default: 10]" in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("declora val", "validate"),
        ("declora simulate --opti", "--optimizer"),
        ("declora simulate --schedule c", "cosine constant"),
        ("declora simulate --topology hyp", "hypercube"),
    ],
)
def test_a_shell_completes_commands_flags_and_names(line, expected, tmp_path, capsys):
    cli.main(["completion"])
    (tmp_path / "words.sh").write_text(capsys.readouterr().out)
    words = line.split()
    ask = f"source ./words.sh; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _declora; echo ${{COMPREPLY[@]}}"
    found = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.split() == expected.split()


def test_settings_by_name_have_the_types_of_the_configuration():
    """`out` may also be a path, which is kept as text."""
    hints = {name: hint for name, hint in get_type_hints(SimulationConfig).items() if name in SETTINGS}
    expected = {name: Any if hint == Any | None else hint for name, hint in hints.items() if name != "compare"}
    assert get_type_hints(keywords.Settings) == expected | {"out": str | Path | None}


def test_mypy_refuses_a_wrong_setting_in_a_script_of_a_user(tmp_path, monkeypatch):
    """Only what has the types is followed: all of torch would take minutes."""
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\nfollow_imports = skip\ncheck_untyped_defs = false\n"
        "[mypy-declora,declora.api,declora.keywords]\nfollow_imports = silent\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import declora\n"
        "settings: declora.Settings = {'clients': 4, 'learning_rate': 1}\n"
        "declora.simulate(rounds=3, topology=object())\n"
        "declora.simulate(**settings)\n"
        "declora.simulate(rounds='three')\n"
        "declora.simulate(optimizer='adam')\n"
        "declora.simulate(lr=0.1)\n"
    )
    source = Path(declora.__file__).parents[1]
    if source.name != "site-packages":  # where mypy looks anyway
        monkeypatch.setenv("MYPYPATH", str(source))
    arguments = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path / "cache"), str(script)]
    found, errors, _ = mypy.api.run(arguments)
    assert errors == ""
    wrong = [line for line in found.splitlines() if ": error: " in line]
    assert [line.split(":")[1] for line in wrong] == ["5", "6", "7"]
