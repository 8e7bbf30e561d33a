"""The scripts and notebooks of examples/, run as a user would, on tiny models and little data."""

import ast
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import declora
from tiny_places import DECODERS, ENCODERS, EXAMPLES, furnish

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with tiny models and texts."""
    return furnish(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def start(places, tmp_path, monkeypatch):
    """Runs a script of examples/ with arguments, two rounds each, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def start(script, *arguments, model=ENCODERS[0]):
        given = ["--model", places / model, "--rounds", "2", *arguments]
        monkeypatch.setattr(sys, "argv", [script, *map(str, given)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")

    return start


def test_the_quick_start_learns_from_the_file_beside_it_whose_hospitals_are_the_clients(start, tmp_path, capsys):
    start("quick_start.py")
    run = tmp_path / "runs" / "quick-start"
    assert {path.name for path in (run / "adapters").iterdir()} >= {"average", *(f"client-000{i}" for i in range(3))}
    assert json.loads((run / "config.json").read_text())["partition"] == "column:hospital"
    assert f"{Path('runs/quick-start')}/report.html" in capsys.readouterr().out


def test_methods_are_compared_in_one_table(start, places, capsys):
    start("compare_methods.py", "--data", places / "texts.csv", "--clients", 4)
    shown = capsys.readouterr().out
    assert all(f"\n{label} " in f"\n{shown}" for label in ("dec-lora", "local", "fedavg", "centralized"))
    assert "runs/compare-methods/report.html" in shown


def test_a_decoder_is_trained_on_prompts_and_asked_through_peft_alone(start, capsys):
    start("causal_lm.py", model=DECODERS[0])
    table, answer = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert "average_exact_match" in table
    assert answer.startswith("[CLS]")


def test_each_rule_against_liars_has_a_row(start, places, capsys):
    start("robust.py", "--data", places / "texts.csv", "--clients", 5, "--liars", 1)
    shown = capsys.readouterr().out
    assert all(label in shown for label in ("all honest", "linear", "clipped", "trimmed mean", "median"))


def test_what_is_spent_is_said_and_no_more_than_was_allowed(start, places, capsys):
    pytest.importorskip("dp_accounting")
    start("private.py", "--data", places / "texts.csv", "--clients", 4)
    spent = [float(line.split("spent ")[1].split()[0]) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert 7 < spent[0] <= 8
    assert 1.7 < spent[1] <= 2


def test_a_codec_of_ones_own_keeps_its_word_and_stands_in_the_table(start, places, capsys):
    start("own_codec.py", "--data", places / "texts.csv")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("q8 ", "own "))]
    # One scale for all numbers in the place of one for each block: a few bytes less.
    (q8, own) = [float(row[row.index("kB") - 1]) for row in rows]
    assert 0.95 * q8 < own < q8


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_a_script_is_short_and_says_how_it_is_run(script):
    text = script.read_text(encoding="utf-8")
    assert 20 <= len(text.splitlines()) <= 50
    assert ast.get_docstring(ast.parse(text))


def cells(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs_in_the_format_of_jupyter(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        code = {"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {}
        assert cell == {name: cell[name] for name in ("cell_type", "id", "metadata", "source")} | code
    assert cells(notebook, "markdown")[0].startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_from_its_first_cell_to_its_last(path, places, tmp_path, monkeypatch):
    """As Jupyter would: all cells in one namespace, the last expression of each is a value that can be shown."""
    monkeypatch.chdir(tmp_path)
    simulate = declora.simulate
    small = {"model": str(places / ENCODERS[0]), "data": str(places / "texts.csv"), "clients": 4, "rounds": 5}
    monkeypatch.setattr(declora, "simulate", lambda **settings: simulate(**{**settings, **small}))
    names, shown = {"__name__": "__main__"}, []
    for number, code in enumerate(cells(json.loads(path.read_text(encoding="utf-8")), "code")):
        tree = ast.parse(code)
        last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{path.name}, cell {number}", "exec"), names)
        if last is not None:
            shown.append(eval(compile(last, f"{path.name}, cell {number}", "eval"), names))
    assert all(repr(value) for value in shown)
    if path.name == "first_steps.ipynb":
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(shown[-1])
    else:
        assert True in [value for value in shown if isinstance(value, bool | np.bool_)], "bytes are not as reckoned"
