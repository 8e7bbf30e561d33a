"""The manifest of a checkpoint: the size and the checksum of each of its files, written last and checked first."""

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from declora.errors import cut
from declora.store import sound
from declora.store.checkpoint import ABOUT, STATE
from declora.store.disk import read_file, write_file
from declora.store.shard import Shard
from declora.store.sound import UnsoundCheckpoint

__all__ = ["FILES", "MANIFEST", "check", "write"]

MANIFEST = "manifest.json"
FILES = (ABOUT, STATE)
"""The files that a manifest is about, beside shards."""
_FORMAT = "declora-checkpoint"
_VERSION, _VERSION_OF_SHARDS = 1, 2
_LONGEST = 2**20
"""Bytes of a manifest: of thousands of shards."""


def write(folder: Path, shards: Sequence[Shard] = ()) -> None:
    """Writes the manifest of what is in `folder`, and of shards; it is on the disk when this returns.

    Raises:
        OSError: A file cannot be read, or the manifest not written.
    """
    files = {name: sound.describe(folder / name) for name in FILES}
    write_file(folder / MANIFEST, _dump(files, {shard.name: shard.said for shard in shards}))


def check(folder: Path, event: int) -> tuple[Shard, ...]:
    """Makes sure that a checkpoint's folder holds what was written into it, byte for byte.

    Returns:
        The shards that belong to it, which are elsewhere.

    Raises:
        UnsoundCheckpoint: It does not; names the file and what is wrong with it.
    """
    try:
        return _check(folder, event)
    except (OSError, ValueError, RecursionError) as error:
        raise UnsoundCheckpoint(f"it cannot be read: {cut(error).rstrip('.')}.") from error


def _check(folder: Path, event: int) -> tuple[Shard, ...]:
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise UnsoundCheckpoint("it is not a folder.")
    _check_names(folder)
    stored = read_file(folder / MANIFEST, most=_LONGEST)
    files, others = _parse(stored)
    for name in FILES:
        sound.check(folder / name, _said(name, files.get(name)))
    shards = tuple(Shard(event, rank, **_said(name, said)) for rank, (name, said) in enumerate(others.items(), 1))
    if stored != _dump(files, {shard.name: shard.said for shard in shards}):
        raise UnsoundCheckpoint(f"{MANIFEST} is not as it was written.")
    return shards


def _check_names(folder: Path) -> None:
    found = {path.name for path in folder.iterdir()}
    if missing := [name for name in (*FILES, MANIFEST) if name not in found]:
        raise UnsoundCheckpoint(f"{missing[0]} is missing.")
    if not stat.S_ISREG((folder / MANIFEST).lstat().st_mode):
        raise UnsoundCheckpoint(f"{MANIFEST} is not a file.")
    if added := sorted(found - {*FILES, MANIFEST}):
        raise UnsoundCheckpoint(f"{cut(added[0], 80)} does not belong there.")


def _said(name: str, said: Any) -> dict[str, Any]:
    """Returns what a manifest says of a file."""
    wanted = {"bytes": int, "sha256": str}
    if not isinstance(said, dict) or {key: type(value) for key, value in said.items()} != wanted:
        raise UnsoundCheckpoint(f"{MANIFEST} does not say what {cut(name, 80)} is.")
    return said


def _parse(stored: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what a manifest says of each file, and of each shard, by name."""
    try:
        manifest = json.loads(stored)
    except ValueError as error:
        raise UnsoundCheckpoint(f"{MANIFEST} is not JSON.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise UnsoundCheckpoint(f"{MANIFEST} is not a checkpoint's.")
    if manifest.get("version") not in (_VERSION, _VERSION_OF_SHARDS):
        raise UnsoundCheckpoint(
            f"{MANIFEST} is of version {cut(manifest.get('version'), 20)}; this declora reads versions {_VERSION} and "
            f"{_VERSION_OF_SHARDS}."
        )
    files, shards = manifest.get("files"), manifest.get("shards", {})
    if not isinstance(files, dict) or not isinstance(shards, dict):
        raise UnsoundCheckpoint(f"{MANIFEST} lists no files.")
    return files, shards


def _dump(files: dict[str, Any], shards: dict[str, Any]) -> bytes:
    """Returns the one way in which a manifest is written: of a checkpoint without shards, as ever."""
    version = _VERSION_OF_SHARDS if shards else _VERSION
    listed = {"files": {name: files[name] for name in FILES}, **({"shards": shards} if shards else {})}
    return (json.dumps({"format": _FORMAT, "version": version, **listed}, indent=1) + "\n").encode()
