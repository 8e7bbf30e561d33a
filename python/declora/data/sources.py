"""Where data comes from: turns whatever the user gave into named parts, without looking at columns yet."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from declora.data.files import FORMATS, format_of, read_file
from declora.data.presets import PRESETS, Preset, split_name
from declora.data.stdlib_docstrings import load_stdlib_docstrings
from declora.errors import DataError

__all__ = ["STDLIB_DOCSTRINGS", "Part", "Source", "find", "find_evaluation"]

STDLIB_DOCSTRINGS = "stdlib-docstrings"

_EVALUATION_SPLITS = ("validation", "valid", "val", "dev", "eval", "evaluation", "test")
_SPLIT_FILE = re.compile(rf"(train|{'|'.join(_EVALUATION_SPLITS)})(-\d+-of-\d+)?\.({'|'.join(FORMATS)})(\.gz)?", re.I)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")


@dataclass(frozen=True)
class Part:
    """One data set and what to call it in an error message."""

    where: str
    dataset: datasets.Dataset


@dataclass(frozen=True)
class Source:
    """What the user gave, found and read.

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


def find(data: Any, field: str = "data") -> Source:
    """Finds and reads `data`; see `declora.data.load` for what it may be.

    Raises:
        DataError: It does not exist, cannot be read, or is nothing that declora knows as data.
    """
    if isinstance(data, datasets.Dataset):
        return Source(str(data.info.dataset_name or "dataset"), (_part(field, data),), ())
    if isinstance(data, Mapping):
        return _from_splits("dataset", {str(k): _split(f"{field}[{k!r}]", v) for k, v in data.items()})
    if isinstance(data, Path):
        return _from_name(data, field)
    if isinstance(data, str):
        preset, name = split_name(data, field)
        return replace(_from_name(name, field, preset.evaluation if preset else None), preset=preset)
    if isinstance(data, Sequence) and not isinstance(data, bytes):
        return _per_client([find(item, f"{field}[{i}]") for i, item in enumerate(data)], field)
    raise DataError(
        f"{field} is a {type(data).__name__}. Give a path, a hub name, a task ({', '.join(PRESETS)}), a "
        "datasets.Dataset (not streamed), a DatasetDict, a list with one of these per client, or "
        f"{STDLIB_DOCSTRINGS!r}."
    )


def find_evaluation(data: Any) -> tuple[Part, ...]:
    """Finds what `eval_data` names: its evaluation split where it has several splits, else all of it."""
    source = find(data, "eval_data")
    return source.evaluation or source.train


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
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_folder(path, evaluation)
    if path.exists() or isinstance(name, Path) or format_of(path) or not _HUB_NAME.fullmatch(name):
        return Source(path.name, (_part(str(path), read_file(path)),), ())
    return _from_hub(name, field, evaluation)


def _from_folder(folder: Path, evaluation: str | None) -> Source:
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        try:
            saved = datasets.load_from_disk(folder)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise DataError(f"Folder {folder} is no intact saved data set: {error}. Save it again.") from error
        splits = saved if isinstance(saved, Mapping) else {"train": saved}
        return _from_splits(folder.name, {str(k): _split(f"{folder} ({k})", v) for k, v in splits.items()}, evaluation)
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := _SPLIT_FILE.fullmatch(path.name):
            files.setdefault(match[1].lower(), []).append(path)
    if not files:
        raise DataError(
            f"Folder {folder} has no file named by its split, such as train.csv or validation.tsv.gz. Found: "
            f"{', '.join(sorted(path.name for path in folder.iterdir())[:10]) or 'nothing'}."
        )
    for split, paths in files.items():
        if len(paths) > 1 and not all("-of-" in path.name for path in paths):
            raise DataError(
                f"Folder {folder} has several files for {split}: {', '.join(path.name for path in paths)}. Keep one."
            )
    return _from_splits(folder.name, {split: _joined(paths) for split, paths in files.items()}, evaluation)


def _joined(paths: list[Path]) -> Part:
    parts = [read_file(path) for path in paths]
    return Part(str(paths[0]), datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0])


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
            f"({error}).{hint} Offline: pass {path}, or {field}={STDLIB_DOCSTRINGS!r}, which needs no download."
        ) from error
    except Exception as error:  # the hub client and each data set's own builder raise whatever they like
        raise DataError(
            f"{field}={name!r} is neither a file nor a folder here, and loading it from the Hugging Face hub "
            f"failed ({type(error).__name__}: {error}).{hint} Hub names are 'name' or 'name:config', such as "
            "'glue:sst2'."
        ) from error
    return _from_splits(name, {str(k): _split(f"{name} ({k})", v) for k, v in loaded.items()}, evaluation)


def _from_splits(name: str, splits: Mapping[str, Part | datasets.Dataset], preferred: str | None = None) -> Source:
    parts = {k: v if isinstance(v, Part) else Part(f"{name} ({k})", v) for k, v in splits.items()}
    if len(parts) == 1:
        return Source(name, tuple(parts.values()), ())
    if "train" not in parts:
        raise DataError(f"{name} has the splits {sorted(parts)} but no 'train'. Name the training split 'train'.")
    known = (split for start in _EVALUATION_SPLITS for split in sorted(parts) if split.startswith(start))
    chosen = preferred if preferred in parts else next(known, None)
    evaluation = parts[chosen] if chosen else None
    return Source(name, (parts["train"],), (evaluation,) if evaluation else ())


def _split(where: str, split: Any) -> Part:
    """Returns one split of a mapping, which is a data set or the path of one."""
    if isinstance(split, datasets.Dataset):
        return _part(where, split)
    if isinstance(split, str | Path):
        return Part(str(split), read_file(Path(split).expanduser()))
    raise DataError(f"{where} is a {type(split).__name__}. Give a datasets.Dataset (not streamed) or a path.")


def _part(where: str, dataset: datasets.Dataset) -> Part:
    if dataset.num_rows == 0:
        raise DataError(f"{where} has no rows. Give at least one, or leave it out.")
    return Part(where, dataset)
