"""Runs can be run again from anywhere: what a folder remembers of their settings, and what it asks for."""

import json
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import declora
from declora import cli
from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.run import Run
from tiny import tiny_bert, tiny_texts


@pytest.fixture
def here(tmp_path, monkeypatch, tokenizer):
    """A working directory with data, a model and a tokenizer in it; what is drawn there is empty, which is quick."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, *, format, **_: file.write(EMPTY[format]))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    tiny_texts(40).to_csv("rows.csv", index=False)
    tiny_bert(width=16).save_pretrained("base")
    tokenizer.save_pretrained("words")
    return folder


EMPTY = {"png": b"picture", "svg": '<svg viewBox="0 0 1 1"></svg>'}
TINY = {
    "data": "rows.csv", "model": "base", "tokenizer": "words", "clients": 2, "rounds": 2, "local_steps": 1,
    "batch_size": 2, "client_eval_samples": 0, "lora": {"r": 2, "target_modules": ["query"]}, "progress": False,
}  # fmt: skip


def test_paths_that_lead_somewhere_are_remembered_so_that_they_do_from_anywhere(here):
    (here / "speeds.csv").write_text("client,step,latency,bandwidth\n0,1,1,1\n")
    stored = SimulationConfig(
        **{**TINY, "clients": 1},
        eval_data="sst2=rows.csv",
        public_data=["rows.csv", {"train": Path("later.csv")}],
        clock="trace:speeds.csv,wait=2",
        compare={"a": {"data": "rows.csv", "codec": "q8"}},
        overwrite=True,
    ).describe()
    assert (stored["data"], stored["model"], stored["tokenizer"]) == tuple(
        str(here / name) for name in ("rows.csv", "base", "words")
    )
    assert stored["eval_data"] == f"sst2={here / 'rows.csv'}"
    assert stored["public_data"] == [str(here / "rows.csv"), {"train": str(here / "later.csv")}]
    assert stored["clock"] == f"trace:{here / 'speeds.csv'},wait=2"
    assert stored["compare"] == {"a": {"data": str(here / "rows.csv"), "codec": "q8"}}
    assert "overwrite" not in stored, "it was said of a run that was there then"


@pytest.mark.parametrize(("setting", "name"), [("data", "sst2"), ("data", "org/set"), ("model", "org/model")])
def test_names_stay_names(here, setting, name):
    assert SimulationConfig(**{setting: name}).describe()[setting] == name


def test_the_config_of_a_run_gives_that_run_again_in_another_working_directory(here, monkeypatch):
    first = declora.simulate(**TINY, out="run", overwrite=True)
    monkeypatch.chdir("/")
    again = declora.simulate(here / "run" / "config.json", out=here / "again")
    assert torch.equal(first.client(1).row, again.client(1).row)
    with pytest.raises(declora.RunFolderError, match="holds a run"):
        declora.simulate(here / "run" / "config.json", out=here / "run")


def test_a_config_with_an_object_says_what_to_pass_and_takes_it(here, capsys):
    table = tiny_texts(40)
    first = declora.simulate(**{**TINY, "data": table}, out="run")
    said = (
        r"^data='<Dataset>' is an object, which 'run/config.json' can only describe\..*"
        r" declora\.simulate\('run/config.json', data=\.\.\.\)\.$"
    )
    with pytest.raises(ConfigError, match=said):
        declora.simulate("run/config.json")
    assert cli.main(["simulate", "--config", "run/config.json"]) == 1
    assert "Pass the same one" in capsys.readouterr().err
    again = declora.simulate("run/config.json", data=table, out="again")
    assert torch.equal(first.average.row, again.average.row)


def test_a_comparison_that_stops_keeps_the_runs_that_had_finished_and_goes_on(here, monkeypatch):
    settings = {**TINY, "compare": ["dec-lora", "local", "centralized"]}
    whole = declora.simulate(**settings)
    trained, train = [], Run._round

    def stops(run, event, before):
        trained.append(run.config.method)
        if len(trained) == 4:
            raise KeyboardInterrupt
        return train(run, event, before)

    monkeypatch.setattr(Run, "_round", stops)
    with pytest.raises(KeyboardInterrupt):
        declora.simulate(**settings, out="three")
    monkeypatch.chdir("/")
    resumed = declora.resume(here / "three", progress=False)
    assert trained == ["dec-lora"] * 2 + ["local"] * 2 + ["local"] * 2 + ["centralized"] * 2
    for label in settings["compare"]:
        assert torch.equal(resumed[label].average.row, whole[label].average.row)
    assert json.loads((here / "three" / "dec-lora" / "config.json").read_text())["method"] == "dec-lora"
    assert (here / "three" / "report.html").exists()
