"""Notes: what was guessed or decided for the user is said before the first round, in the result and in the report."""

import logging
from dataclasses import replace

import pytest

import declora
from declora import cli, data, model
from declora.report import announce
from federations import federation_of, gossip_of, rows_of
from tiny import tiny_bert

GUESS, OTHER = "Column 'text' is taken as the text.", "Column 'label' is taken as the label."


@pytest.fixture
def run(tokenizer, texts, monkeypatch):
    """Returns `simulate` with settings of a moment's run, whose data and base have notes."""
    load, load_base = data.load, model.load_base
    monkeypatch.setattr(data, "load", lambda *a, **k: replace(load(*a, **k), notes=(GUESS, OTHER)))
    monkeypatch.setattr(model, "load_base", lambda *a, **k: replace(load_base(*a, **k), notes=(OTHER,)))
    lora = {"r": 2, "target_modules": ["query", "value"]}
    tiny = {"clients": 2, "rounds": 1, "local_steps": 1, "batch_size": 2, "client_eval_samples": 4, "lora": lora}
    return lambda **more: declora.simulate(model=tiny_bert(), tokenizer=tokenizer, data=texts, **{**tiny, **more})


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
    said = [line for line in lines if line.startswith("note: ")]
    assert said == [f"note: {GUESS}", f"note: {OTHER}"]
    assert lines.index(said[1]) < next(i for i, line in enumerate(lines) if "0%" in line)


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


@pytest.mark.parametrize("codec", ["q4", "q8+ef", "topk+ef"])
@pytest.mark.parametrize("mixer", ["median", "krum:f=1"])
def test_what_a_codec_loses_under_a_rule_that_does_not_keep_the_mean_is_said(codec, mixer):
    """The statement itself is measured: the mean of rows at rest moves, by a thousand times what linear gossip does."""
    (caution,) = federation_of("complete", codec=codec, mixer=mixer).cautions
    assert caution.startswith(f"mixer='{mixer}' does not keep the mean, so that what codec='{codec}' loses adds up")

    def moved(rule):
        rows = rows_of(10, 400, centre=1)
        before, gossip = rows.mean(0), gossip_of(federation_of("complete", codec=codec, mixer=rule), rows.clone())
        for t in range(20):
            gossip.round(t, rows)
        return float((rows.mean(0) - before).norm())

    assert moved(mixer) > 1000 * moved("linear")


@pytest.mark.parametrize(
    "settings",
    [{"codec": "q2"}, {"codec": "q2", "mixer": "clipped:f=1"}, {"codec": "q2+choco", "mixer": "median"},
     {"codec": "topk+ef21", "mixer": "krum:f=1"}, {"codec": "fp16", "mixer": "median"}],
    ids=str,
)  # fmt: skip
def test_where_little_adds_up_there_is_no_word_of_it(settings):
    assert federation_of("complete", **settings).cautions == ()
    assert federation_of("complete", codec="q2", mixer="median").alone().cautions == ()


def test_a_run_says_what_its_codec_and_mixer_do_together(run):
    few = {"clients": 4, "topology": "complete", "mixer": "median", "progress": False}
    assert [note for note in run(codec="q4", **few).notes if "does not keep the mean" in note]
    assert not [note for note in run(codec="q4", method="fedavg", **few).notes if "does not keep the mean" in note]
