"""Digests what is in files, so that a finished run is found again wherever its data and its model lie."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from declora.errors import ConfigError

__all__ = ["Contents"]


class Contents:
    """Digests files and folders; each is read once.

    Sizes and times would be quicker and are not enough: a file can be written again within the clock's resolution, and
    copies keep the times of other files.
    """

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Returns what `name` stands for: the digest of the file or folder of that path, else (on a hub) itself.

        A file is what is in it and how its name ends, which says its format; a folder is the names in it and the
        files; hidden ones are left out, as they hold neither data nor weights.

        Raises:
            ConfigError: A file cannot be read.
        """
        path = os.path.expanduser(name)
        if not os.path.exists(path):
            return name
        place = os.path.realpath(path)
        if place not in self._digests:
            try:
                self._digests[place] = _digest(Path(place))
            except OSError as error:
                raise ConfigError(f"{str(error.filename or name)!r} cannot be read: {error.strerror}.") from error
        return self._digests[place]


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, file in _files(path):
        with open(file, "rb") as content:
            inner = hashlib.file_digest(content, "sha256").hexdigest()
        digest.update(f"{name}\0{inner}\n".encode(errors="surrogateescape"))
    return f"content:{digest.hexdigest()}"


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Yields (name, file) of all files in a folder, sorted, links followed; of a file, its endings and itself."""
    if not path.is_dir():
        yield "".join(path.suffixes).lower(), path
        return
    seen = set()
    found = []
    for place, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        found += [] if real in seen else [Path(place) / name for name in files if not name.startswith(".")]
        seen.add(real)
    yield from sorted((file.relative_to(path).as_posix(), file) for file in found if file.is_file())
