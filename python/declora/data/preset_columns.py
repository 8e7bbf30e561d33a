"""Finds a preset's columns in the data at hand: which of its names are there, and texts made from templates."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from string import Formatter

import datasets
import pyarrow as pa

from declora.data.columns import Columns, check_texts, choose_columns
from declora.data.parts import Part
from declora.data.presets import Preset
from declora.errors import ConfigError, DataError

__all__ = ["preset_columns", "render_templates"]


def preset_columns(
    preset: Preset,
    part: Part,
    *,
    task: str | None,
    text_columns: str | Sequence[str] | None,
    label_column: str | None,
    completion_column: str | None = None,
    prompt_template: str | None = None,
) -> Columns:
    """Returns which columns of `part` hold the preset's texts and label; the user's own names come first.

    Raises:
        ConfigError: The user's task is another one than the preset's, or a column is named twice.
        DataError: The preset's columns are not there; the message lists those found.
    """
    if task not in (None, preset.task):
        raise ConfigError(f"task={task!r} does not fit data={preset.name!r}, which is {preset.task}. Leave it out.")
    texts = text_columns
    if texts is None:
        found = _first(preset, part, preset.texts, "text_columns")
        # Text to continue goes by its usual names, which also say what is the prompt.
        texts = found if preset.task == "classification" else None
    if label_column is None and preset.labels:
        label_column = _first(preset, part, [(name,) for name in preset.labels], "label_column")[0]
    return choose_columns(
        part,
        task=preset.task,
        text_columns=texts,
        label_column=label_column,
        completion_column=completion_column,
        prompt_template=prompt_template,
    )


def render_templates(preset: Preset, part: Part) -> Part:
    """Returns `part` with the text columns that the preset makes from others.

    Raises:
        DataError: A column that a template needs is missing, or has a row without a text.
    """
    if not preset.templates:
        return part
    needed = [name for text in preset.templates.values() for _, name, _, _ in Formatter().parse(text) if name]
    check_texts(part, Columns(preset.task, tuple(needed), None))
    table = part.dataset.with_format("arrow")[:].drop_columns(
        [name for name in preset.templates if name in part.dataset.column_names]
    )
    features = {name: part.dataset.features[name] for name in table.column_names}
    rows = table.select(needed).to_pylist()
    for name, template in preset.templates.items():
        table = table.append_column(name, pa.array([template.format_map(row) for row in rows]))
        features[name] = datasets.Value("string")
    info = datasets.DatasetInfo(features=datasets.Features(features))
    return replace(part, dataset=datasets.Dataset(table.replace_schema_metadata(None), info=info))


def _first(preset: Preset, part: Part, known: Iterable[tuple[str, ...]], setting: str) -> tuple[str, ...]:
    """Returns the first of the `known` names of which `part` has all."""
    names = part.dataset.column_names
    for columns in known:
        if all(column in names for column in columns):
            return columns
    wanted = " or ".join(" and ".join(columns) for columns in known)
    raise DataError(
        f"{part.where} is read as {preset.name!r}, which has {wanted}, but the columns found are {names}. Name them "
        f"with {setting}, or leave out '{preset.name}='."
    )
