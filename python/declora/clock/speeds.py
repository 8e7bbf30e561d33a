"""How fast clients and links are: drawn around a median, or read from a file."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from declora import seeds
from declora.errors import ConfigError, shown

__all__ = ["Drawn", "Speeds", "Traced"]


class Speeds(ABC):
    """How fast clients compute, and links carry, all the run long."""

    @abstractmethod
    def steps(self, clients: int) -> NDArray[np.float64]:
        """Returns the seconds of one local step of each client, `[clients]`."""

    @abstractmethod
    def latency(self, edges: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns after how many seconds a message begins to arrive along each of `edges [E, 2]`, `[E]`."""

    @abstractmethod
    def bandwidth(self, edges: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns the bytes that come in a second along each of `edges [E, 2]`, `[E]`."""


class Drawn(Speeds):
    """Log-normal around a median: exp(spread n) times it, with n normal, drawn for each client and for each link.

    Both directions of a link are alike. What is drawn for a client or a link depends on the seed and its numbers alone.

    Args:
        step: Median seconds of a local step.
        spread: Of clients; 0: all are alike.
        latency: Median seconds of a link.
        bandwidth: Median bytes in a second of a link.
        links: Spread of links.
        seed: The run's.
    """

    def __init__(
        self, step: float, spread: float, latency: float, bandwidth: float, links: float, *, seed: int
    ) -> None:
        self._step, self._spread = step, spread
        self._latency, self._bandwidth, self._links = latency, bandwidth, links
        self._seed = seed

    def steps(self, clients: int) -> NDArray[np.float64]:
        """Returns the seconds of one local step of each client, `[clients]`."""
        return self._around(self._step, self._spread, "step", np.arange(clients))

    def latency(self, edges: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns after how many seconds a message begins to arrive along each of `edges [E, 2]`, `[E]`."""
        return self._around(self._latency, self._links, "latency", _link(edges))

    def bandwidth(self, edges: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns the bytes that come in a second along each of `edges [E, 2]`, `[E]`."""
        return self._around(self._bandwidth, self._links, "bandwidth", _link(edges))

    def _around(self, median: float, spread: float, what: str, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        if spread == 0:
            return np.full(len(numbers), median)
        from scipy.special import ndtri

        return median * np.exp(spread * ndtri(_uniform(seeds.derive(self._seed, "clock", what), numbers)))


class Traced(Speeds):
    """Read from a CSV file with a line for each client: `client,step,latency,bandwidth`.

    Latency and bandwidth are those of a client's own link to a network that is faster than all of them: a message takes
    the latencies of both ends, at the lower of their bandwidths.

    Args:
        path: Of the file.

    Raises:
        ConfigError: It cannot be read, lacks a column or a client, or has a number that is none or out of range.
    """

    _LEAST: ClassVar[dict[str, float]] = {"step": 0.0, "latency": 0.0, "bandwidth": np.finfo(np.float64).tiny}

    def __init__(self, path: str) -> None:
        import pandas as pd

        self._path = path
        try:
            table = pd.read_csv(Path(path).expanduser())
        except (OSError, ValueError, pd.errors.ParserError) as error:
            raise ConfigError(f"clock: {shown(path)} cannot be read: {error}. Give a CSV file.") from error
        if missing := [name for name in ("client", *self._LEAST) if name not in table]:
            raise ConfigError(f"clock: {shown(path)} has no column {missing[0]!r}. Its header must be {self._header}.")
        table = table.sort_values("client", kind="stable")
        if table["client"].tolist() != list(range(len(table))):
            raise ConfigError(f"clock: {shown(path)} must have one line for each of the clients 0, 1, ...")
        for name, least in self._LEAST.items():
            values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
            if (odd := np.flatnonzero(~(np.isfinite(values) & (values >= least)))).size:
                value = shown(str(table[name].iloc[odd[0]]))
                raise ConfigError(
                    f"clock: {shown(path)} has {name}={value} for client {odd[0]}; it must be a number "
                    f"{'above' if least else 'of at least'} 0."
                )
            setattr(self, f"_{name}", values)

    _step: NDArray[np.float64]
    _latency: NDArray[np.float64]
    _bandwidth: NDArray[np.float64]

    @property
    def _header(self) -> str:
        return "client," + ",".join(self._LEAST)

    def steps(self, clients: int) -> NDArray[np.float64]:
        """Returns the seconds of one local step of each client, `[clients]`.

        Raises:
            ConfigError: The file is of another number of clients.
        """
        if len(self._step) != clients:
            raise ConfigError(
                f"clock: {shown(self._path)} has {len(self._step)} clients, but clients={clients}. Give each a line."
            )
        return self._step

    def latency(self, edges: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns the sum of both ends' seconds, `[E]`."""
        found: NDArray[np.float64] = self._latency[edges].sum(axis=1)
        return found

    def bandwidth(self, edges: NDArray[np.int32]) -> NDArray[np.float64]:
        """Returns the lower of both ends' bytes in a second, `[E]`."""
        found: NDArray[np.float64] = self._bandwidth[edges].min(axis=1)
        return found


def _link(edges: NDArray[np.int32]) -> NDArray[np.int64]:
    """Returns a number for each link that both of its directions have, int64 `[E]`."""
    low, high = np.sort(edges, axis=1).T.astype(np.int64)
    numbers: NDArray[np.int64] = (low << np.int64(32)) | high
    return numbers


def _uniform(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns a number in (0, 1) for each of `numbers`, by SplitMix64 (Steele et al. 2014) of seed and number."""
    with np.errstate(over="ignore"):
        z = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(seed)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
