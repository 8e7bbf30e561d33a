"""Turns whatever the user gave into named parts, without looking at columns yet."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from declora.data.client_files import ClientFiles
from declora.data.display import listed
from declora.data.files import format_of, read_file
from declora.data.folders import read_folder
from declora.data.loaded import holds_conversations, holds_rows, is_table, read_dataset, read_rows, read_table
from declora.data.names import EVALUATION_SPLITS
from declora.data.parts import Part
from declora.data.presets import PRESETS, Preset, split_name
from declora.data.stdlib_docstrings import load_stdlib_docstrings
from declora.errors import DataError, cut, shown

__all__ = ["STDLIB_DOCSTRINGS", "Source", "find", "find_evaluation"]

STDLIB_DOCSTRINGS = "stdlib-docstrings"

_HUB_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?(:[\w.-]{1,96})?")


@dataclass(frozen=True)
class Source:
    """Holds what the user gave, found and read.

    Attributes:
        name: A short name for reports.
        train: The training parts; several only where `per_client`, one for each client, in order.
        evaluation: The evaluation parts; empty where the source has none.
        per_client: Whether the user gave one data set per client.
        preset: The task that the user named, if any.
    """

    name: str
    train: tuple[Part, ...]
    evaluation: tuple[Part, ...]
    per_client: bool = False
    preset: Preset | None = None
    first: int | None = None
    """The number of the first client, where the parts are clients' files; None: they are not."""


def find(data: Any, field: str = "data") -> Source:
    """Finds and reads `data`; see `declora.data.load` for what it may be.

    Raises:
        DataError: It does not exist, cannot be read, or is nothing that declora knows as data.
    """
    if isinstance(data, ClientFiles):
        clients = range(data.first, data.first + len(data.places))
        return replace(_per_client([_of_client(data, client, field) for client in clients], field), first=data.first)
    if isinstance(data, datasets.Dataset):
        return Source(str(data.info.dataset_name or "dataset"), (read_dataset(field, data),), ())
    if is_table(data):
        return Source("table", (read_table(field, data),), ())
    if isinstance(data, Mapping):
        return _from_splits("dataset", {str(k): _split(f"{field}[{shown(k)}]", v) for k, v in data.items()})
    if isinstance(data, os.PathLike):
        return _from_name(Path(data), field)
    if isinstance(data, str):
        preset, name = split_name(data, field)
        return replace(_from_name(name, field, preset.evaluation if preset else None), preset=preset)
    if isinstance(data, Sequence) and not isinstance(data, bytes):
        if holds_conversations(data):
            data = [{"messages": messages} for messages in data]
        if holds_rows(data):
            return Source("rows", (read_rows(field, data),), ())
        return _per_client([find(item, f"{field}[{i}]") for i, item in enumerate(data)], field)
    raise DataError(
        f"{field} is a {type(data).__name__}. Give a path, a hub name, a task ({', '.join(PRESETS)}), a "
        "datasets.Dataset (not streamed), a DatasetDict, a pandas.DataFrame, a list of row dicts, a list with one of "
        f"these per client, or {STDLIB_DOCSTRINGS!r}."
    )


def find_evaluation(data: Any) -> tuple[Part, ...]:
    """Finds what `eval_data` names: its evaluation split where it has several splits, else all of it."""
    source = find(data, "eval_data")
    return source.evaluation or source.train


def _of_client(files: ClientFiles, client: int, field: str) -> Source:
    """Reads a client's file or folder; it is never a name of the hub."""
    try:
        preset, path = split_name(files.place(client), field)
        source = _from_name(Path(path), field)
    except DataError as error:
        raise DataError(f"{files.who(client)}: {error}") from error
    train, evaluation = (
        tuple(replace(part, where=f"{part.where} of {files.who(client)}") for part in parts)
        for parts in (source.train, source.evaluation)
    )
    return replace(source, train=train, evaluation=evaluation, preset=preset)


def _per_client(sources: list[Source], field: str) -> Source:
    if not sources:
        raise DataError(f"{field} is an empty list. Give one data set per client.")
    if nested := next((source for source in sources if source.per_client), None):
        raise DataError(f"{field} has a list ({nested.name}) within the list. Give one data set per client.")
    without = [i for i, source in enumerate(sources) if not source.evaluation]
    if 0 < len(without) < len(sources):
        raise DataError(
            f"{field}[{without[0]}] has no evaluation split but others have. Give every client one, or pass eval_data."
        )
    presets = {source.preset.name if source.preset else "no preset": source.preset for source in sources}
    if len(presets) > 1:
        raise DataError(f"{field} mixes tasks: {', '.join(presets)}. Give every client's data the same one.")
    evaluation = tuple(part for source in sources for part in source.evaluation)
    train = tuple(part for source in sources for part in source.train)
    return Source(f"{len(sources)} data sets", train, evaluation, per_client=True, preset=sources[0].preset)


def _from_name(name: str | Path, field: str, evaluation: str | None = None) -> Source:
    """Reads what `name` names; `evaluation` is the split to evaluate on, if it is there."""
    if name == STDLIB_DOCSTRINGS:
        return _from_splits(STDLIB_DOCSTRINGS, load_stdlib_docstrings())
    if not str(name).strip() or "\0" in str(name):
        raise DataError(f"{field}={shown(name)} names no data. Give a path, a hub name, or {STDLIB_DOCSTRINGS!r}.")
    try:
        path = Path(name).expanduser()
        is_folder, exists = path.is_dir(), path.exists() or path.is_symlink()
    except (OSError, RuntimeError) as error:  # a name that no file can have, a folder that is not ours to enter
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{field}={shown(str(name))} is no path that can be read: {cut(reason)}.") from error
    if is_folder:
        return _from_splits(path.name or path.resolve().name, read_folder(path), evaluation)
    if exists or isinstance(name, Path) or format_of(path):
        return Source(cut(path.name, 60), (read_file(path),), ())
    if not _HUB_NAME.fullmatch(name):
        raise DataError(
            f"{field}={shown(name)} is no file, folder, hub name or task. Check the path (working directory: "
            f"{Path.cwd()}); rows of your own go into a list of {{'text': ..., 'label': ...}}."
        )
    return _from_hub(name, field, evaluation)


def _from_hub(name: str, field: str, evaluation: str | None) -> Source:
    repository, _, config = name.partition(":")
    near = difflib.get_close_matches(name, [STDLIB_DOCSTRINGS, *PRESETS], n=1, cutoff=0.8)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    task = next((preset.name for preset in PRESETS.values() if preset.hub == name), None)
    path = f"{field}='{task}=PATH' with your own files" if task else "the path of a file"
    try:
        loaded = datasets.load_dataset(repository, config or None)
    except ConnectionError as error:
        raise DataError(
            f"{field}={name!r} is neither a file nor a folder here, and the Hugging Face hub cannot be reached "
            f"({cut(error)}).{hint} Offline: pass {path}, or {field}={STDLIB_DOCSTRINGS!r}, which needs no download."
        ) from error
    except Exception as error:  # the hub client and each data set's own builder raise whatever they like
        raise DataError(
            f"{field}={name!r} is neither a file nor a folder here, and loading it from the Hugging Face hub "
            f"failed ({type(error).__name__}: {cut(error)}).{hint} Hub names are 'name' or 'name:config', such as "
            "'glue:sst2'."
        ) from error
    return _from_splits(name, {str(k): _split(f"{name} ({k})", v) for k, v in loaded.items()}, evaluation)


def _from_splits(name: str, splits: Mapping[str, Part | datasets.Dataset], preferred: str | None = None) -> Source:
    parts = {k: v if isinstance(v, Part) else Part(f"{name} ({k})", v) for k, v in splits.items()}
    if len(parts) == 1:
        ((split, part),) = parts.items()
        note = f"Of {name} the split {shown(split)} is read, the only one that it has."
        return Source(name, (part if split == "train" else part.noted(note),), ())
    if "train" not in parts:
        raise DataError(
            f"{name} has the splits {listed(sorted(parts))} but no 'train'. Name the training split 'train'."
        )
    known = (split for start in EVALUATION_SPLITS for split in sorted(parts) if split.startswith(start))
    chosen = preferred if preferred in parts else next(known, None)
    if chosen is None:
        return Source(name, (parts["train"],), ())
    note = f"The rows to evaluate on are the split {shown(chosen)} of {name}."
    return Source(name, (parts["train"],), (parts[chosen].noted(note),))


def _split(where: str, split: Any) -> Part:
    """Returns one split of a mapping, which is a data set, a table, a list of row dicts or the path of a file."""
    if isinstance(split, datasets.Dataset):
        return read_dataset(where, split)
    if is_table(split):
        return read_table(where, split)
    if isinstance(split, str | os.PathLike):
        return read_file(Path(split).expanduser())
    if isinstance(split, list) and holds_rows(split):
        return read_rows(where, split)
    raise DataError(
        f"{where} is a {type(split).__name__}. Give a datasets.Dataset (not streamed), a pandas.DataFrame, a list of "
        "row dicts or a path by split; columns go into datasets.Dataset.from_dict(...)."
    )
