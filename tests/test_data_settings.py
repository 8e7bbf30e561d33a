"""Data in the settings of a run: texts in memory do not go into what is written of them."""

import json
from typing import Any

import datasets
import pandas as pd
import pytest

from declora.config import SimulationConfig

ROWS = [{"text": "secret", "label": 1}, {"text": "secret", "label": 0}]
CHAT = [{"role": "user", "content": "secret"}, {"role": "assistant", "content": "secret"}]


@pytest.mark.parametrize(
    ("data", "described"),
    [
        ("a.csv", "a.csv"),
        (["a.csv", "b.csv"], ["a.csv", "b.csv"]),
        ({"train": "a.csv", "test": "b.csv"}, {"train": "a.csv", "test": "b.csv"}),
        ([{"train": "a.csv", "test": "b.csv"}], [{"train": "a.csv", "test": "b.csv"}]),
        (ROWS, "<2 rows>"),
        ([ROWS, ROWS], ["<2 rows>", "<2 rows>"]),
        ({"train": ROWS}, {"train": "<2 rows>"}),
        ([CHAT, CHAT, CHAT], ["<2 rows>", "<2 rows>", "<2 rows>"]),
        (pd.DataFrame(ROWS), "<DataFrame>"),
        (datasets.Dataset.from_list(ROWS), "<Dataset>"),
    ],
)
def test_paths_are_written_as_they_are_and_rows_by_their_number(data: Any, described: Any) -> None:
    config = SimulationConfig(data=data, eval_data=data).describe()
    assert (config["data"], config["eval_data"]) == (described, described)
    assert "secret" not in json.dumps(config)
