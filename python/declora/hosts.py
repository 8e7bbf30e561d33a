"""Ranks that alone have the data of their clients: what they tell each other of it, and that one has failed."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from declora import process
from declora.cluster import hosts
from declora.config import SimulationConfig
from declora.data.client_files import ClientFiles, client_files
from declora.errors import ConfigError, DataError, DecloraError, cut

if TYPE_CHECKING:  # what reads data takes seconds to be loaded itself
    from declora.cluster import Cluster
    from declora.data import TextData

__all__ = ["Host", "host_of", "reading_of"]


class Host:
    """A rank that alone has the data of its clients.

    Ranks tell each other, through the first: which columns are read, which labels there are, and how many samples and
    tokens. One that fails while others are still to be told something tells them that, so that all end with it.

    Args:
        cluster: The ranks.
        files: Of all clients.
        config: The settings.
    """

    def __init__(self, cluster: "Cluster", files: ClientFiles, config: SimulationConfig) -> None:
        cluster.connect((), patience=config.peer_timeout)
        self._cluster, self._config, self._heard = cluster, config, False
        self.site = hosts(config.clients, cluster.ranks, group_size=config.group_size)[cluster.rank]
        self._files = files.of(self.site.rows)
        evaluation = client_files(config.eval_data, config.clients)
        self._read_here = [self._files, *([] if evaluation is None else [evaluation.of(self.site.rows)])]

    def tell(self, fact: object) -> list[Any]:
        """Returns what all ranks tell, by rank; all call it alike.

        Args:
            fact: What this one tells, as JSON can write it.

        Raises:
            DataError: A rank has failed; names it, its host, and the client and file where it is that.
            ConfigError: A rank is lost, or has all data.
        """
        self._heard = True  # of a failure that all hear of nobody is told
        said = self._cluster.share({"told": fact}, apart=True)
        if failed := [one["failed"] for one in said if "failed" in one]:
            raise DataError(" ".join(failed))
        self._heard = False
        return [one["told"] for one in said]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tells the others of a failure inside, once they are ready to hear it."""
        try:
            yield
        except DecloraError as error:
            if not self._heard:
                self._heard = True
                with suppress(ConfigError):  # of a rank that has ended itself
                    self._cluster.share({"failed": self._about(error)}, apart=True)
            raise

    def _about(self, error: DecloraError) -> str:
        """Returns what others hear of a failure: nothing of what is in the data, which the error may show."""
        where = f"rank {self._cluster.rank} ({socket.gethostname()})"
        for client in self.site.ids.tolist():
            if re.search(rf"\b(client {client}|(eval_)?data\[{client}\])(?!\d)", str(error)):
                places = [files.place(client) for files in self._read_here]
                place = next((one for one in places if one.rpartition("=")[2] in str(error)), places[0])
                there = os.path.exists(os.path.expanduser(place.rpartition("=")[2]))
                what = "cannot be used" if there else "is not there"
                return f"The data of {self._files.who(client)}, {cut(place)!r}, {what}: {where} says more."
        clients = f"clients {self.site.start} to {self.site.stop - 1}"
        return f"{where} with {clients} could not begin ({type(error).__name__}); its own output says why."

    def read(self) -> "TextData":
        """Returns the data of the clients here, with the columns of the first client and the classes of all.

        Raises:
            DataError: As `data.load`, or another rank has failed.
        """
        from declora.data.columns import Columns
        from declora.data.labels import Found
        from declora.data.loading import Reading

        with process.alone():
            reading = Reading(self._files, **reading_of(self._config, self.site.rows))
            chosen = asdict(reading.choose()) if self._cluster.rank == 0 else None
        found = self.tell(chosen)[0]
        columns = Columns(**{**found, "texts": tuple(found["texts"])})
        with process.alone():
            own = reading.check(columns, told=True)
        everywhere = [
            Found(
                {where: tuple(labels) for where, labels in one["labels"].items()},
                one["rows"],
                None if one["declared"] is None else tuple(one["declared"]),
            )
            for one in self.tell(asdict(own))
        ]
        with process.alone():
            text = reading.text(columns, everywhere)
        return replace(text, name=f"{self._config.clients} data sets")


def reading_of(config: SimulationConfig, clients: slice = slice(None)) -> dict[str, Any]:
    """Returns what is said of the data beside where it is, as `data.load` takes it.

    Args:
        config: The settings.
        clients: Those whose files are here.
    """
    names = ("task", "text_columns", "label_column", "completion_column", "prompt_template", "eval_fraction", "seed")
    own = client_files(config.eval_data, config.clients)
    evaluation = config.eval_data if own is None else own.of(clients)
    return {"eval_data": evaluation, **{name: getattr(config, name) for name in names}}


def host_of(config: SimulationConfig, cluster: "Cluster | None" = None) -> Host | None:
    """Returns this rank where each has data of its own; None where all data is here.

    Args:
        config: The settings.
        cluster: The ranks; None: those that this process was started with.

    Raises:
        ConfigError: There are too few clients for the ranks, or these cannot be reached.
    """
    from declora.cluster import of_environment  # loads torch

    files = client_files(config.data, config.clients)
    if files is None or (cluster := cluster or of_environment()) is None:
        return None
    return Host(cluster, files, config)
