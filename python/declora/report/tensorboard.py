"""Writes the history as TensorBoard scalars, one step per round; needs the package `tensorboard`."""

import os
from collections.abc import Mapping

from declora.errors import ConfigError
from declora.report.records import finite

__all__ = ["TensorBoardLog", "tag"]

_WHO = ("average", "clients")


class TensorBoardLog:
    """Writes each round's numbers to an event file, grouped so that curves to compare share a card.

    Args:
        folder: where the event file goes; made if absent.
        after: the round after which a run goes on: what earlier event files hold of later ones is not shown.

    Raises:
        ConfigError: the package `tensorboard` is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, after: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"tensorboard={os.fspath(folder)!r} needs the package tensorboard: pip install tensorboard"
            ) from error
        self._writer = SummaryWriter(os.fspath(folder), purge_step=None if after is None else after + 1)

    def log(self, record: Mapping[str, object]) -> None:
        """Writes a row of the history at step `record["round"]`; what is no finite number is left out."""
        step = int(record["round"])  # type: ignore[call-overload]
        for name, value in record.items():
            number = finite(value)
            if name != "round" and number is not None:
                self._writer.add_scalar(tag(name), number, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def tag(name: str) -> str:
    """Returns the tag of a column: the measure, then whose: `average_accuracy` gives `accuracy/average`."""
    first, _, rest = name.partition("_")
    if first in _WHO and rest:
        measure, _, statistic = rest.partition("_")
        return f"{measure}/{first}_{statistic}" if statistic else f"{measure}/{first}"
    if name == "train_loss":
        return "loss/train"
    if first in ("bytes", "seconds") and rest:
        return f"{first}/{rest}"
    return name
