"""The example of docs/faults.md, run as it is printed, with a tiny model and little data."""

import re
from pathlib import Path

import declora

PAGE = (Path(__file__).parents[1] / "docs" / "faults.md").read_text()


def test_the_example_runs_and_shows_what_went_wrong(tiny_run, monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    monkeypatch.setattr(declora, "simulate", lambda **settings: tiny_run(**settings, rounds=9))
    exec(compile(code, "faults.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["round", "clients_away", "messages_lost", "simulated_seconds", "bytes_total"]
    assert len(shown) == 10


def test_the_page_names_every_fault_and_clock():
    for name in [*declora.faults.FAULTS, *declora.clock.CLOCKS]:
        assert f"`{name}" in PAGE
