"""What a run says before and while it goes on: phases, a header, and lines where there is no bar."""

import logging
import sys
import types

import pytest

import declora
from declora import cli
from declora.report.messages import is_shown, say


def test_a_run_says_what_it_loads_who_takes_part_what_is_trained_and_what_is_sent_before_its_first_round(
    tiny_run, caplog
):
    caplog.set_level(logging.INFO, logger="declora")
    result = tiny_run(codec="q4", rounds=20, eval_every=10, progress=None)
    said = [record.getMessage() for record in caplog.records]
    begin = said.index("dec-lora: 4 clients on ring")
    phases = [line for line in said[:begin] if not line.startswith("note: ")]
    assert [line.partition(":")[0] for line in phases] == ["Loading data", "Loading model", "Tokenizing 56 texts"]
    layout = result._outcome.layout
    assert [line[2:10].strip() for line in said[begin + 1 : begin + 6]] == ["data", "base", "trained", "sent", "rounds"]
    data, base, trained, sent, rounds = (line[11:] for line in said[begin + 1 : begin + 6])
    assert data == "DatasetDict: 48 texts, 8 to evaluate on, 2 classes; iid"
    assert base.startswith("BertForSequenceClassification, float32, ")
    assert trained == f"{layout.columns:,} numbers a client (LoRA {layout.columns - layout.size('head'):,})"
    assert sent == f"{result.federation.codec.frame_bytes(result._outcome.sent)} B a message, codec q4"
    assert rounds == "20 of 2 steps, batches of 4, evaluated every 10"
    told = [line.split("/")[0] for line in said[begin + 6 :]]
    assert told == [f"dec-lora: round {t}" for t in range(2, 21, 2)]  # a line each tenth


def test_a_message_that_may_be_shorter_has_its_most_in_header_and_facts_and_what_is_trained_has_not(tiny_run, caplog):
    caplog.set_level(logging.INFO, logger="declora")
    facts = tiny_run(codec="q2+rans", rounds=1).facts()
    said = {record.getMessage()[2:10].strip(): record.getMessage()[11:] for record in caplog.records}
    assert said["sent"].startswith("up to ")
    assert facts["one message"].startswith("up to ")
    assert not said["trained"].startswith("up to ")
    assert not facts["trained parameters of a client"].startswith("up to ")


def test_those_who_do_not_talk_have_no_graph_and_no_codec_in_their_header(tiny_run, caplog):
    caplog.set_level(logging.INFO, logger="declora")
    tiny_run(method="local", rounds=1)
    said = [record.getMessage() for record in caplog.records]
    assert "local: 4 clients" in said
    assert "  sent     nothing: clients do not talk" in said


@pytest.mark.parametrize(
    ("flags", "told"), [([], ["phase", "a tenth"]), (["-v"], ["phase", "a tenth", "a round"]), (["-q"], [])]
)
def test_more_and_less_is_told(flags, told, monkeypatch, capsys):
    def simulate(config):
        assert config.progress is (False if flags else None)
        say("phase", config.progress)
        logging.getLogger("declora").info("a tenth")
        logging.getLogger("declora").debug("a round")
        return "done"

    monkeypatch.setattr(declora, "simulate", simulate)
    assert cli.main(["simulate", *flags]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == told
    assert shown.out.startswith("done")


@pytest.mark.parametrize("command", ["compare --methods local", "reproduce table1"])
@pytest.mark.parametrize(("flags", "progress"), [([], None), (["-v"], False), (["-q"], False)])
def test_many_runs_tell_as_much_as_one(command, flags, progress, monkeypatch, capsys):
    def run(*_, **arguments):
        logging.getLogger("declora").info("a tenth")
        return f"progress={arguments['progress']}"

    monkeypatch.setattr(declora, command.split()[0], run)
    assert cli.main([*command.split(), *flags]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"progress={progress}\n")
    assert shown.err.splitlines() == ([] if flags == ["-q"] else ["a tenth"])


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("DECLORA_DEVCE", " Did you mean DECLORA_DEVICE?"),
        ("DECLORA_LR", " Did you mean DECLORA_LEARNING_RATE?"),
        ("DECLORA_XYZZY", ""),
    ],
)
def test_a_variable_that_is_no_setting_is_named_even_where_little_is_told(variable, hint, monkeypatch, capsys):
    monkeypatch.setattr(declora, "simulate", lambda config: "done")
    monkeypatch.setenv(variable, "1")
    cli.main(["simulate", "-q"])
    assert capsys.readouterr().err == f"{variable} in the environment is no setting and does nothing.{hint}\n"


def test_the_environment_gives_defaults_and_is_named(monkeypatch, capsys, tmp_path):
    caught = []
    monkeypatch.setattr(declora, "simulate", lambda config: caught.append(config))
    monkeypatch.setenv("DECLORA_CLIENTS", "6")
    monkeypatch.setenv("DECLORA_ROUNDS", "7")
    monkeypatch.setenv("DECLORA_CODEC", "none")
    (tmp_path / "run.toml").write_text("rounds = 8\nclip_norm = 2.0")
    cli.main(["simulate", "--config", str(tmp_path / "run.toml"), "--codec", "q8"])
    (config,) = caught
    assert (config.clients, config.rounds, config.codec, config.clip_norm) == (6, 8, "q8", 2.0)
    assert "Settings of the environment: clients, rounds, codec" in capsys.readouterr().err
    monkeypatch.setenv("DECLORA_CLIENTS", "six")
    assert cli.main(["simulate"]) == 1
    assert "clients='six' must be a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare", "plan"])
def test_the_environment_gives_defaults_of_every_command_that_runs_something(command, monkeypatch, capsys, tmp_path):
    caught = []

    def plan_rounds(config, **_):
        caught.append(config)
        return types.SimpleNamespace(rounds=1, local_steps=2)

    monkeypatch.setattr(declora, "compare", lambda *_, config, **__: caught.append(config))
    monkeypatch.setattr(declora, "plan_rounds", plan_rounds)
    monkeypatch.setenv("DECLORA_CLIENTS", "6")
    (tmp_path / "run.toml").write_text("rounds = 8")
    asked = ["--methods", "dec-lora"] if command == "compare" else ["--seconds", "60"]
    cli.main([command, *asked, "--config", str(tmp_path / "run.toml")])
    assert (caught[0].clients, caught[0].rounds) == (6, 8)
    assert "Settings of the environment: clients" in capsys.readouterr().err
    shell = types.SimpleNamespace(kernel=object())  # where somebody looks
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    cli.main([command, *asked, "-q"])
    assert capsys.readouterr().err == ""


def test_the_environment_is_validated_with_the_file(monkeypatch, capsys, tmp_path):
    (tmp_path / "run.toml").write_text("rounds = 8")
    monkeypatch.setenv("DECLORA_CLIENTS", "6")
    assert cli.main(["validate", str(tmp_path / "run.toml")]) == 0
    assert "clients, rounds changed" in capsys.readouterr().out
    monkeypatch.setenv("DECLORA_CODEC", "q99")
    assert cli.main(["validate", str(tmp_path / "run.toml")]) == 1
    assert "q99" in capsys.readouterr().err


def test_a_notebook_sees_progress_though_it_is_no_terminal(monkeypatch):
    assert not is_shown(None)
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert is_shown(None)
    del shell.kernel  # IPython in a terminal
    assert not is_shown(None)


def test_a_kernel_that_bitsandbytes_does_not_find_is_not_spoken_of():
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)
