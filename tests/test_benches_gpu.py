"""The bench of a card: it runs, tiny and on a CPU, and its table says what was measured."""

from pathlib import Path

import pytest

from conftest import DEVICE

BENCHES = Path(__file__).resolve().parents[1] / "benches"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHES))
    import gpu

    return gpu


def test_every_kind_of_part_is_measured_beside_peft_and_has_a_page(bench, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("declora.model.compilation.BACKEND", "eager")
    parts = "bert-tf32,llama-1b,llama-7b-recomputed"
    assert bench.main(["--device", "cpu", "--smoke", "--turns", "1", "--only", parts, "--out", str(tmp_path)]) == 0
    (page,) = tmp_path.iterdir()
    lines = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    assert lines[0] == list(bench.COLUMNS)
    rows = [dict(zip(bench.COLUMNS, line, strict=True)) for line in lines[1:]]
    assert [row["by"].split(",")[0] for row in rows] == ["PEFT", "declora", "PEFT", *["declora"] * 3]
    compiled = [row["by"].endswith(", compiled") for row in rows]
    assert compiled == [row["times as written"] != "-" for row in rows] == [False] * 4 + [True, False]
    shown = capsys.readouterr().out
    assert all(shown.index(f"| {' | '.join(line)} |") < shown.index("# Speed on a card") for line in lines)
    assert all(float(row["sequences/s"]) > 0 for row in rows)
    # The same work, but for the order of sums: of losses of about 1, and of ln 300, of which bfloat16 keeps 8 bits.
    assert float(rows[1]["loss off by"]) < 1e-5
    assert float(rows[3]["loss off by"]) < 0.03
    assert rows[4]["loss off by"] == rows[3]["loss off by"]
    assert float(rows[4]["times as written"]) > 0
    assert rows[3]["goals"].startswith("tokens/s >= 70,000: missed; gossip, % <= 3: ")


@pytest.mark.gpu
def test_every_part_is_measured_on_a_card(bench, capsys):
    assert bench.main(["--device", DEVICE, "--smoke", "--turns", "1"]) == 0
    shown = capsys.readouterr().out
    assert all(f"| {part.title} |" in shown or part.four_bits for part in bench.PARTS.values())


def test_a_part_that_fails_is_said_and_the_others_are_measured(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure", lambda part, timing: iter([("a row",)]) if part.tf32 else [][0])
    assert bench.main(["--device", "cpu", "--smoke", "--only", "bert,bert-tf32"]) == 1
    shown = capsys.readouterr().out
    assert "bert: failed: IndexError" in shown
    assert shown.endswith("| a row |\n")


def test_goals_are_met_at_their_value(bench):
    figures = {"tokens/s": 5.0, "peak, GiB": 5.0, "gossip, %": None}
    assert bench.Goal("tokens/s", 5).of(figures) == "tokens/s >= 5: met"
    assert bench.Goal("tokens/s", 6).of(figures) == "tokens/s >= 6: missed"
    assert bench.Goal("peak, GiB", 5, most=True).of(figures) == "peak, GiB <= 5: met"
    assert bench.Goal("peak, GiB", 4, most=True).of(figures) == "peak, GiB <= 4: missed"
    assert bench.Goal("gossip, %", 3, most=True).of(figures) == "gossip, % <= 3: not measured"
