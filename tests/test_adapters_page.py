"""The examples of docs/adapters.md, run as they are printed, with a tiny model and little data."""

import re
from pathlib import Path

import transformers

import declora
from tiny import tiny_bert, tiny_texts, tiny_tokenizer

PAGE = (Path(__file__).parents[1] / "docs" / "adapters.md").read_text(encoding="utf-8")


def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_bert().bert.save_pretrained("base")
    tiny_tokenizer().save_pretrained("base")
    simulate = declora.simulate
    small = {
        "model": "base", "data": tiny_texts(48, 4), "clients": 2, "rounds": 1, "local_steps": 1, "batch_size": 4,
        "lora": {"r": 2, "target_modules": ["query"]}, "client_eval_samples": 0, "progress": False,
    }  # fmt: skip
    monkeypatch.setattr(declora, "simulate", lambda **settings: simulate(**{**settings, **small}))
    monkeypatch.setattr("declora.simulation.write_run", lambda *_: None)  # of which nothing is read here
    uploaded = []
    monkeypatch.setattr("declora.adapters.adapter.upload", lambda *given, **_: uploaded.append(given[-1]))
    names: dict[str, object] = {}
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)):
        exec(compile(code, f"adapters.md: {number}", "exec"), names)
    whole = transformers.AutoModelForSequenceClassification.from_pretrained("whole")
    assert whole.config.id2label == {0: "0", 1: "1", 2: "2", 3: "3"} == names["model"].config.id2label
    assert uploaded == ["organization/name"]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-2:]] == ["dec-lora", "local"]


def test_the_files_of_the_page_are_those_of_a_folder(tiny_run, tmp_path):
    tiny_run(rounds=1).average.save_pretrained(tmp_path)
    table = PAGE.split("|---|---|\n")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    assert {path.name for path in tmp_path.iterdir()} == named
