"""Notes: what was guessed or decided for the user is said before the first round, in the result and in the report."""

import logging
from dataclasses import replace

import pytest

import declora
from conftest import tiny_bert
from declora import cli, prepare
from declora.report import announce

GUESS, OTHER = "Column 'text' is taken as the text.", "Column 'label' is taken as the label."


@pytest.fixture
def run(tokenizer, texts, monkeypatch):
    """Returns `simulate` with settings of a moment's run, whose data and base have notes."""
    load, load_base = prepare.data.load, prepare.load_base
    monkeypatch.setattr(prepare.data, "load", lambda *a, **k: replace(load(*a, **k), notes=(GUESS, OTHER)))
    monkeypatch.setattr(prepare, "load_base", lambda *a, **k: replace(load_base(*a, **k), notes=(OTHER,)))
    lora = {"r": 2, "target_modules": ["query", "value"]}
    tiny = {"clients": 2, "rounds": 1, "local_steps": 1, "batch_size": 2, "client_eval_samples": 4, "lora": lora}
    return lambda **more: declora.simulate(model=tiny_bert(), tokenizer=tokenizer, data=texts, **tiny, **more)


def test_a_result_has_its_notes_once_and_in_order_and_so_has_the_report(run, tmp_path):
    result = run(out=tmp_path / "run", progress=False)
    assert result.notes == (GUESS, OTHER)
    assert result.facts()["notes"] == f"{GUESS} {OTHER}"
    assert "is taken as the text." in (tmp_path / "run" / "report.html").read_text()


def test_a_run_without_notes_has_no_word_of_them(run):
    result = run(progress=False)
    silent = replace(result, _outcome=replace(result._outcome, notes=()))
    assert silent.notes == ()
    assert "notes" not in silent.facts()


@pytest.mark.parametrize("more", [{}, {"compare": ["local", "centralized"]}])
def test_notes_are_said_once_before_the_bar(run, capsys, more):
    run(progress=True, **more)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [f"note: {GUESS}", f"note: {OTHER}"]
    assert not any(line.startswith("note: ") for line in lines[2:])


def test_without_a_bar_notes_go_to_the_log_and_nothing_is_printed(capsys, caplog):
    with caplog.at_level(logging.INFO, "declora"):
        announce([GUESS], enabled=False)
    assert caplog.messages == [f"note: {GUESS}"]
    assert capsys.readouterr().err == ""


def test_the_command_line_always_prints_them(monkeypatch, capsys):
    for enabled in (True, False):
        monkeypatch.setattr(declora, "simulate", lambda config, enabled=enabled: announce([GUESS], enabled))
        assert cli.main(["simulate"]) == 0
        assert capsys.readouterr().err == f"note: {GUESS}\n"
