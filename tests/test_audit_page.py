"""The examples and commands of docs/audit.md, run as they are printed, with a tiny model and little data."""

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

import declora
from declora import cli
from resumable import OBJECTS

PAGE = (Path(__file__).parents[1] / "docs" / "audit.md").read_text()


def test_the_examples_and_the_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kept, lazy = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    simulate, audit = declora.simulate, declora.audit
    small = {**OBJECTS, "rounds": 3, "local_steps": 1, "batch_size": 4, "progress": False, "eval_every": 9}
    small |= {"lora": {"r": 2, "target_modules": ["query"]}, "client_eval_samples": 0, "max_length": 16}
    few = {"clients": 3}  # whose report and whose recomputing cost the most of this test
    monkeypatch.setattr(declora, "simulate", lambda **settings: simulate(**{**settings, **small, **few}))
    exec(compile(kept, "audit.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.startswith("kept: 3 rounds, signed by 3 clients, head blake2b:")
    few.clear()
    exec(compile(lazy, "audit.md", "exec"), {"declora": declora})
    suspected = [line.split() for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert len(suspected) == 10
    monkeypatch.setattr(declora, "audit", lambda *run, **options: audit(*run, **options, **objects))
    (block,) = re.findall(r"^```console\n(.*?)^```", PAGE, re.S | re.M)
    for command in map(shlex.split, block.splitlines()):
        objects = OBJECTS if "--replay" in command else {}
        assert cli.main(command[1:]) == 0
    assert "dec-lora: 3 rounds are as recomputed." in capsys.readouterr().out
