"""Reads public texts: what all clients have beside their own data, and nobody has labels of."""

from typing import Any

import datasets

from declora.data import sources
from declora.data.chats import messages_of
from declora.data.columns import Columns, check_texts
from declora.data.display import listed
from declora.data.parts import Part
from declora.data.preset_columns import render_templates
from declora.data.text_data import TextData
from declora.errors import DataError, shown
from declora.seeds import generator

__all__ = ["load_public"]


def load_public(data: Any, text: TextData, *, samples: int | None, seed: int) -> Part:
    """Loads public texts; other columns than those of texts and completions, labels among them, are not read.

    Args:
        data: As `declora.data.load` takes it; of several splits those to train on.
        text: The data of the run, whose text columns it has to have.
        samples: How many rows are drawn, the same for all clients; None: all.
        seed: Of the draw.

    Raises:
        DataError: It is missing or damaged, lacks a text column, or a text is empty.
    """
    source = sources.find(data, "public_data")
    columns = Columns(text.task, text.text_columns, None, text.completion_column, text.chat)
    rows: dict[str, list[Any]] = {name: [] for name in columns.read}
    for part in source.train:
        if source.preset is not None and not rows.keys() <= set(part.dataset.column_names):
            part = render_templates(source.preset, part)
        found = part.dataset.column_names
        if missing := next((name for name in rows if name not in found), None):
            raise DataError(
                f"{part.where} has no column {shown(missing)}, which the training data is read from. Columns found: "
                f"{listed(found)}. Rename the columns of texts in public_data."
            )
        check_texts(part, columns)
        for name, texts in rows.items():
            texts += map(messages_of, part.dataset[name][:]) if text.chat else part.dataset[name][:]
    notes = tuple(note for part in source.train for note in part.notes)
    dataset = datasets.Dataset.from_dict(rows)
    if samples is not None and samples < dataset.num_rows:
        notes += (f"The public texts are {samples:,} of {dataset.num_rows:,} of public_data, drawn with seed={seed}.",)
        dataset = dataset.select(sorted(generator(seed, "public").permutation(dataset.num_rows)[:samples]))
    return Part("public_data", dataset, notes)
