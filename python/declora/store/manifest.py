"""The manifest of a checkpoint: the size and the checksum of each of its files, written last and checked first."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from declora.errors import cut
from declora.store.checkpoint import ABOUT, STATE, UnsoundCheckpoint
from declora.store.disk import read_file, write_file

__all__ = ["FILES", "MANIFEST", "check", "write"]

MANIFEST = "manifest.json"
FILES = (ABOUT, STATE)
"""The files that a manifest is about."""
_FORMAT, _VERSION = "declora-checkpoint", 1
_LONGEST = 2**16
"""Bytes of a manifest."""


def write(folder: Path) -> None:
    """Writes the manifest of what is in `folder`; it is on the disk when this returns.

    Raises:
        OSError: A file cannot be read, or the manifest not written.
    """
    write_file(folder / MANIFEST, _dump({name: _describe(folder / name) for name in FILES}))


def check(folder: Path) -> None:
    """Makes sure that a checkpoint's folder holds what was written into it, byte for byte.

    Raises:
        UnsoundCheckpoint: It does not; names the file and what is wrong with it.
    """
    try:
        _check(folder)
    except (OSError, ValueError, RecursionError) as error:
        raise UnsoundCheckpoint(f"it cannot be read: {cut(error).rstrip('.')}.") from error


def _check(folder: Path) -> None:
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise UnsoundCheckpoint("it is not a folder.")
    _check_names(folder)
    stored = read_file(folder / MANIFEST, most=_LONGEST)
    said = _parse(stored)
    for name in FILES:
        _check_file(folder / name, said.get(name))
    if stored != _dump(said):
        raise UnsoundCheckpoint(f"{MANIFEST} is not as it was written.")


def _check_names(folder: Path) -> None:
    found = {path.name: path.lstat().st_mode for path in folder.iterdir()}
    for name in (*FILES, MANIFEST):
        if name not in found:
            raise UnsoundCheckpoint(f"{name} is missing.")
        if not stat.S_ISREG(found[name]):
            raise UnsoundCheckpoint(f"{name} is not a file.")
    if added := sorted(found.keys() - {*FILES, MANIFEST}):
        raise UnsoundCheckpoint(f"{cut(added[0], 80)} does not belong there.")


def _check_file(path: Path, said: Any) -> None:
    size = path.stat().st_size
    if not isinstance(said, dict) or {name: type(value) for name, value in said.items()} != {
        "bytes": int,
        "sha256": str,
    }:
        raise UnsoundCheckpoint(f"{MANIFEST} does not say what {path.name} is.")
    if size != said["bytes"]:
        raise UnsoundCheckpoint(f"{path.name} has {size:,} bytes instead of {said['bytes']:,}.")
    if _describe(path) != said:
        raise UnsoundCheckpoint(f"{path.name} does not have the checksum that it was written with.")


def _parse(stored: bytes) -> dict[str, Any]:
    """Returns what a manifest says of each file, by name."""
    try:
        manifest = json.loads(stored)
    except ValueError as error:
        raise UnsoundCheckpoint(f"{MANIFEST} is not JSON.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise UnsoundCheckpoint(f"{MANIFEST} is not a checkpoint's.")
    if manifest.get("version") != _VERSION:
        raise UnsoundCheckpoint(
            f"{MANIFEST} is of version {cut(manifest.get('version'), 20)}; this declora reads version {_VERSION}."
        )
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise UnsoundCheckpoint(f"{MANIFEST} lists no files.")
    return files


def _describe(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _dump(files: dict[str, Any]) -> bytes:
    """Returns the one way in which a manifest is written."""
    manifest = {"format": _FORMAT, "version": _VERSION, "files": {name: files[name] for name in FILES}}
    return (json.dumps(manifest, indent=1) + "\n").encode()
