"""A file of a run folder that grows by a line a round, and catches up with what could not be written."""

from declora.report.run_folder import RunFolder

__all__ = ["LineFile"]


class LineFile:
    """Lines on their way into a file.

    Args:
        folder: of the run.
        name: of the file, which is not there, or is not of this log.
        lines: all that the file is to hold; whoever has the list may add to it.
    """

    def __init__(self, folder: RunFolder, name: str, lines: list[bytes]) -> None:
        self.name, self.lines = name, lines
        self._folder = folder
        self._written = 0

    @property
    def behind(self) -> int:
        """How many lines are not in the file yet."""
        return len(self.lines) - self._written

    def append(self) -> None:
        """Writes the last line, the only one that is not there.

        Raises:
            RunFolderError: it cannot be written, and the file is as before.
        """
        self._folder.append(self.name, self.lines[-1])
        self._written += 1

    def rewrite(self) -> None:
        """Writes the file anew, with all lines.

        Raises:
            RunFolderError: it cannot be written, and the file is as before.
        """
        self._folder.write_lines(self.name, self.lines)
        self._written = len(self.lines)
