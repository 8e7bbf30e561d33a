"""simulate and its folder: what a run leaves, what is refused before it trains, and that no disk loses a result."""

import errno
import json
import re
import shutil
from html.parser import HTMLParser

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

import declora
from declora import cli, outputs, simulation
from declora.errors import ConfigError, DecloraError, RunFolderError, TrainingError
from declora.report import RunFolder, read_metrics
from declora.run import Run
from tiny import tiny_bert, tiny_texts


@pytest.fixture
def simulate(tokenizer, texts):
    """Returns `simulate` with tiny defaults."""

    def run(**settings):
        defaults = {
            "model": tiny_bert(width=16), "tokenizer": tokenizer, "data": texts, "clients": 3, "rounds": 2,
            "local_steps": 1, "batch_size": 4, "lora": {"r": 2, "target_modules": ["query"]}, "eval_every": 2,
            "client_eval_samples": 8, "progress": False,
        }  # fmt: skip
        return declora.simulate(**{**defaults, **settings})

    return run


@pytest.fixture
def trained(monkeypatch):
    """Counts the rounds that are trained."""
    rounds = []
    train = Run._round
    monkeypatch.setattr(Run, "_round", lambda run, t, before: rounds.append(t) or train(run, t, before))
    return rounds


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


class Text(HTMLParser):
    """The words of a page, tag by tag."""

    def __init__(self, page):
        super().__init__()
        self.words = []
        self.feed(page)

    def handle_data(self, data):
        self.words.append(data.strip())


# What a run leaves


def test_a_run_folder_holds_config_metrics_adapters_tables_plots_and_report(simulate, tmp_path, pictures):
    out = tmp_path / "run"
    result = simulate(out=str(out), tensorboard=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert lines[0]["clients"][2]["client"] == 2
    assert json.loads((out / "config.json").read_text())["clients"] == 3
    assert {"average", "client-0000", "client-0002"} <= {p.name for p in (out / "adapters").iterdir()}
    assert (out / "plots.png").stat().st_size > 10_000
    page = (out / "report.html").read_text()
    assert 'src="http' not in page
    assert "consensus" in page.lower()
    assert any((out / "tensorboard").iterdir())
    clients = pd.read_csv(out / "clients.csv")
    assert clients["bytes_sent"].sum() == result.history["bytes_total"].iloc[-1]
    counts = pd.read_csv(out / "samples-by-client-and-label.csv")
    assert counts["total"].tolist() == [len(shard) for shard in result.federation.shards]
    RunFolder.check(out, overwrite=True)  # all of it is listed


def test_a_run_that_replaces_another_gives_the_same_adapters(simulate, tmp_path):
    out = tmp_path / "run"
    first = simulate(out=str(out))
    before = snapshot(out)
    with pytest.raises(RunFolderError, match="overwrite"):
        simulate(out=str(out))
    assert snapshot(out) == before
    again = simulate(out=str(out), overwrite=True)
    assert torch.equal(again.average.row, first.average.row)
    assert snapshot(out).keys() == before.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


NAMES = (
    "client", "index", "level_0", "total", "round", "bytes_total", "seconds", "average_accuracy_best", "_hidden",
    "<script>alert(1)</script>", "a|b *c* `d` [e](f)", "one\ntwo", "$x_1$", "x" * 100_000,
)  # fmt: skip


def test_classes_may_have_any_name(simulate, tmp_path, pictures):
    """Names of columns, of HTML and Markdown and TeX, of more lines, of great length."""
    rows = tiny_texts(10 * len(NAMES), len(NAMES))
    named = datasets.Dataset.from_dict({"text": rows["text"][:], "label": [NAMES[c] for c in rows["label"]]})
    out = tmp_path / "run"
    data, model = datasets.DatasetDict(train=named, validation=named), tiny_bert(len(NAMES), width=16)
    result = simulate(data=data, model=model, out=str(out), clients=2)
    classes = list(result.partition.counts.columns[:-1])
    # White space of another kind makes no other class, and `total` is the column of a client's rows.
    read = {"one\ntwo": "one two", "total": "'total'"}
    assert sorted(classes) == sorted(read.get(name, name) for name in NAMES)
    counts = pd.read_csv(out / "samples-by-client-and-label.csv", header=None)
    assert counts.iloc[0].tolist() == ["client", *classes, "total"]
    assert counts.iloc[1:, 1:-1].astype(int).to_numpy().sum() == 10 * len(NAMES)
    page = (out / "report.html").read_text()
    words = Text(page).words
    assert "<script" not in page
    for name in classes:
        assert len(name) > 100 or name in words, name
    assert f"{'x' * 40}… (100,000 characters)" in words
    assert len(page) < 1_000_000


def test_a_comparisons_page_and_its_table_say_the_same_of_the_codecs(simulate, tmp_path):
    out = tmp_path / "three"
    comparison = simulate(compare=["centralized", "fedavg", "dec-lora", "local"], out=str(out), rounds=1)
    table = comparison.table
    assert table.set_index("method")["codec"].to_dict() == {
        "centralized": "–", "fedavg": "none", "dec-lora": "q4", "local": "–",
    }  # fmt: skip
    page = (out / "report.html").read_text()
    results = page[page.index("<h2>Results") : page.index("<h2>Course")]
    for method, codec in zip(table["method"], table["codec"], strict=True):
        assert re.search(f'<tr><td class="s">{method}</td>(<td class="n.*?</td>)+<td class="s">{codec}</td>', results)
        assert f"| {method:<11} | {codec:<5} |" in (out / "comparison.md").read_text()
    differ = page[page.index("Where the runs differ") : page.index("The same in all")]
    assert '<td class="s">method</td>' in differ
    assert '<td class="s">out</td>' not in differ
    # In the settings, too, stands what ran: three of four have no q4, and one client stands for all three.
    rows = [re.findall(r'<td class="s">(.*?)</td>', row) for row in re.findall(r"<tr><td.*?</tr>", differ)]
    cells = {name: own for name, *own in rows}
    assert cells["codec"] == ["–", "none", "q4", "–"]
    assert cells["topology"] == ["–", "complete", "ring", "–"]
    assert cells["clients"] == ["1", "3", "3", "3"]
    assert cells["batch_size"] == ["12", "4", "4", "4"]
    for method, codec in zip(table["method"], table["codec"], strict=True):
        own = (out / method / "report.html").read_text()
        settings = own[own.index("<h2>Settings") :]
        assert f'<th scope="row">codec</th><td>{codec}</td>' in settings


def test_an_inner_run_can_be_run_again_alone(simulate, tmp_path):
    out = tmp_path / "two"
    first = simulate(compare={"a b": {"method": "local"}, "c": {}}, out=str(out))
    config = json.loads((out / "a_b" / "config.json").read_text())
    assert (config["out"], config["compare"], config["method"]) == (str(out / "a_b"), None, "local")
    before = snapshot(out)
    with pytest.raises(RunFolderError, match=r"a_b' holds a run"):
        simulate(method="local", out=config["out"])
    again = simulate(method="local", out=config["out"], overwrite=True, checkpoint_every=config["checkpoint_every"])
    assert torch.equal(again.average.row, first["a b"].average.row)
    after = snapshot(out)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {name for name in after if name.startswith("a_b")}
    simulate(compare=["local"], out=str(out), overwrite=True)
    assert not (out / "c").exists()


# What is refused, and when


LABELS = [
    (["a b", "a_b"], "labels 'a b' and 'a_b', which would share the folder 'a_b'"),
    (["q4 !", "q4 ?"], "share the folder 'q4_'"),
    (["Ring", "ring"], "share the folder 'ring'"),
    (["caf\u00e9", "cafe\u0301"], "share the folder"),
    (["\U0001f642", "\U0001f643"], "share the folder '_'"),
    (["ok", ""], "label '', which cannot name a folder"),
    (["ok", "."], "label '.', which cannot"),
    (["ok", ".."], "label '..', which cannot"),
    (["config.json", "b"], "label 'config.json', which is a file of its folder"),
    (["Report.HTML", "b"], "label 'Report.HTML', which is a file"),
    (["ok", "declora-run.json"], "which is a file"),
    (["ok", ".declora"], "which is a file"),
    (["ok", "ok.declora-new"], "which is a file"),
    (["ok", "x" * 300], "label of 300 characters"),
]


@pytest.mark.parametrize(("labels", "message"), LABELS, ids=lambda value: str(value)[:30])
def test_labels_that_give_no_folder_are_refused_before_anything_is_loaded(
    simulate, tmp_path, monkeypatch, labels, message
):
    monkeypatch.setattr(simulation, "prepare", lambda config: pytest.fail("loaded"))
    with pytest.raises(ConfigError) as caught:
        simulate(compare={label: {"rounds": 1} for label in labels}, out=str(tmp_path / "run"))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "run").exists()


def test_labels_become_folders_that_cannot_leave_the_comparisons():
    names = outputs.folder_names(["../up", "/etc", "a\\b", "c:d", "topk:fraction=0.1+choco", "x\0y", "é"])
    assert list(names.values()) == [".._up", "_etc", "a_b", "c_d", "topk_fraction=0.1+choco", "x_y", "é"]


@pytest.mark.parametrize("setting", ["out", "overwrite", "compare"])
def test_a_run_of_a_comparison_cannot_set_what_holds_for_all(simulate, setting):
    with pytest.raises(ConfigError, match=rf"compare\['b'\] sets {setting}, which holds for the whole comparison"):
        simulate(compare={"a": {}, "b": {setting: None}})


@pytest.mark.parametrize("compare", [None, ["local", "dec-lora"]])
def test_a_folder_that_cannot_be_had_is_refused_before_anything_is_loaded(simulate, tmp_path, monkeypatch, compare):
    monkeypatch.setattr(simulation, "prepare", lambda config: pytest.fail("loaded"))
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="declora did not write"):
        simulate(compare=compare, out=str(tmp_path), overwrite=True)


def test_a_run_that_finds_its_folder_taken_gives_the_model_back(simulate, tmp_path, trained, monkeypatch):
    model = tiny_bert(width=16)
    monkeypatch.setattr(RunFolder, "check", lambda *_, **__: None)  # the other starts after the check
    live = RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match="in use by another run"):
        simulate(model=model, out=str(tmp_path / "run"))
    live.close()
    assert trained == []
    assert type(model.classifier) is torch.nn.Linear


# What fails on the way


def test_a_run_that_fails_leaves_the_earlier_one_whole(simulate, tmp_path):
    out = tmp_path / "run"
    simulate(out=str(out))
    before = snapshot(out)
    diverging = {"learning_rate": 1e38, "clip_norm": None, "local_steps": 9}
    with pytest.raises(TrainingError):
        simulate(out=str(out), overwrite=True, **diverging)
    assert snapshot(out) == before
    simulate(out=str(out), overwrite=True, rounds=1)
    assert len(read_metrics(out)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def save_nothing(*_, **__):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


FAILURES = [
    ("declora.adapters.folder.save_file", save_nothing, "'adapters/average' cannot be written: .*no space left", ()),
    ("declora.outputs.report.run_report", lambda *_: 1 / 0, "cannot be completed: ZeroDivisionError", ("adapters",)),
    ("declora.result.SimulationResult.plot", full, "cannot be completed: OSError, no space left", ("adapters",)),
    ("declora.report.run_folder.RunFolder.finish", full, "no space left", ("adapters", "report.html")),
]


@pytest.mark.parametrize(("target", "failing", "message", "left"), FAILURES, ids=[target for target, *_ in FAILURES])
@pytest.mark.parametrize("overwrite", [False, True])
def test_whatever_fails_at_the_end_the_result_is_in_the_error(
    simulate, tmp_path, monkeypatch, target, failing, message, left, overwrite
):
    out = tmp_path / "run"
    if overwrite:
        simulate(out=str(out), rounds=1)
    with monkeypatch.context() as patched:
        patched.setattr(target, failing)
        with pytest.raises(RunFolderError, match=message) as caught:
            simulate(out=str(out), overwrite=overwrite)
    assert "\n" not in str(caught.value)
    assert "its result is in the error's `result`" in str(caught.value)
    result = caught.value.result
    assert result.history["round"].tolist() == [1, 2]
    assert torch.equal(result.average.row, simulate().average.row)
    work = tmp_path / "run.declora-new" if overwrite else out
    assert str(work) in str(caught.value)
    assert all((work / name).exists() for name in left)
    if overwrite:
        assert len(read_metrics(out)) == 1


def test_a_comparison_that_cannot_be_written_holds_the_runs_that_finished(simulate, tmp_path, monkeypatch, trained):
    written = []

    def second_fails(summary):
        written.append(summary.title)
        return full() if len(written) == 2 else "page"

    monkeypatch.setattr("declora.outputs.report.run_report", second_fails)
    with pytest.raises(RunFolderError, match="no space left") as caught:
        simulate(compare={"a": {"method": "local"}, "b": {}, "c": {}}, out=str(tmp_path / "run"))
    assert list(caught.value.result.results) == ["a", "b"]
    assert len(trained) == 4, "the third was trained for nothing"


def test_a_comparisons_own_page_that_fails_loses_nothing(simulate, tmp_path, monkeypatch):
    monkeypatch.setattr("declora.outputs.report.comparison_report", full)
    with pytest.raises(RunFolderError, match="no space left") as caught:
        simulate(compare=["local", "dec-lora"], out=str(tmp_path / "run"))
    assert list(caught.value.result.table["method"]) == ["local", "dec-lora"]
    assert (tmp_path / "run" / "local" / "report.html").exists()


@pytest.fixture
def removed(monkeypatch, tmp_path):
    """The folder of the run, which somebody removes in the third round of a run that talks."""
    out, train = tmp_path / "run", Run._round

    def remove(run, t, before):
        if t == 2 and run.config.method != "local":
            shutil.rmtree(out)
        return train(run, t, before)

    monkeypatch.setattr(Run, "_round", remove)
    return out


def test_a_folder_that_is_removed_while_the_run_goes_on_is_whole_at_the_end(simulate, removed):
    with pytest.warns(UserWarning, match="The run goes on"):
        simulate(out=str(removed), rounds=4)
    assert read_metrics(removed)["round"].tolist() == [1, 2, 3, 4]
    assert {"config.json", "adapters", "report.html"} <= {path.name for path in removed.iterdir()}
    RunFolder.check(removed, overwrite=True)


@pytest.mark.filterwarnings("ignore:.*The run goes on")
def test_finished_runs_that_are_removed_while_another_goes_on_are_an_error_that_holds_them(simulate, removed):
    with pytest.raises(RunFolderError, match="removed while the run was going") as caught:
        simulate(out=str(removed), rounds=4, compare=["local", "dec-lora"])
    assert len(caught.value.result.results) == 2


def test_the_command_line_says_in_one_line_what_could_not_be_written(simulate, tmp_path, monkeypatch, capsys, texts):
    result = simulate()
    error = RunFolderError("out='x': 'report.html' cannot be written: no space left.")
    error.result = result

    def fail(config):
        raise error

    monkeypatch.setattr(declora, "simulate", fail)
    assert cli.main(["simulate"]) == 1
    assert capsys.readouterr().err.splitlines() == [f"declora: RunFolderError: {error}"]
    assert isinstance(error, DecloraError)


def test_the_same_seed_gives_the_same_files(simulate, tmp_path):
    for name in ("a", "b"):
        simulate(out=str(tmp_path / name), rounds=1)
    first, second = (snapshot(tmp_path / name / "adapters") for name in ("a", "b"))
    assert first == second
    np.testing.assert_array_equal(
        *(read_metrics(tmp_path / name)["train_loss"].to_numpy() for name in ("a", "b")), strict=True
    )
