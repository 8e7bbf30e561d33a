"""Files of clients, one each: named by a pattern or a table, so that each can be where only its client is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from declora.data.names import EVALUATION_SPLITS
from declora.errors import ConfigError, shown

__all__ = ["ClientFiles", "check_client_files", "client_files", "names_files"]

_CLIENT = re.compile(r"\{client(:\d{0,2}d?)?\}")
_SLIP = re.compile(r"\{\s*client[^{}]*\}", re.IGNORECASE)
"""What was meant to be one of these, once they are left out."""
_SPLIT = re.compile(rf"(train(ing)?|{'|'.join(EVALUATION_SPLITS)})([^a-z].*)?", re.IGNORECASE)
"""Names of what is no client, but a part of one data set."""
_NATURAL = (None, "natural", "given")


@dataclass(frozen=True)
class ClientFiles:
    """Files or folders of clients that follow each other.

    Attributes:
        places: A path each, or `TASK=PATH`.
        names: What the user calls each client; empty where clients have numbers alone.
        first: The number of the first client.
    """

    places: tuple[str, ...]
    names: tuple[str, ...] = ()
    first: int = 0

    def who(self, client: int) -> str:
        """Returns what to call a client."""
        return f"client {client}" + (f" ({shown(self.names[client - self.first])})" if self.names else "")

    def place(self, client: int) -> str:
        """Returns where a client's data is."""
        return self.places[client - self.first]

    def of(self, clients: slice) -> "ClientFiles":
        """Returns those of some of these clients, of whom the first has the number 0."""
        return replace(self, places=self.places[clients], names=self.names[clients], first=clients.start or 0)


def names_files(data: Any) -> bool:
    """Returns whether `data` names a file of each client: by a pattern with `{client}`, or by a table of paths."""
    if isinstance(data, str | Path):
        return _CLIENT.search(str(data)) is not None
    if not isinstance(data, Mapping) or len(data) < 2:
        return False
    return all(isinstance(place, str | Path) for place in data.values()) and not any(
        _SPLIT.fullmatch(str(name)) for name in data
    )


def client_files(data: Any, clients: int) -> ClientFiles | None:
    """Returns the files of all clients, None where `data` names none."""
    if not names_files(data):
        return None
    if isinstance(data, Mapping):
        return ClientFiles(tuple(map(str, data.values())), tuple(map(str, data)))
    return ClientFiles(tuple(_CLIENT.sub(partial(_number, client), str(data)) for client in range(clients)))


def _number(client: int, found: re.Match[str]) -> str:
    """Returns a client's number as a pattern has it."""
    return format(client, (found[1] or ":")[1:])


def check_client_files(data: Any, eval_data: Any, partition: Any, clients: int) -> None:
    """Checks settings that files of clients ask for, or do not go with.

    Raises:
        ConfigError: There are fewer or more files than clients, files to evaluate on of clients that have none to train
            on, or a partition that would move rows from one client to another; or a client's number is written as no
            pattern has it.
    """
    for name, place in (("data", data), ("eval_data", eval_data)):
        if isinstance(place, str | Path) and (slip := _SLIP.search(_CLIENT.sub("", str(place)))):
            raise ConfigError(
                f"{name}={shown(str(place))} has {slip[0]}, which stands for nothing. Write a client's number "
                "{client}, or {client:03} for 007."
            )
        if names_files(place) and isinstance(place, Mapping) and len(place) != clients:
            raise ConfigError(
                f"{name} names files of {len(place)} clients, but clients={clients}. Set clients={len(place)}."
            )
    if not names_files(data):
        if names_files(eval_data):
            raise ConfigError(
                f"eval_data={shown(eval_data if isinstance(eval_data, str) else str(eval_data))} names a file of each "
                "client, which data does not. Name one file for all, or a file of each client in data, too."
            )
        return
    both = isinstance(data, Mapping) and isinstance(eval_data, Mapping) and names_files(eval_data)
    if both and (odd := [name for name, other in zip(data, eval_data, strict=True) if name != other]):
        raise ConfigError(
            f"eval_data names other clients than data, or in another order: {shown(odd[0])} is not in its place. Give "
            "both tables the same names in the same order."
        )
    named = f"data={shown(data if isinstance(data, str) else str(data))} names a file of each client"
    if not (partition is None or (isinstance(partition, str) and partition in _NATURAL)):
        raise ConfigError(f"{named}, which partition={shown(partition)} would divide anew. Leave partition out.")
