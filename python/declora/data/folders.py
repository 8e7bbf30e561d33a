"""Reads the splits in a folder: files named by split as on the Hugging Face hub, or what `save_to_disk` wrote."""

import re
from collections.abc import Mapping
from pathlib import Path

import datasets

from declora.data.display import listed
from declora.data.files import FORMATS, read_file
from declora.data.loaded import read_dataset
from declora.data.names import EVALUATION_SPLITS
from declora.data.parts import Part
from declora.errors import DataError, cut

__all__ = ["read_folder"]

# The hub's own files have a digest after their number in older data sets.
_SPLIT_FILE = re.compile(
    rf"(?P<split>train|{'|'.join(EVALUATION_SPLITS)})(-(?P<number>\d+)-of-(?P<count>\d+)(-[0-9a-f]{{16}})?)?"
    rf"\.(?P<format>{'|'.join(FORMATS)})(\.gz)?",
    re.I,
)


def read_folder(folder: Path) -> dict[str, Part]:
    """Returns the splits of a folder by name.

    Files are looked for in the folder itself, or else in its folder `data`; other files beside them are not read.

    Raises:
        DataError: There is no file of a split, several where one should be, one of a numbered set is missing, or one
            is damaged.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
        if {"dataset_dict.json", "state.json"} & set(names):
            return _saved(folder)
        files, inner = _split_files(folder), folder / "data"
        below = _split_files(inner) if inner.is_dir() else {}
        if files and below:
            raise DataError(
                f"Folder {cut(folder)} has files named by split, and so has its folder 'data'. Give the one that is "
                "meant."
            )
    except OSError as error:
        raise DataError(f"Folder {cut(folder)} cannot be read: {cut(error.strerror or error)}.") from error
    if not files and not below:
        raise DataError(
            f"Folder {cut(folder)} has no file named by its split, such as train.csv or validation.tsv.gz. Found: "
            f"{', '.join(cut(name, 60) for name in names[:10]) or 'nothing'}."
        )
    place = folder if files else inner
    return {split: _joined(place, split, found) for split, found in (files or below).items()}


def _saved(folder: Path) -> dict[str, Part]:
    try:
        saved = datasets.load_from_disk(folder)
    except Exception as error:  # whatever the damaged file makes of the reader
        raise DataError(
            f"Folder {cut(folder)} is no intact saved data set ({type(error).__name__}: {cut(error)}). Save it again."
        ) from error
    splits = saved if isinstance(saved, Mapping) else {"train": saved}
    return {str(split): read_dataset(f"{cut(folder)} ({split})", rows) for split, rows in splits.items()}


def _split_files(folder: Path) -> dict[str, list[re.Match[str]]]:
    """Returns the names of the files of each split, in the order of their numbers."""
    files: dict[str, list[re.Match[str]]] = {}
    for path in sorted(folder.iterdir()):
        if match := _SPLIT_FILE.fullmatch(path.name):
            files.setdefault(match["split"].lower(), []).append(match)
    return {split: sorted(names, key=lambda name: int(name["number"] or 0)) for split, names in files.items()}


def _joined(folder: Path, split: str, names: list[re.Match[str]]) -> Part:
    """Returns one split's file, or its numbered files in order."""
    numbered = [(int(name["number"]), int(name["count"])) for name in names if name["number"]]
    if len(names) > 1 and (len(numbered) < len(names) or len({name["format"].lower() for name in names}) > 1):
        raise DataError(
            f"Folder {cut(folder)} has several files for {split}: {', '.join(name[0] for name in names[:10])}. Keep "
            "one."
        )
    if numbered and numbered != [(i, len(numbered)) for i in range(len(numbered))]:
        raise DataError(
            f"Folder {cut(folder)} has {len(numbered)} of the {numbered[0][1]} files of {split} that their names count "
            f"({listed(name[0] for name in names)}). Copy or download the others, or remove what is left over."
        )
    parts = [read_file(folder / name[0]) for name in names]
    if len(parts) == 1:
        return parts[0]
    try:
        rows = datasets.concatenate_datasets([part.dataset for part in parts])
    except (ValueError, TypeError) as error:
        raise DataError(
            f"Folder {cut(folder)}: the files of {split} have different columns or types ({cut(error)}). Write them "
            "alike."
        ) from error
    return Part(f"{parts[0].where} and {len(parts) - 1} more", rows, tuple(n for part in parts for n in part.notes))
